# shellcheck shell=bash
# A folder of the job on each node's own disk. Sites like those of the Alliance make one, in SLURM_TMPDIR;
# elsewhere (PLAI) batch.sh makes it before the ranks start and removes it at the end. Needs common.sh
# and run_directory.sh.

declare -gA fact

local_disk::make() {
  if [[ -n ${SLURM_TMPDIR:-} ]]; then return; fi
  local -r name=$(id -un)_${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}_${SLURM_ARRAY_TASK_ID:-0}
  export SLURM_TMPDIR=${fact[node_local_directory]}/$name
  made_local_disk=$SLURM_TMPDIR
  # In the background: a srun in the foreground would keep a cancelled job from clearing up in time.
  local_disk::on_each_node mkdir -p -m 700 -- "$SLURM_TMPDIR" &
  wait "$!" ||
    common::die "cannot make ${SLURM_TMPDIR@Q} on every node: the profile's node_local_directory must be there and writable"
}

local_disk::remove() {
  if [[ -z ${made_local_disk:-} ]]; then return; fi
  # This node first: a cancelled job gets no further step, and srun may ask for one until the job is killed.
  rm -rf -- "$made_local_disk" || true
  if ((fact[nodes] > 1)) && ! local_disk::on_each_node rm -rf -- "$made_local_disk"; then
    common::warn "could not remove ${made_local_disk@Q} on the other nodes of the job: hpc/clean_nodes.sh does"
  fi
}

local_disk::on_each_node() {
  srun --nodes="${fact[nodes]}" --ntasks="${fact[nodes]}" --ntasks-per-node=1 --cpus-per-task=1 --mem=0 --overlap "$@"
}
