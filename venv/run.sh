#!/usr/bin/env bash
# venv/run.sh COMMAND [ARGUMENT...]
#
# Runs COMMAND inside the project's virtual environment, and becomes it. Called on every node by
# hpc/job/node.sh, which names the environment in VIRTUAL_ENV_DIRECTORY, and by people, for whom it is the
# one that fits the project's requirements as they are.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$here/environment.sh"

(($# > 0)) || common::die_usage "no command: bash venv/run.sh python -m train"

directory=${VIRTUAL_ENV_DIRECTORY:-}
if [[ -z $directory ]]; then
  directory=$(environment::find "$project") ||
    common::die "no environment for $(environment::requirements "$project"): run  bash ${here@Q}/create.sh"
fi
[[ -x $directory/bin/python ]] ||
  common::die "no python in the environment ${directory@Q} on $(uname -n): make it again by the project's venv/create.sh, where all nodes see it"

# What activate does, without sourcing a script that prompts and knows only interactive shells.
export VIRTUAL_ENV=$directory PATH=$directory/bin:$PATH
unset PYTHONHOME
exec "$@"
