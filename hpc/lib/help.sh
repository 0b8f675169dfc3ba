# shellcheck shell=bash
# --help and --version of every command. The text comes from the comment at the head of the script, and from the option table if
# there is one. The paragraphs of that comment are separated by empty lines:
#
#   first         how to call the command, one form per line
#   second        what it does; its first sentence is also printed after the name
#   WORD: text    a topic: a command or an argument (why:), an option (--running:), or a section (Exit status:). --help shows
#                 the first line of commands and options
#   others        the description, for --help all
#
# Lines that begin with a space are printed unchanged; all other lines are wrapped at 80 columns.

declare -gA options_names+=() options_owner+=() options_default+=() options_help+=()
declare -ga options_order+=() options_common+=()

declare -g help_name='' help_folder='' # of the command; of the kit
declare -gA options_hooks+=()          # set by options.sh: spellings prints the spellings of an option
declare -ga help_synopsis+=() help_texts+=() help_topics+=()
declare -gA help_topic+=() # topic -> its text
declare -g help_width=80

# help::answer KIT SCRIPT ARGUMENT...   If --help [TOPIC], -h or --version is among the ARGUMENTs, prints the answer and exits. Ignores
# all words after --, which belong to another program.
help::answer() {
  local -r first=${3:-}
  local topic
  help_folder=$1
  set -- "${@:2}"
  while (($# > 1)); do
    case $2 in
      --) return ;;
      --version)
        help::print_version
        exit
        ;;
      -h | --help) topic=${3:-} ;;
      --help=*) topic=${2#*=} ;;
      *)
        set -- "$1" "${@:3}"
        continue
        ;;
    esac
    help::read "$1"
    # `why --help` means --help why.
    if [[ -z $topic && $first == [a-z]* && -n ${help_topic[$first]:-} ]]; then topic=$first; fi
    case $topic in
      '') help::print_short ;;
      all) help::print_all ;;
      *) help::print_topic "$topic" ;;
    esac
    exit
  done
}

help::print_version() {
  local version
  common::version "$help_folder" version
  printf 'hpc kit %s\n' "$version"
}

# help::read SCRIPT   Reads the comment at the head of SCRIPT.
help::read() {
  local line paragraph=''
  help_name=${1##*/}
  {
    read -r line # the interpreter's
    while IFS= read -r line && [[ $line == '#'* ]]; do
      line=${line#\#}
      line=${line# }
      if [[ -n $line ]]; then
        paragraph+=$line$'\n'
      else
        help::keep "$paragraph"
        paragraph=''
      fi
    done
  } <"$1"
  help::keep "$paragraph"
}

# help::keep PARAGRAPH
help::keep() {
  local -r paragraph=${1%$'\n'}
  if [[ -z $paragraph ]]; then
    return
  elif ((${#help_synopsis[@]} == 0)); then
    mapfile -t help_synopsis <<<"$paragraph"
  elif [[ ${#help_texts[@]} -gt 0 && $paragraph =~ ^(-*[[:alpha:]][[:alnum:]|-]*(\ [[:lower:]]+)?):[[:space:]](.*)$ ]]; then
    help_topics+=("${BASH_REMATCH[1]}")
    help_topic[${BASH_REMATCH[1]}]=${BASH_REMATCH[3]}
  else
    help_texts+=("$paragraph")
  fi
}

# Prints --help: at most one screen.
help::print_short() {
  local name line
  local -a rows=("${options_common[@]}")
  local -i before=0
  help::print_synopsis 'Usage: '
  printf '\n'
  help::print_text 0 "${help_texts[0]}"
  for name in "${help_topics[@]}"; do
    if [[ $name == [[:upper:]][[:lower:]]* ]]; then continue; fi
    if ((before++ == 0)); then printf '\n'; fi
    help::wrap "  $name" 14 "${help_topic[$name]%%$'\n'*}"
  done
  if ((${#rows[@]} == 0)); then rows=("${options_order[@]}"); fi
  if ((${#rows[@]} > 0)); then printf '\n'; fi
  for name in "${rows[@]}"; do
    if [[ $name == '# '* ]]; then continue; fi
    "${options_hooks[spellings]}" "$name" ', ' line 1
    help::wrap "  $line" 24 "${options_help[$name]}${options_default[$name]:+ [${options_default[$name]}]}"
  done
  help::list_topics line
  if ((${#options_order[@]} > 0)); then line="an option or one of: $line"; fi
  printf '\n'
  help::wrap 'More:' 2 "--help all${line:+; --help TOPIC, with $line}"
}

# help::list_topics VARIABLE   Sets VARIABLE to the arguments and groups of options, or else the sections.
help::list_topics() {
  local topics_name topics_found='' topics_sections=''
  for topics_name in "${help_topics[@]}" "${options_order[@]}"; do
    case $topics_name in
      '# '*) topics_name=${topics_name#'# '} ;;
      [[:upper:]][[:lower:]]*)
        topics_sections+=", $topics_name"
        continue
        ;;
      *) if [[ -z ${help_topic[$topics_name]:-} ]]; then continue; fi ;;
    esac
    if [[ "$topics_found, " != *", $topics_name, "* ]]; then topics_found+=", $topics_name"; fi
  done
  topics_found=${topics_found:-$topics_sections}
  printf -v "$1" '%s' "${topics_found#, }"
}

# Prints --help all, in the form of a man page.
help::print_all() {
  local name heading=ARGUMENTS
  local -i number=0
  printf 'NAME\n'
  name=${help_texts[0]//$'\n'/ }
  help::wrap "  $help_name -" 6 "${name%%[.:] *}"
  printf '\nSYNOPSIS\n'
  help::print_synopsis '  '
  printf '\nDESCRIPTION\n'
  for name in "${help_texts[@]}"; do
    if ((number++ > 0)); then printf '\n'; fi
    help::print_text 2 "$name"
  done
  for name in "${help_topics[@]}"; do
    if [[ $name == [[:upper:]][[:lower:]]* ]]; then continue; fi
    if [[ -n $heading ]]; then printf '\n%s\n' "$heading"; fi
    heading=''
    help::print_argument "$name"
  done
  if ((${#options_order[@]} > 0)); then
    printf '\nOPTIONS\n'
    number=0
    for name in "${options_order[@]}"; do
      if [[ $name == '# '* ]] && ((number > 0)); then printf '\n'; fi
      number+=1
      help::print_row "$name"
    done
  fi
  for name in "${help_topics[@]}"; do
    if [[ $name != [[:upper:]][[:lower:]]* ]]; then continue; fi
    printf '\n%s\n' "${name^^}"
    help::print_text 2 "${help_topic[$name]}"
  done
  printf '\nVERSION\n  '
  help::print_version
}

# help::print_topic WORD   Prints a group of options, a topic of the comment, or one option. WORD may be in any case, and any unique
# beginning of a name.
help::print_topic() {
  local name found=''
  help::find found "$1"
  if [[ -z $found ]]; then
    help::list_topics name
    common::die_usage "no help on ${1@Q}: give --help all, an option, or one of: $name"
  fi
  if [[ -n ${help_topic[$found]:-} ]]; then
    for name in "${help_synopsis[@]}"; do
      if [[ "$name " == *" ${found}"[\]\ ]* || "$name " == *" [$found]"* ]]; then help::wrap Usage: 11 "$name" 7; fi
    done
    help::print_argument "$found"
  fi
  if [[ -n ${options_help[$found]:-} ]]; then help::print_row "$found"; fi
  local inside=''
  for name in "${options_order[@]}"; do
    if [[ $name == '# '* ]]; then inside=''; fi
    if [[ $name == "# $found" ]]; then inside=1; fi
    if [[ -n $inside ]]; then help::print_row "$name"; fi
  done
}

# help::find VARIABLE WORD   Sets VARIABLE to the name of a topic, a group or an option. A whole name comes before a beginning, and a topic
# before an option. A beginning must be unique. VARIABLE becomes empty if nothing is found.
help::find() {
  local -r find_word=${2,,}
  local find_name find_option=${2%%=*}
  local -a find_names=("${help_topics[@]}")
  local -A find_begun=() find_options=()
  for find_name in "${options_order[@]}"; do
    if [[ $find_name == '# '* ]]; then find_names+=("${find_name#'# '}"); fi
  done
  for find_name in "${find_names[@]}"; do
    if [[ ${find_name,,} == @("$find_word"|"--$find_word") ]]; then
      printf -v "$1" '%s' "$find_name"
      return
    fi
    if [[ ${find_name,,} == "$find_word"* ]]; then find_begun[$find_name]=1; fi
  done
  if [[ $find_option != -* ]]; then find_option=--${find_word//_/-}; fi
  for find_name in "${!options_owner[@]}"; do
    if [[ $find_name == "$find_option" ]]; then
      printf -v "$1" '%s' "${options_owner[$find_name]}"
      return
    fi
    if [[ $find_name == "$find_option"* && $find_option == --?* ]]; then find_options[${options_owner[$find_name]}]=1; fi
  done
  if ((${#find_begun[@]} == 0)); then
    find_names=("${!find_options[@]}")
  else
    find_names=("${!find_begun[@]}")
  fi
  if ((${#find_names[@]} == 1)); then printf -v "$1" '%s' "${find_names[0]}"; fi
}

# help::print_argument TOPIC   Prints TOPIC with its first line beside it.
help::print_argument() {
  local -r text=${help_topic[$1]}
  if [[ $1 == [[:upper:]][[:lower:]]* ]]; then
    printf '%s\n' "$1"
    help::print_text 2 "$text"
    return
  fi
  help::wrap "  $1" 14 "${text%%$'\n'*}"
  if [[ $text == *$'\n'* ]]; then help::print_text 14 "${text#*$'\n'}"; fi
}

# help::print_row NAME   Prints an option with all its spellings, or a heading.
help::print_row() {
  local row_names
  if [[ $1 == '# '* ]]; then
    printf ' %s:\n' "${1#'# '}"
    return
  fi
  "${options_hooks[spellings]}" "$1" ', ' row_names
  printf '  %s\n' "$row_names"
  help::wrap '' 6 "${options_help[$1]}${options_default[$1]:+ [${options_default[$1]}]}"
}

# help::print_synopsis PREFIX
help::print_synopsis() {
  local line prefix=$1
  for line in "${help_synopsis[@]}"; do
    help::wrap "${prefix% }" "$((${#1} + 4))" "$line" "${#1}"
    printf -v prefix '%*s' "${#1}" ''
  done
}

# help::print_text INDENT TEXT   Lines that begin with a space stay unchanged.
help::print_text() {
  local line text='' pad
  printf -v pad '%*s' "$1" ''
  while IFS= read -r line; do
    if [[ $line != ' '* ]]; then
      text+="${text:+ }$line"
      continue
    fi
    if [[ -n $text ]]; then help::wrap '' "$1" "$text"; fi
    text=''
    printf '%s%s\n' "$pad" "$line"
  done <<<"$2"
  if [[ -n $text ]]; then help::wrap '' "$1" "$text"; fi
}

# help::wrap PREFIX INDENT TEXT [COLUMN=INDENT]   Prints PREFIX, and TEXT from COLUMN on; further lines begin at INDENT. A PREFIX that
# reaches COLUMN is on a separate line.
help::wrap() {
  local line=$1 word pad
  local -i begun=0 column=${4:-$2}
  local -a words
  printf -v pad '%*s' "$2" ''
  read -ra words <<<"${3//$'\n'/ }"
  if [[ -z $line ]] || ((${#line} < column)); then
    printf -v word '%*s' "$((column - ${#line}))" '' # printf itself counts bytes
    line+=$word
  elif ((column > 10)); then
    printf '%s\n' "$line"
    line=$pad
  else
    line+=' '
  fi
  for word in "${words[@]}"; do
    if ((begun > 0 && ${#line} + 1 + ${#word} > help_width)); then
      printf '%s\n' "$line"
      line=$pad begun=0
    fi
    if ((begun++ > 0)); then line+=' '; fi
    line+=$word
  done
  printf '%s\n' "$line"
}
