# shellcheck shell=bash
# doctor.sh --profile: writes a first profile for a new site from its Slurm, the login environment and at most fourteen calls of
# `sbatch --test-only`; it sends no job. If the site accepts several ways to ask for something, the first one tried is used.

declare -gA options_value slurm
declare -ga probe_profile_lines+=()   # the lines of the profile
declare -ga probe_profile_unknown+=() # facts that were not found out
declare -ga probe_profile_place+=()   # account, partition, QOS, constraint and reservation of each try
declare -g probe_profile_script probe_profile_said=''
declare -gi probe_profile_left=14 # tries that are left

# probe_profile::print HPC_FOLDER [NAME]   Prints the profile, or writes it as the user's own profile NAME, which must not exist yet.
probe_profile::print() {
  local file=''
  probe_profile_script=$1/doctor/doctor_node.sh
  if [[ -n ${2:-} ]]; then
    file=${XDG_CONFIG_HOME:-$HOME/.config}/hpc_kit/clusters/$2.sh
    [[ ! -e $file ]] || common::die "there is ${file@Q} already: rename it first, or call this without the NAME to print the profile here"
    mkdir -p -- "${file%/*}" || common::die "cannot make ${file%/*}: see above"
  fi
  probe_profile::scratch
  probe_profile::slurm
  if [[ -z $file ]]; then
    probe_profile::show
    return
  fi
  probe_profile::show | common::write_atomically "$file"
  common::note "$file: read it, correct it, and try it:  bash hpc/doctor.sh --cluster ${2@Q}"
}

probe_profile::show() {
  local line
  printf '# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh\n'
  printf '# A first profile of %s (Slurm %s), by doctor.sh --profile on %(%F)T. Read it: a line with # in front is a guess.\n' \
    "${slurm[ClusterName]:-this cluster}" "${slurm[SLURM_VERSION]:-of unknown version}" -1
  printf '# hpc/clusters/README.md lists all facts.\n\n'
  printf '%s\n' "${probe_profile_lines[@]}"
  printf '\n# Not found out:\n'
  for line in "${probe_profile_unknown[@]}" \
    'internet, node_local_directory, modules: bash hpc/doctor.sh (without --profile) sends a job that looks' \
    'interface, head_address: ip -brief address on a node; only several nodes need them' \
    'gpu_counts, quanta, usable_cpus, time_minimum: the pages of the site'; do
    printf '#   %s\n' "$line"
  done
}

probe_profile::add() {
  probe_profile_lines+=("$1")
}

# If SCRATCH is not set, suggests similar variables of the login shell: first the usual names, then variables whose name or value
# has "scratch", then those with "work", "project" and the like. The first one becomes a fact.
probe_profile::scratch() {
  local name words found=' '
  if [[ -n ${SCRATCH:-} ]]; then
    probe_profile::add "# SCRATCH is set here: $SCRATCH"
    return
  fi
  for name in PSCRATCH SCRATCHDIR SCRATCH_DIR GSCRATCH MYSCRATCH CSCRATCH FAST WORK WORKDIR; do probe_profile::add_scratch "$name"; done
  for words in '*scratch*' '*@(scratch|work|fast|project|lustre)*'; do
    while IFS= read -r name; do
      if [[ ${name,,}=${!name,,} == @($words) ]]; then probe_profile::add_scratch "$name"; fi
    done < <(compgen -e | LC_ALL=C sort)
  done
  if [[ $found == ' ' ]]; then probe_profile_unknown+=('scratch: no SCRATCH, and no variable like it, names a folder in which you can write'); fi
}

# probe_profile::add_scratch NAME   Adds the variable if its folder is writable and is not part of the home, a program or a shell.
# The caller's `found` has the names that were added already.
probe_profile::add_scratch() {
  local -r folder=${!1:-}
  if [[ $1 == @(HOME|PWD|OLDPWD|SCRATCH|TMPDIR|TMP|TEMP|TEMPDIR|PYTHON*|VIRTUAL_ENV|CONDA_*|XDG_*|BATS_*|POCKET_*|*HOME) ]]; then return; fi
  if [[ $folder != /* || ! -d $folder || ! -w $folder || $found == *" $1 "* ]]; then return; fi
  if [[ $folder/ == "${HOME:-/nowhere}/"* || $folder/ == "${probe_profile_script%/hpc/*}/"* ]]; then return; fi
  probe_profile::add "$([[ $found == ' ' ]] || echo '# ')site[scratch]='\$$1' # $folder"
  found+="$1 "
}

probe_profile::slurm() {
  local partition name default='' best=''
  local -a groups=() candidates=()
  if ! partitions::read groups; then
    probe_profile_unknown+=("GPUs, memory: ${groups[0]:-sinfo shows no partition}")
    return
  fi
  for name in account qos constraint reservation; do
    if [[ -n ${options_value[$name]:-} ]]; then probe_profile_place+=("--$name=${options_value[$name]}"); fi
  done
  if ! probe_profile::choose_partitions; then
    probe_profile_unknown+=("GPUs, memory: $partition")
    if [[ $partition == *'no default partition'* ]]; then probe_profile::add 'site[required]=partition # there is no default one'; fi
    return
  fi
  for partition in "${candidates[@]}"; do
    if probe_profile::try_partition "$partition"; then return; fi
  done
  if ! probe_profile::try_partition "$best" other; then
    probe_profile_unknown+=('GPUs, memory: no job is taken, see above; give --account, --partition, --qos here')
  fi
}

# probe_profile::choose_partitions   Sets the caller's `candidates` from its `groups`: the given partition; or else the default, if it
# shows GPUs or no partition does, and those that show GPUs, the largest first (`best`). Status 1: none; `partition` says why.
probe_profile::choose_partitions() {
  local group nodes
  local -a own_groups=("${groups[@]}")
  local -A counts=()
  partition=${options_value[partition]}
  for group in "${groups[@]}"; do
    IFS='|' read -r name nodes _ <<<"$group"
    if [[ $name == *\* ]]; then default=${name%\*}; fi
    if [[ $group == *'|gpu:'*'|up' ]]; then counts[${name%\*}]=$((${counts[${name%\*}]:-0} + 10#0${nodes//[!0-9]/})); fi
  done
  if [[ -n $partition ]] || ((${#counts[@]} == 0)); then
    if ! partitions::choose partition own_groups; then return 1; fi
    candidates=("$partition") best=$partition
    return
  fi
  if [[ -n $default && -n ${counts[$default]:-} ]]; then candidates=("$default"); fi
  while read -r _ name; do
    if [[ $name != "$default" ]]; then candidates+=("$name"); fi
  done < <(for name in "${!counts[@]}"; do printf '%s %s\n' "${counts[$name]}" "$name"; done | LC_ALL=C sort -k 1,1nr -k 2)
  candidates=("${candidates[@]:0:3}")
  best=${candidates[0]}
  if [[ $best == "$default" ]]; then best=${candidates[1]:-$best}; fi
}

# probe_profile::try_partition PARTITION [other]   Whether Slurm takes a job there; if so, finds out what the job must ask for. `other`:
# tries the two ways that name no number of GPUs, after the others were refused. The first partition also shows if an account is needed.
probe_profile::try_partition() {
  local partition=$1 shown='' small='' said=''
  local -a own_groups=("${groups[@]}") request=() facts=()
  local -A gpus=()
  local -ra place=("${probe_profile_place[@]}")
  partitions::choose partition own_groups || return 1
  partitions::gpus gpus "${own_groups[@]}"
  slurm::ask shown 10 scontrol --oneliner show partition "${1%%,*}" || shown=''
  if [[ -z ${2:-} ]]; then probe_profile::add "# partition $1: $(partitions::offers "${own_groups[@]}")"; fi
  if [[ $1 != "$default" ]]; then probe_profile_place+=(--partition="$1"); fi
  # Some partitions refuse jobs without GPUs.
  if ((gpus[all] == 0)) || [[ $1 == "${candidates[0]}" && -z ${2:-} ]]; then
    if probe_profile::takes_small 'a small job'; then small=1; fi
  fi
  said=$probe_profile_said
  if ((gpus[all] > 0)); then
    if [[ $said == *@(ccount|ot asked)* ]] || ! probe_profile::request "${2:-}"; then
      probe_profile_place=("${place[@]}")
      return 1
    fi
  elif [[ -n $small ]]; then
    probe_profile::add "# site[gpu_request]=partition # this partition shows no GPUs: others may (-p), or they come with it, or by a constraint"
  else
    return 1
  fi
  if [[ $1 != "$default" || -n ${options_value[partition]} ]]; then
    probe_profile::add "site[partition]=$1${default:+ # the default is $default}"
  fi
  if [[ $shown == *' OverSubscribe=EXCLUSIVE '* ]]; then probe_profile::add 'site[whole_nodes]=yes # OverSubscribe=EXCLUSIVE'; fi
  if ((${#facts[@]} > 0)); then probe_profile_lines+=("${facts[@]}"); fi
  probe_profile::memory "${own_groups[0]}"
  probe_profile::several_nodes
}

# probe_profile::takes WHAT OPTION...   Whether Slurm takes a small job with these options. If not, its message goes into the profile.
probe_profile::takes() {
  local status=0 words _answer
  if ((probe_profile_left == 0)); then
    probe_profile_said='not asked'
    probe_profile::add "# $1: not asked, as there were enough questions"
    return 1
  fi
  probe_profile_left+=-1
  slurm::call _answer words 30 sbatch --test-only --nodes=1 --ntasks=1 --time=10 "${probe_profile_place[@]}" "${@:2}" "$probe_profile_script" || status=$?
  if ((status == 0)); then
    probe_profile_said=''
    return
  fi
  if slurm::is_silence "$status" "$words"; then common::die "Slurm does not answer: ${words:-nothing for 30 s}: try again later"; fi
  words=${words//sbatch: error: /}
  words=${words//[[:cntrl:]]/; }
  if [[ $words == "$probe_profile_said" ]]; then probe_profile::add "# $1 is refused, too"; else probe_profile::add "# $1 is refused: $words"; fi
  probe_profile_said=$words
  return 1
}

# probe_profile::takes_small WHAT OPTION...   Like probe_profile::takes. If Slurm's message is about an account or a QOS, tries those
# of the user and of the partition too, and keeps the first that is accepted.
probe_profile::takes_small() {
  local accounts name allowed
  if probe_profile::takes "$@"; then return; fi
  if [[ ${probe_profile_said,,} == *account* && " ${probe_profile_place[*]}" != *' --account='* ]] && slurm::ask_accounts accounts; then
    allowed=$(slurm::field AllowAccounts "$shown")
    for name in $accounts; do
      if [[ $allowed != @(ALL|unknown) && ,$allowed, != *",$name,"* ]]; then continue; fi
      if probe_profile::takes "with --account $name" --account="$name" "${@:2}"; then
        probe_profile::add "site[required]=account # yours: $accounts"
        probe_profile_place+=(--account="$name")
        return
      fi
      break
    done
  fi
  if [[ ${probe_profile_said,,} != *qos* ]] || ! probe_profile::find_qos name "${@:2}"; then return 1; fi
  probe_profile::add "site[qos]=$name # without it a job is refused"
  probe_profile_place+=(--qos="$name")
}

# probe_profile::find_qos VARIABLE OPTION...   Sets VARIABLE to the first QOS that the partition allows by name and with which Slurm
# takes the job. Status 1: there is none.
probe_profile::find_qos() {
  local allowed word
  allowed=$(slurm::field AllowQos "$shown")
  if [[ $allowed == @(ALL|unknown) || " ${probe_profile_place[*]}" == *' --qos='* ]]; then return 1; fi
  for word in ${allowed//,/ }; do
    if [[ $word == normal ]]; then continue; fi # the QOS of jobs that name none
    if probe_profile::takes "with --qos $word" --qos="$word" "${@:2}"; then
      printf -v "$1" '%s' "$word"
      return
    fi
  done
  return 1
}

probe_profile::request() {
  if [[ -n $1 ]]; then probe_profile::other_request; else probe_profile::gpu_request; fi
}

# probe_profile::gpu_request   Finds out how to ask for one GPU; sets the caller's `request` and `facts`. Status 1: Slurm accepts no
# way. Stops at once if Slurm's message is about the partition.
probe_profile::gpu_request() {
  local type way
  local -a types=() ways=()
  local -r most=${gpus[all]}
  unset 'gpus[all]'
  mapfile -t types < <(printf '%s\n' "${!gpus[@]}" | LC_ALL=C sort)
  type=${types[0]}
  ways=(--gpus-per-node=1 ${type:+--gpus-per-node="$type:1"} --gres=gpu:1 ${type:+--gres=gpu:"$type:1"})
  if ((most > 1)); then ways+=(--gpus-per-node="$most"); fi
  facts+=("site[gpus_per_node]=$most${type:+ # types: ${types[*]}}")
  for way in "${ways[@]}"; do
    if [[ $way == --gpus-per-node=[!0-9]* && $probe_profile_said == *--gres* ]]; then continue; fi # Slurm's message names --gres
    if probe_profile::takes_small "with $way" "$way"; then
      request=("$way")
      if [[ $way == --gres=* ]]; then facts+=('site[gpu_request]=gres'); fi
      if [[ $way == *"${type:-no type}:1" ]]; then facts+=("site[gpu_type]=$type # without a type a job is refused"); fi
      if [[ $way == --gpus-per-node="$most" ]] && ((most > 1)); then facts+=("site[gpu_counts]=$most # one is refused"); fi
      return
    fi
    if [[ ${probe_profile_said,,} == *@( in partition|invalid partition|not allowed|permission|not asked)* ]]; then return 1; fi
  done
  return 1
}

# probe_profile::other_request   Does the same with a constraint, or without asking for GPUs.
probe_profile::other_request() {
  local type
  local -a types=()
  unset 'gpus[all]'
  mapfile -t types < <(printf '%s\n' "${!gpus[@]}" | LC_ALL=C sort)
  type=${types[0]}
  if [[ -n $type ]] && probe_profile::takes "with --constraint=$type" --constraint="$type"; then
    request=(--constraint="$type")
    facts+=('site[gpu_request]=constraint' "site[gpu_type]=$type")
  elif probe_profile::takes "a job without GPUs"; then
    facts+=('site[gpu_request]=none # a guess: each way to ask for GPUs is refused, a job that does not ask is taken')
    probe_profile_unknown+=('gpu_request: each way is refused, see above')
  else
    return 1
  fi
}

# probe_profile::memory GROUP   Finds out how to ask for memory. Slurm takes the caller's `request` without any.
probe_profile::memory() {
  local megabytes way
  local -a ways=(mem=--mem=256M mem_per_cpu=--mem-per-cpu=256M)
  IFS='|' read -r _ _ _ megabytes _ <<<"$1"
  if [[ ${request[*]} == --g* ]]; then ways+=(mem_per_gpu=--mem-per-gpu=256M); fi
  ways+=(zero=--mem=0)
  for way in "${ways[@]}"; do
    if probe_profile::takes "with ${way#*=}" "${request[@]}" "${way#*=}"; then
      if [[ $way != mem=* ]]; then
        probe_profile::add "site[memory_request]=${way%%=*}"
      elif [[ $megabytes == 1 ]]; then
        probe_profile::add 'site[memory_request]=none # the nodes report no memory to Slurm'
      fi
      return
    fi
    if [[ $probe_profile_said == 'not asked' ]]; then
      probe_profile_unknown+=('memory_request: see above')
      return
    fi
  done
  probe_profile::add 'site[memory_request]=none'
}

# probe_profile::several_nodes   Finds out whether two nodes of the partition need a QOS. It becomes the default only if a single node
# may have it too.
probe_profile::several_nodes() {
  local name
  if [[ $(slurm::field AllowQos "$shown") == @(ALL|unknown) || " ${probe_profile_place[*]}" == *' --qos='* ]]; then return; fi
  if probe_profile::takes 'a job of two nodes' "${request[@]}" --nodes=2 --ntasks=2 || [[ ${probe_profile_said,,} != *qos* ]]; then return; fi
  if ! probe_profile::find_qos name "${request[@]}" --nodes=2 --ntasks=2; then
    probe_profile_unknown+=("qos: the partition allows $(slurm::field AllowQos "$shown"), and two nodes are refused")
  elif probe_profile::takes "one node with --qos $name" "${request[@]}" --qos="$name"; then
    probe_profile::add "site[qos]=$name # several nodes need it, and one may have it"
  else
    probe_profile::add "site[qos_by_nodes]=2:$name # several nodes need it, and one may not have it"
  fi
}
