# shellcheck shell=bash
# What the job uses on this node, written down beside it: attempt_K/usage_NODE.tsv (usage.py).

# usage::start KIT ATTEMPT_DIRECTORY   One process a node, which ends with this one. It holds nothing that others wait for,
# heeds no signal, and that it fails is nothing for a job to fail by.
usage::start() {
  local -r seconds=${HPC_USAGE_SECONDS:-10}
  if ((${SLURM_LOCALID:?} != 0)) || ! common::has_command python3; then return; fi
  (
    trap '' TERM INT HUP QUIT USR1 USR2 ABRT
    exec python3 -I -S "$1/hpc/job/usage.py" "$2/usage_$(common::node).tsv" "$$" "$PPID" "${SLURM_JOB_ID:?}" "$seconds"
  ) </dev/null >/dev/null 2>&1 &
}
