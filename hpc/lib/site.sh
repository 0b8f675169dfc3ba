# shellcheck shell=bash
# Facts about the cluster: from the live cluster, and from the profile of the site.

declare -gA site+=()  # facts of the profile; site::define_facts lists them
declare -gA slurm+=() # parts of `scontrol show config` that site::query reads
declare -gA options_kind+=() site_kind+=() site_default+=() site_help+=()
declare -ga site_facts+=()
declare -g site_profile='' site_clusters='' # the file of the profile; the folder of the kit's own profiles, on which a profile may build

# site::define_facts   Defines the facts that a profile may set, besides the options of job_submitter.sh. clusters/default.sh and
# the table of clusters/README.md agree with it (tests/unit/profiles.bats). A fact that has a default cannot be empty.
site::define_facts() {
  site_facts=()
  site::fact scratch folder '' "the folder that all nodes share, if SCRATCH is not set: a path, or \$NAME for a variable of the site"
  site::fact node_local_directory folder /tmp "where a job may create a folder on the node's own disk, if Slurm creates none: a path, or \$NAME for a variable of the job"
  site::fact local_disk_request disk '' 'what a job must request to get that disk: constraint=NAME, gres=NAME:AMOUNT, tmp=AMOUNT'
  site::fact modules text '' 'modules to load on each node'
  site::fact environment path '' "a virtual or conda environment to use, in place of the project's own"
  site::fact internet 'choice yes no proxy' '' 'whether compute nodes reach the internet'
  site::fact gpu_request 'choice gpus_per_node gres constraint partition none' gpus_per_node 'how GPUs are requested; the last three request no number'
  site::fact gpu_type_request 'choice type constraint partition none' '' 'what --gpu-type becomes (default: as gpu_request, else the type before the number)'
  site::fact gpus_per_node positive '' "GPUs of a node, to turn the GPUs of an .isc file into nodes (default: what sinfo shows)"
  site::fact gpu_counts counts '' "GPUs per node that a job may request: '1 4', or by type 'h100:4 h200:8'"
  site::fact memory_request 'choice mem mem_per_gpu mem_per_cpu zero none' mem 'how memory is requested; zero: --mem=0, all of a node; none: not at all'
  site::fact whole_nodes 'choice yes no' no 'a job gets whole nodes, and pays for them'
  site::fact usable_cpus positive '' 'cores of a node that jobs may use, if not all (56 of 64)'
  site::fact threads_per_core 'choice nomultithread 2 4 8' '' 'nomultithread: --hint=nomultithread; a number: Slurm counts that many hardware threads per core of --cpus'
  site::fact quanta quanta '' "CPUs and memory per GPU, and what happens to a larger request: '18 120G billed' or '18 120G refused'"
  site::fact time_minimum duration '' 'the shortest --time that is accepted'
  site::fact time_maximum limits '' "the longest --time that is accepted; by nodes '91:2:00:00 183:6:00:00': up to 91 nodes, up to 183"
  site::fact qos_by_nodes qualities '' "the QOS of a job without --qos, by its nodes: '2:wide 65:huge' from 2 and from 65 nodes"
  site::fact max_submit positive '' 'jobs that a user may have queued and running; each task of an array counts'
  site::fact required options '' 'options that are required there, by name: account partition'
  site::fact forbidden options '' 'options that are not allowed there'
  site::fact ignored options '' 'options that have no effect there: omitted, with a note to the user'
  site::fact interface words '' 'network interface of the nodes for NCCL and gloo, such as ib0 or hsn0'
  site::fact head_address address '' "address of the first node for the others: suffix=i (its host name and an i), or interface=ib0 (that interface's address)"
  site::fact requeue 'choice requeue continue' requeue 'how a job is restarted: by scontrol requeue, or, if that is refused, by a new job that continues it'
  site::fact sbatch_on_nodes 'choice yes no' yes 'whether a job may submit a job'
}

# site::fact NAME KIND DEFAULT HELP   Adds a row to the table. KIND is a kind of site::accept.
site::fact() {
  site_facts+=("$1")
  site_kind[$1]=$2
  site_default[$1]=$3
  site_help[$1]=$4
}

# Keeps the user's own defaults in SBATCH_ACCOUNT and similar variables. Call it before site::leave_enclosing_job.
site::take_sbatch_defaults() {
  local name theirs ours
  for name in ACCOUNT PARTITION QOS CONSTRAINT RESERVATION; do
    theirs=SBATCH_$name ours=HPC_$name
    if [[ -n ${!theirs:-} && -z ${!ours:-} ]]; then printf -v "$ours" '%s' "${!theirs}"; fi
  done
}

# If this runs inside a job, unsets what Slurm has set for that job, because the next job would inherit it. Also unsets what
# users have set to change the output of sinfo and squeue: the kit needs the full output.
site::leave_enclosing_job() {
  local name
  for name in "${!SLURM_@}" "${!SBATCH_@}" "${!SRUN_@}" "${!PMI@}" "${!SINFO_@}" "${!SQUEUE_@}"; do
    if [[ $name != SLURM_CONF ]]; then unset "$name"; fi
  done
}

# site::query VARIABLE   Fills slurm. Status 1 if the controller does not answer; VARIABLE then holds the reason.
site::query() {
  local answer name
  common::has_command sbatch ||
    common::die "no sbatch on this machine: run this on a login node of a Slurm cluster, or start one here: bash hpc/pocket_cluster.sh up"
  if ! slurm::ask answer 10 scontrol show config; then
    printf -v "$1" '%s' "Slurm does not answer${answer:+ ($answer)}: is the cluster up?${POCKET_CLUSTER_DIR:+ The pocket cluster tells with  bash hpc/pocket_cluster.sh status}"
    return 1
  fi
  for name in ClusterName MaxArraySize AccountingStorageType KillWait JobRequeue PreemptType MaxJobCount SLURM_VERSION; do
    if [[ $answer =~ (^|$'\n')"$name"\ *=\ ([^$'\n']+) ]]; then slurm[$name]=${BASH_REMATCH[2]}; fi
  done
}

# site::folders ARRAY HPC_FOLDER   Sets ARRAY to the folders of profiles; the first that has a profile wins. They are the user's own, those
# of the site's administrators (/etc/xdg, or what XDG_CONFIG_DIRS lists), and last the kit's.
site::folders() {
  local -n site_list=$1
  local -a site_theirs=()
  IFS=: read -ra site_theirs <<<"${XDG_CONFIG_DIRS:-/etc/xdg}"
  site_list=("${XDG_CONFIG_HOME:-$HOME/.config}" "${site_theirs[@]}")
  site_list=("${site_list[@]/%//hpc_kit/clusters}" "$2/clusters")
}

# site::load HPC_FOLDER [NAME]   Loads the default profile, then that of this site, which sets only the differences. NAME chooses the
# profile, else Slurm's name of the cluster, else the profile whose hosts match this one.
site::load() {
  local -a folders=()
  local name=${2:-} folder profile
  site::folders folders "$1"
  if [[ -z $name ]]; then site::name name "${folders[@]}"; fi
  site[name]=$name
  for folder in "${folders[@]}"; do
    if [[ $name == */* || ! -r $folder/$name.sh ]]; then continue; fi
    site::load_from "$1" "$folder/$name.sh"
    return
  done
  local known=''
  for folder in "${folders[@]:${#folders[@]}-1}" "${folders[@]::${#folders[@]}-1}"; do
    for profile in "$folder"/*.sh; do
      if [[ -r $profile ]]; then profile=${profile##*/} known+=" ${profile%.sh}"; fi
    done
  done
  common::die_usage "--cluster ${name@Q}: no such profile: there are$known; your own go to ${folders[0]}"
}

# site::load_from HPC_FOLDER PROFILE   Loads the default profile, then PROFILE.
site::load_from() {
  site_clusters=$1/clusters site_profile=$2
  # shellcheck source=../clusters/default.sh
  source "$1/clusters/default.sh"
  if [[ $2 == "$1/clusters/default.sh" ]]; then return; fi
  site::try "$1/clusters/default.sh" "$2"
  # shellcheck source=/dev/null
  source "$2"
}

# site::try DEFAULT PROFILE   Exits with status 2 if bash does not reach the end of PROFILE. It runs in a separate shell, because an
# `exit`, an unknown command or an unset variable would end this shell without a message about what to do.
site::try() {
  local -a site_words=()
  mapfile -t site_words < <(
    exec 2>&1
    set -euo pipefail
    # shellcheck source=../clusters/default.sh
    source "$1"
    # shellcheck source=/dev/null
    source "$2"
    printf '\nloaded\n'
  )
  if ((${#site_words[@]} > 0)) && [[ ${site_words[-1]} == loaded ]]; then return; fi
  local site_said
  printf -v site_said '%s; ' "${site_words[@]//"$2: "/}"
  site_said=${site_said%; }
  common::die_usage "the profile $2 does not load (correct it; its lines are site[NAME]=VALUE, with quotes around a value that has spaces): ${site_said:-it ends before its last line, by an exit or a command that fails}"
}

# site::check OPTION...   Call it after site::load. Exits with status 2 at a name that is neither a fact nor one of these options, or
# at a value that is not of its kind.
site::check() {
  local name where
  site::define_facts
  for name in "${!site[@]}"; do
    if [[ $name == name || -n ${site_kind[$name]:-} && ${site[$name]} == "${site_default[$name]}" ]]; then continue; fi
    site::where where "$name"
    if [[ -n ${site_kind[$name]:-} ]]; then
      site::check_fact "$name" "$where: site[$name]" "$@"
    elif [[ " $* " != *" $name "* ]]; then
      site::die_unknown "$where: site[$name]" "$name" "$@"
    elif [[ ${options_kind[$name]} == list ]]; then
      common::die_usage "$where: site[$name]: a list cannot be said in a profile: give --${name//_/-} on the command line"
    elif [[ -n ${site[$name]} && ${options_kind[$name]} != flag ]]; then
      checks::accept "${options_kind[$name]}" "${site[$name]}" "$where: site[$name]"
    fi
  done
}

# site::check_fact NAME WHAT OPTION...
site::check_fact() {
  if [[ -n ${site[$1]} ]]; then
    site::accept "${site_kind[$1]}" "${site[$1]}" "${@:2}"
  elif [[ -n ${site_default[$1]} ]]; then
    common::die_usage "$2 is empty, and is needed: write a value, or remove the line (then it is ${site_default[$1]})"
  fi
}

# site::die_unknown WHAT NAME OPTION...   Reports that NAME is neither a fact nor one of these options.
site::die_unknown() {
  local nearest
  nearest=$(options::nearest "$2" "${site_facts[@]}" "${@:3}" 2>/dev/null) || nearest=''
  common::die_usage "$1: no such fact or option${nearest:+: did you mean $nearest?} hpc/clusters/README.md lists them"
}

# site::accept KIND VALUE WHAT OPTION...   Like checks::accept, with the kinds that only facts have.
site::accept() {
  local -r kind=$1 value=$2 what=$3
  local word wrong=''
  local -a words=()
  read -ra words <<<"$value"
  case $kind in
    folder)
      [[ $value == /* || $value =~ ^\$[A-Za-z_][A-Za-z0-9_]*$ ]] ||
        common::die_usage "$what: ${value@Q} is neither an absolute path nor the name of a variable: write /scratch-ssd or '\$NAME'"
      ;;
    disk)
      for word in "${words[@]}"; do [[ $word =~ ^(constraint|gres|tmp)=[^,[:space:]]+$ ]] || wrong=$word; done
      [[ -z $wrong ]] || common::die_usage "$what: ${wrong@Q} is no request for a disk: write constraint=nvme, gres=tmpfs:10g or tmp=100G"
      ;;
    counts)
      for word in "${words[@]}"; do [[ $word =~ ^([A-Za-z0-9_.-]+:)?[1-9][0-9]{0,3}$ ]] || wrong=$word; done
      [[ -z $wrong ]] || common::die_usage "$what: ${wrong@Q} is no number of GPUs: write '1 4', or by type 'h100:4 h200:8'"
      ;;
    quanta)
      [[ $value =~ ^[1-9][0-9]*\ [1-9][0-9]*[MGT]\ (billed|refused)$ ]] ||
        common::die_usage "$what: ${value@Q} is not CPUS MEMORY billed|refused, for each GPU: write '18 120G billed'"
      ;;
    qualities)
      for word in "${words[@]}"; do [[ $word =~ ^[1-9][0-9]{0,5}:[^:,[:space:]]+$ ]] || wrong=$word; done
      [[ -z $wrong ]] || common::die_usage "$what: ${wrong@Q} is not NODES:QOS: write '2:wide 65:huge' (QOS wide for 2 nodes or more, huge for 65 or more)"
      ;;
    limits)
      for word in "${words[@]}"; do site::read_limit "$word" >/dev/null || wrong=$word; done
      [[ -z $wrong ]] || common::die_usage "$what: ${wrong@Q} is no limit: write a time (2-00:00:00), or NODES:TIME (91:2:00:00)"
      ;;
    options)
      for word in "${words[@]}"; do
        if [[ " ${*:4} " != *" $word "* ]]; then site::die_unknown "$what: ${word@Q}" "$word" "${@:4}"; fi
      done
      ;;
    words) [[ $value =~ ^[A-Za-z0-9_.,=^-]+$ ]] || common::die_usage "$what: ${value@Q} is no name of an interface: write ib0, or hsn0,hsn1" ;;
    address)
      [[ $value =~ ^(suffix|interface)=[A-Za-z0-9_.-]+$ ]] ||
        common::die_usage "$what: ${value@Q} is no way to an address: write suffix=i, or interface=ib0"
      ;;
    *) checks::accept "$kind" "$value" "$what" ;;
  esac
}

# site::read_limit WORD   Prints the number of nodes up to which a time limit holds (0: any number), and its seconds. Status 1 if
# WORD is not a limit. 4:30 is a time; the time in NODES:TIME has hours, minutes and seconds, or days.
site::read_limit() {
  local nodes=0 time=$1
  if [[ $1 =~ ^([0-9]+):([0-9]+:[0-9]+:[0-9]+|[0-9]+-.+)$ ]]; then nodes=${BASH_REMATCH[1]} time=${BASH_REMATCH[2]}; fi
  time=$(checks::seconds "$time") && printf '%s %s\n' "$nodes" "$time"
}

# site::where VARIABLE NAME [RULE]   Sets VARIABLE to FILE:LINE of the profile where site[NAME] is set last, and RULE to the comment
# after it. If the profile builds on another profile, that file is searched too.
site::where() {
  local -r site_pattern="^site\[$2\]=[^#]*(# *(.*))?$"
  local site_file=$site_profile site_next site_line
  local -i site_number
  printf -v "$1" '%s' "$site_profile"
  if [[ -n ${3:-} ]]; then printf -v "$3" '%s' ''; fi
  while [[ -n $site_file ]]; do
    site_number=0 site_next=''
    while IFS= read -r site_line; do
      site_number+=1
      if [[ $site_line =~ ^source\ \"\$site_clusters/([a-z_]+\.sh)\"$ ]]; then site_next=$site_clusters/${BASH_REMATCH[1]}; fi
      if [[ $site_line =~ $site_pattern ]]; then
        printf -v "$1" '%s' "$site_file:$site_number"
        site_next=''
        if [[ -n ${3:-} ]]; then printf -v "$3" '%s' "${BASH_REMATCH[2]}"; fi
      fi
    done <"$site_file"
    site_file=$site_next
  done
}

# site::expand VARIABLE VALUE   Sets VARIABLE to VALUE, a path. A VALUE of $NAME stands for the value of that variable here, or nothing.
site::expand() {
  local -r site_name=${2#\$}
  if [[ $2 == \$* ]]; then printf -v "$1" '%s' "${!site_name:-}"; else printf -v "$1" '%s' "$2"; fi
}

# site::scratch VARIABLE   Sets VARIABLE to the folder that all nodes share: SCRATCH of the environment, else the profile's.
site::scratch() {
  if [[ -n ${SCRATCH:-} ]]; then printf -v "$1" '%s' "$SCRATCH"; else site::expand "$1" "${site[scratch]}"; fi
}

# site::no_scratch VARIABLE   If site::scratch finds no folder: sets VARIABLE to the reason, and what to do.
site::no_scratch() {
  local scratch_line
  if [[ ${site[scratch]} == \$* ]]; then
    site::where scratch_line scratch
    printf -v "$1" '%s' "neither SCRATCH is set nor ${site[scratch]#\$}, which $scratch_line names (site[scratch]='${site[scratch]}'): correct the name there, or export the variable in ~/.bashrc"
  else
    printf -v "$1" '%s' "SCRATCH is not set: add to ~/.bashrc the folder that all nodes share, such as  export SCRATCH=/scratch/\$USER  (or say it in a profile: site[scratch])"
  fi
}

# site::add_memory ARGV REQUEST MEGABYTES CPUS GPUS   Adds options for MEGABYTES of memory on a node where the job has CPUS and GPUS.
# REQUEST is a value of site[memory_request]; 0 megabytes mean all memory. A job without GPUs cannot ask for memory per GPU.
site::add_memory() {
  local -n site_argv=$1
  local -ir site_all=$3 site_cpus=$4 site_gpus=$5
  if [[ $2 == none ]]; then return; fi
  if [[ $2 == zero ]] || ((site_all == 0)); then
    site_argv+=(--mem=0)
  elif [[ $2 == mem_per_cpu ]]; then
    site_argv+=(--mem-per-cpu="$(((site_all + site_cpus - 1) / site_cpus))M")
  elif [[ $2 == mem_per_gpu ]] && ((site_gpus > 0)); then
    site_argv+=(--mem-per-gpu="$(((site_all + site_gpus - 1) / site_gpus))M")
  else
    site_argv+=(--mem="${site_all}M")
  fi
}

# site::gpu_option VARIABLE GPUS TYPE   Sets VARIABLE to the option that asks for GPUS on each node. It is empty if the site has no option
# for their number. TYPE may be empty.
site::gpu_option() {
  local site_type=${3:+$3:}
  if [[ ${site[gpu_type_request]:-type} != type ]]; then site_type=''; fi
  case ${site[gpu_request]:-} in
    constraint | partition | none) printf -v "$1" '%s' '' ;;
    gres) printf -v "$1" '%s' "--gres=gpu:$site_type$2" ;;
    *) printf -v "$1" '%s' "--gpus-per-node=$site_type$2" ;;
  esac
}

# site::name VARIABLE FOLDER...   Sets VARIABLE to the name of this site's profile, chosen from the folders.
site::name() {
  local -r site_cluster=${slurm[ClusterName]:-}
  local site_folder site_host site_file site_text site_pattern
  local -a site_files=() site_patterns
  printf -v "$1" '%s' "$site_cluster"
  for site_folder in "${@:2}"; do
    if [[ -n $site_cluster && -r $site_folder/$site_cluster.sh ]]; then return; fi
    site_files+=("$site_folder"/*.sh)
  done
  site_host=$(uname -n)
  for site_file in "${site_files[@]}"; do
    if [[ ! -r $site_file ]]; then continue; fi
    LC_ALL=C IFS= read -r -d '' site_text <"$site_file" || true # there is no NUL: it reads up to the end
    if [[ ! $site_text =~ (^|$'\n')'# hosts: '([^$'\n']*) ]]; then continue; fi
    read -ra site_patterns <<<"${BASH_REMATCH[2]}"
    for site_pattern in "${site_patterns[@]}"; do
      if [[ $site_host == @($site_pattern) ]]; then
        site_file=${site_file##*/}
        printf -v "$1" '%s' "${site_file%.sh}"
        return
      fi
    done
  done
  printf -v "$1" default
}

# site::outputs VARIABLE PROJECT   Sets VARIABLE to the folder of the run directories. It uses SCRATCH of the environment, else of the
# project's .env, else of the site's profile, like the submitter.
site::outputs() {
  dotenv::each "$2/.env" secrets::take_setting
  site::load "$2/hpc" "${HPC_CLUSTER:-}"
  local scratch why
  site::scratch scratch
  if [[ -z $scratch && -z ${HPC_CLUSTER:-} ]] && common::has_command sbatch && site::query why; then
    site::load "$2/hpc" # the profile that Slurm's name for the cluster chooses
    site::scratch scratch
  fi
  if [[ -z $scratch ]]; then
    site::no_scratch why
    common::die "$why; a run directory can be named without it"
  fi
  printf -v "$1" '%s' "${scratch%/}/${2##*/}/hpc_outputs"
}
