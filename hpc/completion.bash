# shellcheck shell=bash
# Completion of job_submitter.sh's options and their values, and of experiments.sh's commands, options and jobs; of both, the names
# of experiments (the newest 200 runs below SCRATCH). Add to ~/.bashrc:
#
#   source PROJECT/hpc/completion.bash
#
# For zsh and fish there are completion.zsh and completion.fish, which run this file:  bash completion.bash WORD...
#
# The words come from the option table of the submitter that stands on the command line, in a process of its
# own: nothing of the kit enters the interactive shell but what stands here.

hpc_completion_kit=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# hpc_completion::table KIT   "SPELLING<tab>KIND<tab>HELP", one a line.
hpc_completion::table() (
  set -euo pipefail
  declare -A options_owner options_kind options_help # of options.sh
  declare -a options_order
  for library in lib/common lib/checks lib/options job_submitter/option_table; do
    # shellcheck source=/dev/null
    source "$1/$library.sh"
  done
  option_table::define
  for name in "${options_order[@]}"; do
    if [[ $name == '# '* ]]; then options_kind[help]+=" ${name#'# '}"; fi
  done
  options_kind[help]=${options_kind[help]/text/choice} # a topic
  for spelling in "${!options_owner[@]}"; do
    name=${options_owner[$spelling]}
    printf '%s\t%s\t%s\n' "$spelling" "${options_kind[$name]}" "${options_help[$name]}"
  done
)

# hpc_completion::find   What may stand for the word COMP_CWORD of COMP_WORDS: fills the caller's found (WORD -> its help), or sets the
# caller's files where it is the name of a file, or nothing where only the user knows.
hpc_completion::find() {
  local word=${COMP_WORDS[COMP_CWORD]} option='' kit=$hpc_completion_kit script=${COMP_WORDS[0]}
  local spelling kind text
  local -A kind_of=() help_of=()
  local -i first=1
  local -r named=--exp-name
  found=() files=''
  # `bash job_submitter.sh …`; any other script of bash's gets file names, as without us.
  if [[ ${script##*/} == bash ]]; then
    script=${COMP_WORDS[1]} first=2
    if [[ ${script##*/} != @(job_submitter|experiments).sh ]] || ((COMP_CWORD < 2)); then
      files=default
      return
    fi
  fi
  script=${script/#\~\//$HOME/}
  if [[ ${script##*/} == experiments.sh ]]; then
    if [[ $script == */* && -r $script ]]; then kit=${script%/*}; fi
    while IFS=$'\t' read -r spelling text; do found[$spelling]=$text; done < <(hpc_completion::experiments "$kit" "$first" "$word")
    return
  fi
  if [[ $script == */* && -r ${script%/*}/job_submitter/option_table.sh ]]; then kit=${script%/*}; fi
  while IFS=$'\t' read -r spelling kind text; do
    kind_of[$spelling]=$kind help_of[$spelling]=$text
  done < <(hpc_completion::table "$kit" 2>/dev/null)

  # Readline cuts --option=value into three words.
  if [[ $word == '=' ]]; then
    option=${COMP_WORDS[COMP_CWORD - 1]}
  elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == '=' ]]; then
    option=${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $word != -* ]]; then
    option=$(hpc_completion::option_of_value)
  fi
  kind=${kind_of[${option:-none}]:-flag}
  case ${kind#optional } in
    flag) for spelling in "${!kind_of[@]}"; do found[$spelling]=${help_of[$spelling]}; done ;;
    choice\ *) for spelling in ${kind##*choice }; do found[$spelling]=''; done ;;
    path | list) files=1 ;;
    *)
      if [[ ${help_of[$option]} == "${help_of[$named]}" ]]; then
        while read -r spelling; do found[$spelling]=''; done < <(hpc_completion::runs "$(CDPATH='' cd -- "$kit/.." && pwd)" names)
      else
        files=none # a number or another name
      fi
      ;;
  esac
}

# Called by readline: fills COMPREPLY.
hpc_completion::complete() {
  local word=${COMP_WORDS[COMP_CWORD]} files spelling
  local -A found
  if [[ $word == '=' ]]; then word=''; fi
  COMPREPLY=()
  hpc_completion::find
  case $files in
    default) ;;
    none) compopt +o default +o bashdefault 2>/dev/null || true ;;
    1)
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      compopt -o filenames 2>/dev/null || true # outside of readline there is nothing to set
      ;;
    *)
      # Not compgen -W, which expands its words as a shell would.
      mapfile -t COMPREPLY < <(for spelling in "${!found[@]}"; do if [[ $spelling == "$word"* ]]; then printf '%s\n' "$spelling"; fi; done | LC_ALL=C sort)
      ;;
  esac
}

# hpc_completion::print WORD...   For other shells: the words of the line up to the cursor. Prints "WORD<tab>HELP", one a line; the status is 3
# where the last word is the name of a file.
hpc_completion::print() {
  local -a COMP_WORDS=("$@")
  local COMP_CWORD=$(($# - 1)) files before='' spelling word
  local -A found
  # They leave --option=value in one piece.
  word=${COMP_WORDS[COMP_CWORD]}
  if [[ $word == --*=* ]]; then
    before=${word%%=*}=
    COMP_WORDS=("${COMP_WORDS[@]:0:COMP_CWORD}" "${word%%=*}" '=' "${word#*=}")
    COMP_CWORD=$((COMP_CWORD + 2)) word=${word#*=}
  fi
  hpc_completion::find
  if [[ $files == @(1|default) ]]; then return 3; fi
  for spelling in "${!found[@]}"; do
    if [[ $spelling == "$word"* ]]; then printf '%s%s\t%s\n' "$before" "$spelling" "${found[$spelling]}"; fi
  done | LC_ALL=C sort
}

# hpc_completion::experiments KIT FIRST WORD   What may stand for WORD: the head of the script has the forms of each command, and in a line
# `# COMMAND: …` what it does.
hpc_completion::experiments() {
  local command=${COMP_WORDS[$2]} usage
  usage=$(sed -n '/^set/q; s/^# experiments\.sh \[*\([a-z]*\)\]*/\1/p' "$1/experiments.sh")
  if ((COMP_CWORD == $2)) && [[ $3 != -* ]]; then
    sed -n '/^set/q; s/^# \([a-z]*\): \(.*\)/\1\t\2/p' "$1/experiments.sh"
    return
  fi
  if [[ $command == -* ]]; then command=list; fi
  if [[ $3 == -* ]]; then
    grep "^$command " <<<"$usage" | grep -o -e '--[a-z-]*'
  elif grep -q "^$command .*JOB" <<<"$usage"; then
    hpc_completion::runs "$(CDPATH='' cd -- "$1/.." && pwd)"
  fi
}

# hpc_completion::runs PROJECT [names]   Jobs and experiments of its newest runs, or the experiments alone; not names that
# a shell would not read as one plain word.
hpc_completion::runs() {
  local -r outputs=${SCRATCH:-}/${1##*/}/hpc_outputs
  find "$outputs" -maxdepth 1 -name '[!.]*_*-*_*' -printf '%T@ %f\n' 2>/dev/null | LC_ALL=C sort -rn | awk 'NR <= 200' | while read -r _ run; do
    if [[ -z ${2:-} ]]; then cat -- "$outputs/$run/job_id" 2>/dev/null; fi
    run=${run%_*_*}
    if [[ $run =~ ^[[:alnum:]._-]+$ ]]; then printf '%s\n' "$run"; fi
  done
}

# The option whose value the word would be: the word before it, or for a list the last option.
hpc_completion::option_of_value() {
  local -i i
  for ((i = COMP_CWORD - 1; i > 0; i--)); do
    spelling=${COMP_WORDS[i]}
    if [[ $spelling == -* ]]; then
      if ((i == COMP_CWORD - 1)) || [[ ${kind_of[$spelling]:-} == list ]]; then printf '%s\n' "$spelling"; fi
      return
    fi
  done
}

if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
  complete -o bashdefault -o default -F hpc_completion::complete job_submitter.sh experiments.sh bash
elif (($# > 0)); then
  hpc_completion::print "$@"
fi
