# shellcheck shell=bash
# What a program may need to know and nobody else may see. Read on the node, inside the job, into the
# environment of the program alone: never at submission, never into an argument or a file. No `set -x`
# here. Needs common.sh.

# secrets::export PROJECT   What the environment has already comes first.
secrets::export() {
  dotenv::each "$1/.env" secrets::export_unless_set
  secrets::export_wandb_key
}

secrets::export_unless_set() {
  if [[ -z ${!1+set} ]]; then export "$1=$2"; fi
}

# Of .env only what concerns the submission: the rest may be secret, and the job reads it on its nodes.
secrets::take_setting() {
  if [[ $1 == SCRATCH || $1 == HPC_* ]]; then secrets::export_unless_set "$@"; fi
}

# System 004 kept the key in this file; netrc is read by wandb itself.
secrets::export_wandb_key() {
  local -r file=$HOME/wandb_credentials.txt
  local key=''
  if [[ -n ${WANDB_API_KEY:-} || ! -r $file ]]; then return; fi
  read -r key <"$file" || true
  if [[ $key =~ ^[[:graph:]]{20,}$ ]]; then
    export WANDB_API_KEY=$key
  else
    common::warn "$file does not begin with a W&B key: it is left aside"
  fi
}

# dotenv::each FILE COMMAND   Calls COMMAND NAME VALUE for each line NAME=VALUE. The file is data: nothing
# in it is executed or replaced. Values may be quoted; a line that is neither is told by its number only.
dotenv::each() {
  local -r file=$1 command=$2
  local line name value
  local -i number=0
  if [[ ! -r $file ]]; then return; fi
  while IFS= read -r line || [[ -n $line ]]; do
    number+=1
    line=${line%$'\r'}
    if [[ $line =~ ^[[:blank:]]*(#|$) ]]; then continue; fi
    if [[ ! $line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:blank:]]*=[[:blank:]]*(.*)$ ]]; then
      common::warn "$file, line $number is not NAME=VALUE: it is left aside"
      continue
    fi
    name=${BASH_REMATCH[2]}
    value=${BASH_REMATCH[3]}
    if [[ $value =~ ^\'([^\']*)\'[[:blank:]]*(#.*)?$ || $value =~ ^\"([^\"]*)\"[[:blank:]]*(#.*)?$ ]]; then
      value=${BASH_REMATCH[1]}
    else
      value=${value%%[[:blank:]]#*}
      value=${value%"${value##*[![:blank:]]}"}
    fi
    "$command" "$name" "$value"
  done <"$file"
}
