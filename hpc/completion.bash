# shellcheck shell=bash
# Completion of job_submitter.sh's options and their values. Add to ~/.bashrc:
#
#   source PROJECT/hpc/completion.bash
#
# The words come from the option table of the submitter that stands on the command line, in a process of its
# own: nothing of the kit enters the interactive shell but what stands here.

hpc_completion_kit=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# hpc_completion::table KIT   "SPELLING KIND", one a line.
hpc_completion::table() (
  set -euo pipefail
  for library in lib/common lib/checks lib/options job_submitter/option_table; do
    # shellcheck source=/dev/null
    source "$1/$library.sh"
  done
  option_table::define
  # shellcheck disable=SC2154 # options.sh has them
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
  # `bash job_submitter.sh …`; any other script of bash's gets file names, as without us.
  if [[ ${script##*/} == bash ]]; then
    script=${COMP_WORDS[1]}
    if [[ ${script##*/} != job_submitter.sh ]] || ((COMP_CWORD < 2)); then return; fi
  fi
  script=${script/#\~\//$HOME/}
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

complete -o bashdefault -o default -F hpc_completion::complete job_submitter.sh bash
