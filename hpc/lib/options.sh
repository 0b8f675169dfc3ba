# shellcheck shell=bash
# Command-line options from one table. Each call of options::add is one row. Parsing, checks, --help (help.sh),
# the completion and the table of hpc/job_submitter/README.md all come from the rows.

declare -gA options_value+=()                                 # name -> the value, from the command line, environment, site or default
declare -gA options_source+=()                                # name -> option | environment | site | default
declare -gA options_kind+=()                                  # name -> flag, list, or a check of checks.sh with its arguments
declare -gA options_default+=()                               # name -> default
declare -gA options_help+=()                                  # name -> help
declare -gA options_names+=()                                 # name -> spellings, the long one that help shows first
declare -gA options_word+=()                                  # name -> the word that help shows for a value of a list, if it is not PATH
declare -gA options_owner+=()                                 # spelling -> name
declare -gA options_instead+=()                               # option that does not exist here, but that many would type -> what to use instead
declare -g options_hint=''                                    # the function that fills options_instead, called when needed
declare -ga options_order+=()                                 # names, and headings written as '# Heading'
declare -ga options_common+=()                                # set by options::show
declare -g options_of_call='help|version|json'                # options that only print are not settings: the environment and profiles ignore them
declare -gA options_hooks+=([spellings]=options::shown_names) # for help.sh

options::heading() {
  options_order+=("# $1")
}

# options::add NAME KIND DEFAULT SPELLINGS HELP [WORD]
# KIND `flag` takes no value. `list` takes the words up to the next option, and may be repeated; the words are in the array
# options_list_NAME; help shows them as WORD…. `optional CHECK VALUE` takes a value that CHECK accepts; without a value it is VALUE. Any other
# kind takes one value that checks::KIND accepts.
options::add() {
  local spelling
  options_order+=("$1")
  options_kind[$1]=$2 options_default[$1]=$3 options_names[$1]=$4 options_help[$1]=$5
  if [[ -n ${6:-} ]]; then options_word[$1]=$6; fi
  for spelling in $4; do options_owner[$spelling]=$1; done
  if [[ $2 == list ]]; then declare -ga "options_list_$1=()"; fi
}

# options::add_placement NAME...   Adds the options for the place of a job and its account: those that NAME lists.
options::add_placement() {
  local name
  for name in "$@"; do
    case $name in
      account) options::add account text '' '--account -a' 'account to charge' ;;
      partition) options::add partition text '' '--partition -p' "partition (default: the cluster's own)" ;;
      qos) options::add qos text '' '--qos' 'quality of service' ;;
      constraint) options::add constraint text '' '--constraint' 'features that the nodes must have' ;;
      reservation) options::add reservation text '' '--reservation' 'reservation to use' ;;
      cluster) options::add cluster text '' '--cluster' "site profile of hpc/clusters (default: by Slurm's name of the cluster, then by host name)" ;;
    esac
  done
}

# options::show NAME...   Chooses the options of a long table that --help shows; --help all shows all.
options::show() {
  options_common=("$@")
}

# options::add_help   Adds the options that help::answer handles before anything else is read.
options::add_help() {
  options::add version flag '' '--version' 'print the version of the kit'
  options::add help 'optional text all' '' '--help -h' 'print a summary; with all, a GROUP of options or an OPTION: all of that'
}

# options::parse ARGUMENT...   Exits with status 2 at the first wrong argument.
options::parse() {
  local word value joined name kind
  while (($# > 0)); do
    word=$1 value='' joined=''
    shift
    case $word in
      --?*=*) joined=1 value=${word#*=} word=${word%%=*} ;;
      --?* | -?) ;;
      -??*) joined=1 value=${word:2} word=${word:0:2} ;;
      *) common::die_usage "unexpected argument ${word@Q}: options start with a dash (see --help)" ;;
    esac
    name=${options_owner[$word]:-}
    [[ -n $name ]] || options::die_unknown "$word"
    kind=${options_kind[$name]}
    if [[ -n $joined ]]; then
      [[ $kind != flag ]] || common::die_usage "$word takes no value, but got ${value@Q}"
      options::set "$name" "$value" "$word"
      continue
    fi
    case $kind in
      flag) options::set "$name" 1 "$word" ;;
      list)
        if (($# == 0)) || [[ $1 == -* ]]; then options::die_no_value "$word"; fi
        while (($# > 0)) && [[ $1 != -* ]]; do
          options::set "$name" "$1" "$word"
          shift
        done
        ;;
      optional\ *)
        if (($# > 0)) && [[ $1 != -* ]]; then
          options::set "$name" "$1" "$word"
          shift
        else
          options::set "$name" "${kind##* }" "$word"
        fi
        ;;
      *)
        # A value may start with a dash (-1), unless it is an option.
        if (($# == 0)) || options::is_one "$1"; then options::die_no_value "$word"; fi
        options::set "$name" "$1" "$word"
        shift
        ;;
    esac
  done
}

# --name, --name=value, -x or -xvalue
options::is_one() {
  case $1 in
    --?*) [[ -n ${options_owner[${1%%=*}]:-} ]] ;;
    -?*) [[ -n ${options_owner[${1:0:2}]:-} ]] ;;
    *) return 1 ;;
  esac
}

# options::set NAME VALUE SPELLING [SOURCE=option]
options::set() {
  local -r name=$1 spelling=$3 source=${4:-option}
  local -r kind=${options_kind[$name]}
  local value=$2
  case $kind in
    flag)
      case $value in
        1 | yes | true) value=1 ;;
        0 | no | false) value='' ;;
        *) common::die_usage "$spelling: ${value@Q} is neither 1 nor 0" ;;
      esac
      ;;
    list)
      local -n list=options_list_$name
      [[ -n $value ]] || common::die_usage "$spelling: an empty value"
      list+=("$value")
      ;;
    *) checks::accept "$kind" "$value" "$spelling" ;;
  esac
  options_value[$name]=$value
  options_source[$name]=$source
}

# options::complete NAME_OF_SITE_ARRAY   Fills options that were not given from the environment (HPC_GPUS for --gpus), then the site,
# then the default.
options::complete() {
  local -n site_values=$1
  local name variable
  for name in "${options_order[@]}"; do
    [[ $name != '# '* && -z ${options_source[$name]:-} ]] || continue
    variable=HPC_${name^^}
    if [[ $name != @($options_of_call) && -n ${!variable:-} && ${options_kind[$name]} != list ]]; then
      options::set "$name" "${!variable}" "\$$variable" environment
    elif [[ -n ${site_values[$name]:-} ]]; then
      options::set "$name" "${site_values[$name]}" "site profile, $name" site
    else
      options_value[$name]=${options_default[$name]}
      options_source[$name]=default
    fi
  done
  # The defaults are used, and the options for sbatch are not passed (request.sh).
  for name in ${site_values[ignored]:-}; do
    if [[ -z ${options_kind[$name]:-} ]]; then continue; fi # an option of another command
    if [[ ${options_source[$name]:-} == @(option|environment) ]]; then
      common::note "note: --${name//_/-}${options_value[$name]:+ ${options_value[$name]}} is ignored: it has no effect at ${site_values[name]}"
    fi
    options_value[$name]=${options_default[$name]} options_source[$name]=ignored
    if [[ ${options_kind[$name]} == list ]]; then declare -ga "options_list_$name=()"; fi
  done
}

# options::check_environment   Warns about variables that look like options but are not: a typing error would otherwise go unnoticed.
options::check_environment() {
  local variable name nearest spelling
  for variable in "${!HPC_@}"; do
    name=${variable#HPC_}
    name=${name,,}
    if [[ $variable == HPC_USAGE_SECONDS ]]; then continue; fi # read by the jobs (job/usage.py)
    if [[ $variable == "HPC_${name^^}" && $name == @($options_of_call) && -n ${options_kind[$name]:-} ]]; then
      common::warn "$variable of the environment has no effect: give --$name on the command line"
    elif [[ $variable != "HPC_${name^^}" || -z ${options_kind[$name]:-} ]]; then
      spelling=--${name//_/-}
      nearest=${options_owner[$spelling]:-} # as HPC_WHICH_DISTRIBUTED
      [[ -n $nearest ]] || nearest=$(options::nearest "$name" "${!options_kind[@]}" 2>/dev/null) || nearest=''
      common::warn "$variable of the environment is no option of this command, and has no effect${nearest:+: did you mean HPC_${nearest^^}?}"
    elif [[ ${options_kind[$name]} == list ]]; then
      common::warn "$variable of the environment has no effect: give --${name//_/-} on the command line, as it is a list"
    fi
  done
}

# options::given ARRAY EXCEPT   Sets ARRAY to the options of the command line and the environment, as words --NAME=VALUE, without those that
# the pattern EXCEPT has (a|b). Paths become absolute, but for those that are not of this machine's working directory.
options::given() {
  local -n given_words=$1
  local name spelling value
  given_words=()
  for name in "${options_order[@]}"; do
    if [[ ${options_source[$name]:-} != @(option|environment) || $name == @($2) ]]; then continue; fi
    spelling=${options_names[$name]%% *} value=${options_value[$name]}
    case ${options_kind[$name]} in
      flag) if [[ -n $value ]]; then given_words+=("$spelling"); fi ;;
      list)
        local -n given_list=options_list_$name
        spelling+='='
        given_words+=("${given_list[@]/#/$spelling}")
        unset -n given_list
        ;;
      path)
        if [[ $value != /* && $name != @(chdir|workdir) && -e $value ]]; then value=$PWD/$value; fi
        given_words+=("$spelling=$value")
        ;;
      *) given_words+=("$spelling=$value") ;;
    esac
  done
}

options::die_no_value() {
  local -r name=${options_owner[$1]}
  common::die_usage "$1 needs a value: $(options::shown_names "$name" '|')"
}

options::die_unknown() {
  local nearest=''
  if [[ -n $options_hint ]]; then "$options_hint"; fi
  if [[ -n ${options_instead[$1]:-} ]]; then common::die_usage "unknown option ${1@Q}: ${options_instead[$1]}"; fi
  if [[ $1 == --?* ]]; then nearest=$(options::nearest "$1" "${!options_owner[@]}" 2>/dev/null) || true; fi
  common::die_usage "unknown option ${1@Q}${nearest:+: did you mean $nearest?} (see --help)"
}

# options::nearest WORD NAME...   Prints the shortest NAME that begins with WORD, else the NAME most like it, if there is one.
options::nearest() {
  python3 -c '
import difflib, sys
word, names = sys.argv[1], sorted((name for name in sys.argv[2:] if len(name) > 2), key=len)
begun = [name for name in names if name.startswith(word)]
print(*(begun or difflib.get_close_matches(word, names, 1))[:1])
' "$@"
}

# options::shown_names NAME [SEPARATOR] [VARIABLE] [SHORT]   -g, --gpus N; with SHORT not more than two spellings.
options::shown_names() {
  local -r shown_name=$1 shown_separator=${2:-, }
  local shown_spelling shown_long='' shown_short='' shown_value
  for shown_spelling in ${options_names[$shown_name]}; do
    if [[ $shown_spelling == -? ]]; then
      if [[ -z ${4:-} || -z $shown_short ]]; then shown_short=$shown_spelling${shown_short:+$shown_separator$shown_short}; fi
    elif [[ -z ${4:-} || -z $shown_long ]]; then
      shown_long+=${shown_long:+$shown_separator}$shown_spelling
    fi
  done
  checks::placeholder "${options_kind[$shown_name]}" shown_value
  shown_value=${shown_value/PATH…/${options_word[$shown_name]:-PATH}…}
  common::give "$shown_short${shown_short:+$shown_separator}$shown_long$shown_value" "${3:-}"
}
