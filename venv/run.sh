#!/usr/bin/env bash
# venv/run.sh COMMAND [ARGUMENT...]
#
# Runs COMMAND in the project's virtual environment, and becomes it.
#
# hpc/job/node.sh calls it on every node, and names the environment in VIRTUAL_ENV_DIRECTORY. People can call it too: without that
# variable it takes the environment for the project's requirements as they are.
#
# Exit status: that of COMMAND.
#
# See also: venv/create.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$here/environment.sh"

if [[ ${1:-} == -* ]]; then
  source "$project/hpc/lib/help.sh"
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
fi
(($# > 0)) || common::die_usage "no command: bash venv/run.sh python -m train"

directory=${VIRTUAL_ENV_DIRECTORY:-}
if [[ -z $directory ]]; then
  directory=$(environment::find "$project") ||
    common::die "no environment for $(environment::requirements "$project"): run  bash ${here@Q}/create.sh"
fi
[[ -x $directory/bin/python ]] ||
  common::die "no python in the environment ${directory@Q} on $(uname -n): make it again by the project's venv/create.sh, where all nodes see it"

if [[ -r $directory/.machine ]]; then
  made_for=$(<"$directory/.machine") machine=$(environment::machine)
  advice="make one there (bash venv/create.sh), and submit with --environment, or keep to one kind of node (--constraint, --partition)"
  if [[ ${made_for%%,*} != "${machine%%,*}" ]]; then
    common::die "the environment ${directory@Q} is for $made_for, and $(uname -n) is $machine: $advice"
  elif [[ $made_for != "$machine" ]]; then
    common::warn "the environment ${directory@Q} is for $made_for, and $(uname -n) is $machine: if a package cannot be loaded, $advice"
  fi
fi
environment::activate "$directory"
exec "$@"
