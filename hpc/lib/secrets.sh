# shellcheck shell=bash
# Secrets of the program. They are read on the node, inside the job, and go only into the environment of the program:
# never at submission, never into an argument or a file. No `set -x` here.

# secrets::export PROJECT   A variable that is set already keeps its value.
secrets::export() {
  if [[ ! -x $1 ]]; then common::warn "$(common::node) cannot read ${1@Q}, and so not its .env: export what it says before you submit, or put the project where all nodes see it"; fi
  dotenv::each "$1/.env" secrets::export_unless_set
  secrets::export_wandb_key
}

secrets::export_unless_set() {
  local secrets_shown
  secrets_shown=$(declare -p -- "$1" 2>/dev/null) || { export "$1=$2" && return; }
  if [[ ${secrets_shown%%=*} != 'declare -'*x*' '* ]]; then common::warn "$1 is a variable of the kit's own: the one of .env is ignored; give it another name"; fi
}

# Reads only those lines of .env that concern the submission: the rest may be secret, and the job reads it on its nodes.
secrets::take_setting() {
  if [[ $1 == SCRATCH || $1 == HPC_* ]]; then secrets::export_unless_set "$@"; fi
}

# System 004 kept the key in this file; netrc is read by wandb itself.
secrets::export_wandb_key() {
  local -r file=${HOME:-}/wandb_credentials.txt
  local key=''
  if [[ -n ${WANDB_API_KEY:-} || ! -r $file ]]; then return; fi
  read -r key <"$file" || true
  if [[ $key =~ ^[[:graph:]]{20,}$ ]]; then
    export WANDB_API_KEY=$key
  else
    common::warn "$file does not begin with a W&B key: it is ignored"
  fi
}
