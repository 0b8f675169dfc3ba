# shellcheck shell=bash
# Records what the job uses on this node: attempt_K/usage_NODE.tsv (usage.py).

declare -gA fact+=()

# usage::start KIT ATTEMPT_DIRECTORY   Starts one process on each node, which ends with this one. It holds nothing that others wait
# for, ignores signals, and its failure must never fail the job.
usage::start() {
  local -r seconds=${HPC_USAGE_SECONDS:-10}
  local python
  if ((${SLURM_LOCALID:?} != 0)); then return; fi
  (
    trap '' TERM INT HUP QUIT USR1 USR2 ABRT
    if ! python=$(common::own_python 6 ${fact[environment]:+"${fact[environment]}/bin/python"}); then
      common::note "$(common::node): no python3 of 3.6 or later here: the use of CPU, memory and GPUs is not measured"
      exit
    fi
    exec nice "$python" -I -S "$1/hpc/job/usage.py" "$2/usage_$(common::node).tsv" "$$" "$PPID" "${SLURM_JOB_ID:?}" "$seconds" 2>/dev/null
  ) </dev/null >/dev/null &
}
