#!/usr/bin/env bash
# sweep_agent.sh SWEEP
#
# lib/sweep.sh runs it on the job's head node, inside the environment of the program. It becomes W&B's agent, for one run.
# The agent finds the programs of hpc/job/shims first.
set -euo pipefail
shopt -s inherit_errexit

python=$(command -v python) || {
  printf 'sweep_agent.sh: error: no python in the environment\n' >&2
  exit 1
}
# The agent has its own folder, because the program's runs are searched for in the task's folder.
export WANDB_DIR=${OUTPUT_PATH%/output}/agent
PATH=${RUN_DIRECTORY:?}/kit/hpc/job/shims:$PATH exec "$python" -m wandb agent --forward-signals --count 1 "$1"
