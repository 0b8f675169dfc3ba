# shellcheck shell=bash
# adopt.sh --from: turns sbatch scripts into the lines, options, variables and profile of a project. sbatch_script.py reads the
# scripts; nothing in them is run.

declare -ga from_scripts_files+=() from_scripts_lines+=() # the scripts; the proposed submit commands
declare -gA from_scripts_known+=()                        # NAME -> value in .env, old and new
declare -ga from_scripts_new+=()                          # lines to add to .env
declare -g from_scripts_modules=''                        # profiles that load modules
declare -g from_scripts_bare=''                           # whether a script brings neither an environment nor a container
declare -gA from_scripts_profiles+=()                     # content of a profile -> its name
declare -ga from_scripts_said+=() from_scripts_record+=() # what sbatch_script.py prints of all scripts; the words of one record
declare -gi from_scripts_at=0                             # the next record in it
declare -ga line_words+=() line_own+=() line_left_out+=()
declare -gA options_owner+=() options_instead+=() launchers_valued+=() launchers_flags+=()
declare -g sbatch_argument_shorts
declare -g line_refusal line_launcher

# from_scripts::add PATH   Adds a script, or all scripts of a folder: files that begin with #! and have a line #SBATCH.
from_scripts::add() {
  local file
  local -i before=${#from_scripts_files[@]}
  [[ -e $1 ]] || common::die_usage "--from ${1@Q}: there is no such file or folder"
  [[ -r $1 ]] || common::die_usage "--from ${1@Q}: you cannot read it"
  if [[ -f $1 ]]; then
    from_scripts_files+=("$(realpath -- "$1")")
    return
  fi
  [[ -d $1 ]] || common::die_usage "--from ${1@Q} is neither a file nor a folder"
  for file in "$1"/*; do
    if [[ -f $file && -r $file && $(LC_ALL=C head -c 2 -- "$file" | tr -d '\0') == '#!' ]] && grep -qE '^#SBATCH([[:space:]]|$)' -- "$file"; then from_scripts_files+=("$(realpath -- "$file")"); fi
  done
  ((${#from_scripts_files[@]} > before)) || common::die_usage "--from ${1@Q}: no file in this folder is a script with a line #SBATCH"
}

# from_scripts::read PROJECT   Reads the scripts. Ends with status 2 at the first that cannot be read. Call it before anything is written.
from_scripts::read() {
  local file
  common::first_python 6 python3 >/dev/null || common::die "--from needs a python3 of 3.6 or later: load one (module load python)"
  for file in "${from_scripts_files[@]}"; do
    [[ $file != *[[:cntrl:]]* ]] || common::die_usage "--from ${file@Q}: control characters are not possible in its name"
  done
  mapfile -d '' -t from_scripts_said < <(python3 -B -E -S "${BASH_SOURCE[0]%/*}/sbatch_script.py" "$1" \
    "$sbatch_argument_shorts" "${launchers_valued[srun]}" "${launchers_flags[srun]}" "${from_scripts_files[@]}")
  [[ ${from_scripts_said[0]:-} != refused ]] || common::die_usage "--from ${from_scripts_said[3]@Q}: ${from_scripts_said[4]}"
  ((${#from_scripts_said[@]} > 0)) || common::die "the scripts cannot be read: see the error of python3"
}

# from_scripts::propose PROJECT KIT DRY_RUN   Reports what each script becomes, and writes it unless DRY_RUN is set.
from_scripts::propose() {
  local -r project=$1 kit=$2 dry_run=$3
  local file base=''
  option_table::define
  sbatch_names::define
  from_scripts::find_base
  dotenv::each "$project/.env" from_scripts::know 2>/dev/null
  for file in "${from_scripts_files[@]}"; do from_scripts::propose_one; done
  from_scripts::write_dotenv
  if [[ -n $from_scripts_modules ]] && ! from_scripts::has_module; then
    common::note "note: this machine has no command module. If the nodes have none either, jobs stop before the program starts: then remove site[modules] from$from_scripts_modules"
  fi
}

from_scripts::know() {
  from_scripts_known[$1]=$2
}

# Sets the caller's `base` to the line that sources the profile of this site, if there is one. The new profiles begin with it.
from_scripts::find_base() {
  local -a folders=()
  local name folder
  if common::has_command sbatch; then site::query name || true; fi
  site::folders folders "$kit/hpc"
  site::name name "${folders[@]}"
  if [[ $name == default ]]; then return; fi
  base="source \"\$site_clusters/$name.sh\""
  for folder in "${folders[@]::${#folders[@]}-1}"; do
    if [[ -r $folder/$name.sh ]]; then
      printf -v base 'source %q' "$folder/$name.sh"
      return
    fi
  done
}

# Handles one script, the caller's `file`.
from_scripts::propose_one() {
  local kind line stem chdir=. launcher='' refusals='' proposed cluster=''
  local -i nodes=1 tasks=1 gpus=0
  local -a request=() lines=() words=() modules=() sites=() own=()
  local -A given=() unknown=()
  local -r title=${file##*/}
  stem=${title%.*} stem=${stem//[!A-Za-z0-9_-]/_}
  installing::say from "$file"
  while from_scripts::next && [[ $kind != end ]]; do
    words=("${from_scripts_record[@]}")
    case $kind in
      facts) nodes=${words[0]} tasks=${words[1]} gpus=${words[2]} ;;
      option) from_scripts::option "${words[@]}" ;;
      pass) from_scripts::pass "${words[0]}" ;;
      module) modules+=("${words[@]}") ;;
      site) given[${words[0]}]=${words[1]} ;;
      unknown) unknown[${words[0]}]=${words[1]} ;;
      env) from_scripts::env "${words[0]}" "${words[1]}" ;;
      run) from_scripts::line ;;
      kit) from_scripts::say 'by kit' "${words[0]}" ;;
      *) from_scripts::say "$kind" "${words[0]}" ;;
    esac
  done
  line=0
  if ((${#lines[@]} > 3)); then from_scripts::say taken "$((${#lines[@]} - 3)) more lines"; fi
  if [[ -n $launcher ]]; then request+=(-W "$launcher"); fi
  from_scripts::profile
  from_scripts::write
}

# Sets the caller's kind, line and from_scripts_record to the next record.
from_scripts::next() {
  local -ir count=${from_scripts_said[from_scripts_at + 2]}
  kind=${from_scripts_said[from_scripts_at]} line=${from_scripts_said[from_scripts_at + 1]}
  from_scripts_record=("${from_scripts_said[@]:from_scripts_at+3:count}")
  from_scripts_at+=3+count
}

# from_scripts::say KIND WORDS   Prints WORDS with the number of the line.
from_scripts::say() {
  local where=''
  if ((line > 0)); then where="line $line: "; fi
  installing::say "$1" "$where$2"
}

# from_scripts::option NAME VALUE   Adds an option of job_submitter.sh to the command, if its value is valid.
from_scripts::option() {
  local -r name=$1 value=$2 spelling=--$1
  local why
  if ! why=$(options::set "${options_owner[$spelling]}" "$value" "$spelling" 2>&1 >/dev/null); then
    from_scripts::say left "${why#*error: }"
    return
  fi
  if [[ $name == chdir ]]; then chdir=$value; fi
  request+=("--$name" "$value")
}

# from_scripts::pass OPTION   Passes an option of sbatch on, or reports what replaces it.
from_scripts::pass() {
  local -r spelling=${1%%=*}
  local why
  if why=$(sbatch_argument::refuse "$1" "${spelling#--}" 2>&1); then
    request+=("--sbatch-arg=$1")
  else
    from_scripts::say left "$1: ${options_instead[$spelling]:-${why#*error: }}"
  fi
}

# from_scripts::env NAME VALUE   Adds a line to .env. Existing lines stay: if .env has another value, the script's value goes in front
# of its command. Values are never printed, because they may be secret.
from_scripts::env() {
  local quote="'"
  if [[ -z ${from_scripts_known[$1]+known} ]]; then
    from_scripts_known[$1]=$2
    if [[ $2 == *\'* ]]; then quote='"'; fi
    if [[ $2 =~ ^[A-Za-z0-9_./:,@%+=-]*$ ]]; then quote=''; fi
    from_scripts_new+=("$1=$quote$2$quote")
    from_scripts::say taken "$1: into .env"
  elif [[ ${from_scripts_known[$1]} == "$2" ]]; then
    from_scripts::say taken "$1: .env has it"
  elif [[ $1 =~ (KEY|TOKEN|SECRET|PASSW|CREDENTIAL) ]]; then
    from_scripts::say left "$1: .env has another value, which stays"
  else
    from_scripts::say taken "$1: in front of the line, as .env has another value"
    own+=("$1=${2//\$/\$\$}")
  fi
}

# Adds a line of the configuration from the caller's `words`; sets the caller's `launcher`.
from_scripts::line() {
  local why='' text found name
  line::read '' "$nodes" '' "${words[@]}"
  if [[ -n $line_refusal ]]; then
    if ((${#line_own[@]} > 0)); then
      launcher=node line_words=("${line_own[@]}")
    else
      why=$line_refusal
      if [[ $why == *'-W node'* ]]; then launcher=node why=''; fi
    fi
  elif [[ $line_launcher == srun || -z $line_launcher ]]; then
    from_scripts::choose_launcher
  fi
  line::check_program "$launcher" "$project" "$chdir"
  if [[ $line_refusal == *'give -W node'* ]]; then launcher=node; elif [[ -n $line_refusal && -z $why ]]; then why=$line_refusal; fi
  from_scripts::shown text "${own[@]}" "${line_words[@]}"
  if ((${#lines[@]} < 3)); then from_scripts::say taken "the line  $text"; fi
  for name in "${!unknown[@]}"; do
    if [[ $text == *"\${$name}"* ]]; then
      from_scripts::say left "\${$name} in the line: ${unknown[$name]}: write its value there, or into .env"
      unset -v "unknown[$name]"
    fi
  done
  if ((${#line_left_out[@]} > 0)) && ((${#lines[@]} == 0)); then
    from_scripts::shown found "${line_left_out[@]}"
    from_scripts::say 'by kit' "the job starts the processes itself:  $found"
  fi
  lines+=("$text")
  if [[ -n $why && $refusals != *"$why"* ]]; then
    refusals+=$why
    from_scripts::say left "$why"
  fi
}

# Sets the caller's `launcher` if the script starts its program by srun or without a launcher.
from_scripts::choose_launcher() {
  local -ir processes=$((gpus > 0 ? gpus : 1))
  local found
  if [[ $line_launcher == srun ]]; then
    if ((tasks == processes)); then
      launcher=srun
      found=$(python3 -I -S "${BASH_SOURCE[0]%/*}/program.py" "$project" train "${line_words[@]}" 2>/dev/null) || found=''
      if [[ ${found%%$'\n'*} == *'-W lightning' ]]; then launcher=lightning; fi
    else
      launcher=node
      if ((tasks > 1)) && ((${#lines[@]} == 0)); then
        from_scripts::say differs "srun starts $tasks processes on a node; here the line runs once on each node, as it has $gpus GPUs: give as many GPUs as processes, or start them in the program"
      fi
    fi
  elif ((processes * nodes > 1)); then
    launcher=node
  fi
}

# from_scripts::shown VARIABLE WORD...   Sets VARIABLE to the words of an argv file as a line of the configuration.
from_scripts::shown() {
  local text_line='' word
  for word in "${@:2}"; do
    if [[ ! $word =~ ^([A-Za-z0-9_./=,:@%+-]|\$\{[A-Za-z0-9_]+\})+$ ]]; then
      word=${word//\\/\\\\} word=${word//\"/\\\"} word=${word//\`/\\\`}
      word=\"${word//'$$'/'\$'}\"
    fi
    text_line+="${text_line:+ }$word"
  done
  printf -v "$1" '%s' "$text_line"
}

# Writes the profile: the facts that hold for every job at the site. Sets the caller's `cluster`.
from_scripts::profile() {
  local name content='' path value known
  if ((${#modules[@]} > 0)); then given[modules]="${modules[*]}"; fi
  if [[ -z ${given[environment]:-} && " ${request[*]} " != *' --singularity-container '* ]]; then from_scripts_bare+=1; fi
  if ((${#given[@]} == 0)); then return; fi
  for name in modules environment interface gpu_request memory_request; do
    if [[ -z ${given[$name]:-} ]]; then continue; fi
    value=${given[$name]}
    if [[ $value != "${value//[!A-Za-z0-9_.\/-]/}" ]]; then value=\'${value//\'/\'\\\'\'}\'; fi
    content+="site[$name]=$value"$'\n'
    sites+=("site[$name]=$value")
  done
  cluster=${from_scripts_profiles[$content]:-}
  known=$cluster
  if [[ -z $known ]]; then from_scripts::name_profile; fi
  path=hpc/clusters/$cluster.sh
  from_scripts::say taken "$path: ${sites[*]}"
  if [[ -n ${given[environment]:-} && ! -x ${given[environment]}/bin/python ]]; then
    from_scripts::say left "${given[environment]}: there is no bin/python in it here: make it, or correct $path"
  fi
  if [[ -n ${given[modules]:-} ]]; then from_scripts_modules+=" $path"; fi
  if [[ -n $known ]]; then return; fi
  from_scripts_profiles[$content]=$cluster
  from_scripts::put "$path" "# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The facts of the site in $title (by hpc/adopt.sh --from); hpc/clusters/README.md lists all facts of a profile.
$base${base:+$'\n'}$content"
}

# Looks where a job looks (hpc/job/lib/node_setup.sh).
from_scripts::has_module() {
  local script
  for script in /etc/profile.d/{z00_lmod,lmod,modules}.sh /usr/share/{lmod/lmod,modules}/init/bash; do
    if [[ -r $script ]]; then return; fi
  done
  declare -F module >/dev/null
}

# Sets the caller's `cluster`. A profile for several scripts is named after their folder.
from_scripts::name_profile() {
  local folder=${file%/*}
  local -ir before=${#from_scripts_profiles[@]}
  cluster=from_$stem
  if ((${#from_scripts_files[@]} > 1)); then
    folder=${folder##*/}
    cluster=from_${folder//[!A-Za-z0-9_-]/_}
    if ((before > 0)); then cluster+=_$((before + 1)); fi
  fi
}

# Writes the configuration file of the caller's script, with the command that submits it.
from_scripts::write() {
  local name=experiment_configurations.txt text
  local -a command=(bash hpc/job_submitter.sh)
  if [[ -n $cluster ]]; then command+=(--cluster "$cluster"); fi
  printf -v text '%s\n' "${lines[@]:-# the command of the program, such as  python train.py}"
  if ((${#from_scripts_files[@]} > 1)) || [[ -e $project/$name ]] && ! from_scripts::has_lines "$project/$name" "$text"; then
    name=experiment_configurations_$stem.txt
    command+=(--configs "$name")
  fi
  from_scripts::command proposed "${command[@]}" "${request[@]}"
  from_scripts_lines+=("$proposed")
  if from_scripts::has_lines "$project/$name" "$text"; then
    installing::say taken "$name has its lines already"
  else
    from_scripts::put "$name" "# From $title, by hpc/adopt.sh --from. To send it:
#   $proposed
# hpc/README.md, \"The configuration file\", tells about \${NAME}, {nodes}, {gpus} and {seed}.
$text"
  fi
  installing::say submit "$proposed"
}

# from_scripts::has_lines FILE LINES   Whether FILE has exactly these LINES, apart from comments.
from_scripts::has_lines() {
  [[ -f $1 && $(grep -v '^#' -- "$1")$'\n' == "$2" ]]
}

# from_scripts::command VARIABLE WORD...   Sets VARIABLE to the command in the form in which the user types it.
from_scripts::command() {
  local word text_command=''
  for word in "${@:2}"; do
    if [[ ! $word =~ ^[A-Za-z0-9_./=,:@%+-]+$ ]]; then word=\'${word//\'/\'\\\'\'}\'; fi
    text_command+="${text_command:+ }$word"
  done
  printf -v "$1" '%s' "$text_command"
}

# from_scripts::put FILE CONTENT   Writes a file of the project. A different file of that name stays, and the new one becomes FILE.new.
from_scripts::put() {
  local target=$project/$1
  if [[ -e $target || -L $target ]]; then
    if [[ -f $target && $(<"$target") == "${2%$'\n'}" ]]; then return; fi
    installing::say kept "$1: it exists; what this script says is in $1.new"
    target+=.new
  fi
  if [[ -z $dry_run ]]; then printf '%s' "$2" | common::write_atomically "$target"; fi
}

# Values may be secret, so only the owner can read the file.
from_scripts::write_dotenv() {
  local -r target=$project/.env
  local last=''
  if ((${#from_scripts_new[@]} == 0)); then return; fi
  if [[ -n $dry_run ]]; then return; fi
  if [[ -s $target ]]; then last=$(tail -c 1 -- "$target"); fi
  (
    umask 077
    printf '%s%s\n' "${last:+$'\n'}" "$(printf '%s\n' "${from_scripts_new[@]}")" >>"$target"
  )
}
