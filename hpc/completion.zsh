# Completion for zsh, as completion.bash has it for bash, which is asked for the words. Add to ~/.zshrc:
#
#   autoload -Uz compinit && compinit
#   source PROJECT/hpc/completion.zsh

if ! (($+functions[compdef])); then
  print -r -u 2 -- "${${(%):-%x}:t}: zsh's completion is not on: put this line before it into ~/.zshrc:  autoload -Uz compinit && compinit"
  return 1
fi

typeset -g hpc_completion_kit=${${(%):-%x}:A:h}
typeset -g hpc_completion_bash=${_comps[bash]:-_default} # what completes other scripts of bash's

_hpc_completion() {
  local answer
  local -a lines names shown
  answer=$(bash -- "$hpc_completion_kit/completion.bash" "${(@Q)words[1,CURRENT - 1]}" "${(Q)PREFIX}" 2>/dev/null)
  if (($? == 3)); then
    compset -P '--*='
    _files
    return
  fi
  if [[ -z $answer ]]; then return 1; fi
  lines=("${(@f)answer}")
  names=("${(@)lines%%$'\t'*}")
  shown=("${(@)lines/$'\t'/  }")
  compadd -l -d shown -a -- names
}

_hpc_completion_of_bash() {
  if ((CURRENT > 2)) && [[ ${(Q)words[2]:t} == (job_submitter|experiments).sh ]]; then
    _hpc_completion
  else
    $hpc_completion_bash
  fi
}

compdef _hpc_completion job_submitter.sh experiments.sh
compdef _hpc_completion_of_bash bash
