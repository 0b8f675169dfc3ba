#!/usr/bin/env bash
# Slurm runs copies of this, called prolog, task_prolog and epilog, on each node of each job. The prolog and the epilog run as the
# owner of slurmd. The task_prolog runs as the user before each task; Slurm takes `export` lines from its output.
set -euo pipefail

# The copies are in POCKET_CLUSTER_DIR/etc.
directory=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
disk=$directory/localscratch
if grep -qx network=loopback -- "$directory/cluster"; then
  disk+=/${SLURMD_NODENAME:?}
fi
job_folder=$disk/${SLURM_JOB_USER:?}.${SLURM_JOB_ID:?}.0

case ${BASH_SOURCE[0]##*/} in
  prolog)
    rm -rf --one-file-system -- "$job_folder"
    mkdir -m 700 -- "$job_folder"
    chown -- "$SLURM_JOB_USER:" "$job_folder"
    ;;
  task_prolog)
    # `down` uses it to find processes that a job left running.
    printf 'export POCKET_CLUSTER_JOB=%s\n' "$directory"
    if [[ -d $job_folder ]]; then
      printf 'export SLURM_TMPDIR=%s\n' "$job_folder"
    fi
    ;;
  epilog)
    # A status other than 0 would drain the node; a folder that cannot be removed must not do that.
    chmod -R u+rwX -- "$job_folder" 2>/dev/null || true
    rm -rf --one-file-system -- "$job_folder" || true
    ;;
esac
