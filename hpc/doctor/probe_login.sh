# shellcheck shell=bash
# The checks of doctor.sh on the login node: folders, space, keys, python. Each function checks one thing and reports what it
# found.

declare -gA site options_kind options_value

# probe_login::all SCRATCH PROJECT   Sets the variable SCRATCH to the folder that all nodes share, or to nothing if it is unusable.
probe_login::all() {
  findings::about
  probe_login::profile "$2"
  probe_login::required
  probe_login::space home "$HOME" 200
  probe_login::scratch "$@"
  probe_login::environment "$2"
  probe_login::wandb_key "$2"
}

# probe_login::profile PROJECT   Checks the profile as job_submitter.sh does; a profile may set its options.
probe_login::profile() {
  local said
  said=$(
    exec 2>&1
    source "$1/hpc/job_submitter/option_table.sh"
    option_table::define
    site::check "${!options_kind[@]}"
  ) || findings::add problem profile "${said#*error: }" 'correct that line: hpc/clusters/README.md lists what a profile may say'
}

# probe_login::required   Reports the options that the profile requires and that a submission would not have by itself.
probe_login::required() {
  local name ours missing=''
  for name in ${site[required]:-}; do
    ours=HPC_${name^^}
    if [[ -z ${options_value[$name]:-}${!ours:-}${site[$name]:-} ]]; then missing+="${missing:+, }--${name//_/-}"; fi
  done
  if [[ -n $missing ]]; then
    findings::add note required "the profile ${site[name]} requires $missing, and neither you, nor the environment, nor the profile gives it" \
      'a submission without it is refused: give it each time, or HPC_NAME in ~/.bashrc, or site[NAME] in a profile of your own'
  fi
}

# probe_login::scratch SCRATCH PROJECT   Sets the variable SCRATCH if the folder is usable.
probe_login::scratch() {
  local folder why
  site::scratch folder
  if [[ -z $folder ]]; then
    site::no_scratch why
    findings::add problem scratch "${why%%: *}" "${why#*: }"
  elif [[ $folder != /* || ! -d $folder || ! -w $folder ]]; then
    findings::add problem scratch "SCRATCH=$folder is not a folder in which you can write" 'set it to one of your own that all nodes share, from / on'
  else
    probe_login::space scratch "${folder%/}" 1024
    if probe_login::output "${folder%/}/${2##*/}/hpc_outputs"; then printf -v "$1" '%s' "${folder%/}"; fi
    probe_login::runs "${folder%/}/${2##*/}/hpc_outputs"
  fi
}

# probe_login::space NAME FOLDER MEGABYTES   Reports a problem if less than MEGABYTES are free, or if the quota is nearly used up.
probe_login::space() {
  local -r name=$1 folder=$2 least=$3
  local free inodes left used limit of value level=ok fix=''
  if ! read -r free inodes left < <(timeout 15 df --block-size=1M --output=avail,itotal,iavail -- "$folder" 2>/dev/null | sed 1d); then
    findings::add problem "$name" "$folder: df does not answer" 'is its file server up?'
    return
  fi
  value="$folder, $(probe_login::amount "$free") free"
  if ((free < least)) || { [[ $inodes =~ ^[1-9] ]] && ((left < 1000 && left * 20 < inodes)); }; then
    level=problem fix='make room, or take another folder: a run needs some hundred megabytes at least'
    if [[ $inodes =~ ^[1-9] ]]; then value+=", room for $left more files"; fi
  fi
  if read -r used limit of < <(probe_login::quota "$folder") && ((limit > 0)); then
    value+=", quota $((used * 100 / limit)) % used of $limit $of"
    if ((used >= limit * 95 / 100)); then level=problem fix='remove what is not needed, or ask the site for more'; fi
  fi
  findings::add "$level" "$name" "$value" "$fix"
}

# probe_login::amount MEGABYTES   Prints it in GB or MB.
probe_login::amount() {
  if (($1 >= 10240)); then printf '%d GB\n' "$(($1 / 1024))"; else printf '%d MB\n' "$1"; fi
}

# probe_login::quota FOLDER   Prints the used and the allowed amount (0: no limit) of the quota that is nearer to its limit, kB or
# files; nothing if no quota is known. Lustre's command and the common one print the same columns.
probe_login::quota() {
  {
    timeout 15 lfs quota -q -u "$(id -un)" "$1" || timeout 15 quota -w -f "$1"
  } 2>/dev/null | awk '
    NF == 1 { name = $1; next } # a long name has a line of its own
    name != "" { $0 = name " " $0; name = "" }
    $2 ~ /^[0-9]+\*?$/ && NF >= 6 {
      gsub(/\*/, "")
      files = $5 ~ /^[0-9]+$/ ? 5 : 6 # a grace time may stand between them
      used = $2; limit = $3 > 0 ? $3 : $4; of = "kB"
      most = $(files + 1) > 0 ? $(files + 1) : $(files + 2)
      if (most > 0 && (limit == 0 || $files / most > used / limit)) { used = $files; limit = most; of = "files" }
      print used, limit, of
      exit
    }'
}

# probe_login::runs FOLDER   Reports how many files the runs in FOLDER have: a quota may count files (inodes).
probe_login::runs() {
  local -a runs=()
  local files='' level=ok
  if [[ ! -d $1 ]]; then return; fi
  mapfile -t runs < <(compgen -G "${1//[\\*?[]/?}/*/facts")
  read -r files _ < <(timeout 15 du --inodes --summarize -- "$1" 2>/dev/null) || files='more than can be counted in 15 s'
  if [[ $files == *[!0-9]* ]] || ((files > 200000)); then level=note; fi
  findings::add "$level" runs "$1: ${#runs[@]} runs, files and folders: $files" \
    'remove runs that you need no more (bash hpc/experiments.sh remove), and what programs keep below OUTPUT_PATH in many small files; unpacked sources go by themselves'
}

# probe_login::output FOLDER   Checks that the folder of the runs, or its nearest existing parent, is writable. Status 1: it is not,
# so a job cannot write its report either.
probe_login::output() {
  local folder=$1 trial status=0
  while [[ ! -e $folder && ! -L $folder ]]; do folder=${folder%/*}; done
  if [[ ! -d $folder ]] || ! trial=$(mktemp -d -- "$folder/.doctor.XXXXXX" 2>/dev/null); then
    findings::add problem output "$1 cannot be made: $folder is not a folder in which you can write" \
      'the folder must be yours, and writable: move what is in its place away, or chmod u+rwx'
    return 1
  fi
  if head -c 65536 /dev/zero 2>/dev/null >"$trial/file" && sync -- "$trial/file" 2>/dev/null; then
    findings::add ok output "$1 can be written"
    probe_login::file_system "$trial"
  else
    findings::add problem output "$1: a file of 64 kB cannot be written" 'is the disk or the quota full? Make room'
    status=1
  fi
  rm -rf -- "$trial"
  return "$status"
}

# probe_login::file_system FOLDER   Checks the features of the file system that the kit needs. FOLDER has a file `file`.
probe_login::file_system() {
  local level=ok lacks='' words
  mkdir -- "$1/folder"
  words=$(flock --nonblock "$1/file" true 2>&1) || level=note lacks+="no locks ($words); "
  words=$(ln -- "$1/file" "$1/link" 2>&1) || level=note lacks+="no hard links (${words##*: }); "
  words=$(mv -T -- "$1/folder" "$1/renamed" 2>&1) || level=problem lacks+="no renaming of folders (${words##*: }), by which checkpoints and run directories become complete; "
  lacks=${lacks%; }
  findings::add "$level" file_system "${lacks:-locks, hard links, and folders that can be renamed}" \
    'take a SCRATCH of another kind, no bucket; for locks ask the site (Lustre: mount -o flock), until then pack the same --data from one submission at a time'
}

probe_login::environment() {
  local version environment
  # The environment that job_submitter.sh takes without --environment. The settings in .env are exported already.
  environment=${HPC_ENVIRONMENT:-${site[environment]:-}}
  if [[ $environment == [!/]* ]]; then environment=$PWD/$environment; fi
  if [[ -z $environment ]]; then environment=$(environment::find "$1" 2>/dev/null || true); fi
  if ! version=$(common::first_python 9 python3 ${environment:+"$environment/bin/python"}); then
    findings::add problem environment 'no python3 of 3.9 or later, neither on this machine nor in an environment' 'load one before you submit (module load python), or put it into PATH'
    return
  fi
  version=$("$version" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
  if [[ -x $environment/bin/python ]]; then
    findings::add ok environment "python $version; $environment"
  elif [[ -n ${HPC_ENVIRONMENT:-} ]]; then
    findings::add problem environment "HPC_ENVIRONMENT=$HPC_ENVIRONMENT has no bin/python" 'correct it, in your shell or in .env'
  else
    findings::add note environment "python $version; no virtual environment for $1" "make it once, unless your jobs run in a container:  bash venv/create.sh"
  fi
}

# The key is never printed.
probe_login::wandb_key() {
  local -r home_file=$HOME/wandb_credentials.txt netrc=${NETRC:-$HOME/.netrc}
  local file where=''
  local -a open=()
  if [[ -n ${WANDB_API_KEY:-} ]]; then where=WANDB_API_KEY; fi
  for file in "$1/.env" "$home_file" "$netrc"; do
    if ! probe_login::has_key "$file"; then continue; fi
    where+=${where:+, }$file
    if (($(stat --dereference --format=0%a -- "$file") & 077)); then open+=("$file"); fi
  done
  if ((${#open[@]} > 0)); then
    findings::add problem wandb_key "$where; others can read ${open[*]}: $(stat --dereference --format='mode %a' -- "${open[0]}")" "chmod 600 ${open[*]@Q}, and make a new key if others use this machine"
  elif [[ -n $where ]]; then
    findings::add ok wandb_key "$where"
  elif [[ -r $home_file ]]; then
    findings::add problem wandb_key "$home_file does not begin with a key" 'its first line must be the key and nothing else'
  else
    findings::add note wandb_key 'none: W&B works only with --offline' "put it into $home_file (mode 600), or WANDB_API_KEY=… into .env"
  fi
}

probe_login::has_key() {
  case $1 in
    */.env) grep -qE '^[[:blank:]]*(export[[:blank:]]+)?WANDB_API_KEY[[:blank:]]*=[[:blank:]]*[^[:blank:]]' -- "$1" ;;
    */wandb_credentials.txt) grep -qm 1 -xE '[[:graph:]]{20,}' <(head -n 1 -- "$1") ;;
    *) grep -qE '^[[:blank:]]*machine[[:blank:]]+[^[:blank:]]*wandb' -- "$1" ;;
  esac 2>/dev/null
}
