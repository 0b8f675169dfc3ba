#!/usr/bin/env bash
# sweep_agent.sh SWEEP
#
# Run by lib/sweep.sh on the job's head node, inside the environment of the program: becomes W&B's agent, for one run.
# The programs of hpc/job/shims come first for what it starts.
set -euo pipefail
shopt -s inherit_errexit

python=$(command -v python) || {
  printf 'sweep_agent.sh: error: no python in the environment\n' >&2
  exit 1
}
# Its own folder: not where the program's runs are looked for.
export WANDB_DIR=${OUTPUT_PATH%/output}/agent
PATH=${RUN_DIRECTORY:?}/kit/hpc/job/shims:$PATH exec "$python" -m wandb agent --forward-signals --count 1 "$1"
