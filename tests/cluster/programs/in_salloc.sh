#!/usr/bin/env bash
# in_salloc.sh STATUS COMMAND...
#
# salloc runs it as the user's shell. COMMAND must exit with STATUS. Then it prints the allocation's id and state, and the folders that are
# left on its nodes.
set -uo pipefail

"${@:2}"
status=$?
((status == $1)) || echo "status $status, not $1"
printf 'allocation %s %s\n' "$SLURM_JOB_ID" "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)"
find "$POCKET_CLUSTER_DIR/disks" "$POCKET_CLUSTER_DIR/localscratch" -mindepth 1 -name "*_${SLURM_JOB_ID}_*"
