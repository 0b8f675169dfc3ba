# shellcheck shell=bash
# Completion of job_submitter.sh's options and their values, and of experiments.sh's commands, options, jobs and names of
# experiments (the newest 200 runs below SCRATCH). Add to ~/.bashrc:
#
#   source PROJECT/hpc/completion.bash
#
# The words come from the option table of the submitter that stands on the command line, in a process of its
# own: nothing of the kit enters the interactive shell but what stands here.

hpc_completion_kit=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# hpc_completion::table KIT   "SPELLING KIND", one a line.
hpc_completion::table() (
  set -euo pipefail
  declare -A options_owner options_kind # of options.sh
  for library in lib/common lib/checks lib/options job_submitter/option_table; do
    # shellcheck source=/dev/null
    source "$1/$library.sh"
  done
  option_table::define
  for spelling in "${!options_owner[@]}"; do
    printf '%s %s\n' "$spelling" "${options_kind[${options_owner[$spelling]}]}"
  done
)

# Called by readline: fills COMPREPLY for the word COMP_CWORD of COMP_WORDS.
hpc_completion::complete() {
  local word=${COMP_WORDS[COMP_CWORD]} option='' kit=$hpc_completion_kit script=${COMP_WORDS[0]}
  local spelling kind
  local -A kind_of=()
  COMPREPLY=()
  local -i first=1
  # `bash job_submitter.sh …`; any other script of bash's gets file names, as without us.
  if [[ ${script##*/} == bash ]]; then
    script=${COMP_WORDS[1]} first=2
    if [[ ${script##*/} != @(job_submitter|experiments).sh ]] || ((COMP_CWORD < 2)); then return; fi
  fi
  script=${script/#\~\//$HOME/}
  if [[ ${script##*/} == experiments.sh ]]; then
    if [[ $script == */* && -r $script ]]; then kit=${script%/*}; fi
    mapfile -t COMPREPLY < <(compgen -W "$(hpc_completion::experiments "$kit" "$first" "$word")" -- "$word")
    return
  fi
  if [[ $script == */* && -r ${script%/*}/job_submitter/option_table.sh ]]; then kit=${script%/*}; fi
  while read -r spelling kind; do kind_of[$spelling]=$kind; done < <(hpc_completion::table "$kit" 2>/dev/null)

  # Readline cuts --option=value into three words.
  if [[ $word == '=' ]]; then
    word='' option=${COMP_WORDS[COMP_CWORD - 1]}
  elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == '=' ]]; then
    option=${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $word != -* ]]; then
    option=$(hpc_completion::option_of_value)
  fi
  kind=${kind_of[${option:-none}]:-flag}
  case $kind in
    flag) mapfile -t COMPREPLY < <(compgen -W "${!kind_of[*]}" -- "$word" | LC_ALL=C sort) ;;
    choice\ *) mapfile -t COMPREPLY < <(compgen -W "${kind#choice }" -- "$word") ;;
    path | list)
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      compopt -o filenames 2>/dev/null || true # outside of readline there is nothing to set
      ;;
    *) compopt +o default +o bashdefault 2>/dev/null || true ;; # a number or a name: nothing to offer
  esac
}

# hpc_completion::experiments KIT FIRST WORD   What may stand for WORD: the usage is in the lines `# experiments.sh COMMAND …` at the
# head of the script.
hpc_completion::experiments() {
  local command=${COMP_WORDS[$2]} usage
  usage=$(sed -n '/^set/q; s/^# experiments\.sh \[*\([a-z]*\)\]*/\1/p' "$1/experiments.sh")
  if ((COMP_CWORD == $2)) && [[ $3 != -* ]]; then
    cut -d ' ' -f 1 <<<"$usage"
    return
  fi
  if [[ $command == -* ]]; then command=list; fi
  if [[ $3 == -* ]]; then
    grep "^$command " <<<"$usage" | grep -o -e '--[a-z-]*'
  elif grep -q "^$command .*JOB" <<<"$usage"; then
    hpc_completion::runs "$(CDPATH='' cd -- "$1/.." && pwd)"
  fi
}

# hpc_completion::runs PROJECT   Jobs and experiments of its newest runs; a name with a space is no word.
hpc_completion::runs() {
  local -r outputs=${SCRATCH:-}/${1##*/}/hpc_outputs
  find "$outputs" -maxdepth 1 -name '[!.]*_*-*_*' -printf '%T@ %f\n' 2>/dev/null | LC_ALL=C sort -rn | awk 'NR <= 200' | while read -r _ run; do
    cat -- "$outputs/$run/job_id" 2>/dev/null
    run=${run%_*_*}
    if [[ $run != *[[:space:]]* ]]; then printf '%s\n' "$run"; fi
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

complete -o bashdefault -o default -F hpc_completion::complete job_submitter.sh experiments.sh bash
