#!/bin/bash
# handwritten.sh ENVIRONMENT PROGRAM
#
# The peer of the start-up benchmark: a batch script as people write it, following the OSCER tutorial.
# shellcheck source=/dev/null
source "$1/bin/activate"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_address=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address)
head_address=${head_address%% *} # there may be several

srun torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc_per_node 2 \
  --rdzv_id "$SLURM_JOB_ID" \
  --rdzv_backend c10d \
  --rdzv_endpoint "$head_address:29500" \
  "$2"
