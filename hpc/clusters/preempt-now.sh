# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `preempt-now` of the pocket cluster (hpc/pocket_cluster/README.md), as mila.sh is for a real one. --gpu-type takes a
# model (a100l) or an amount of memory (48gb). Jobs in main and long are preempted without notice: save often.

site[partition]=main
site[gpu_request]=gres # --gpus-per-node=48gb:1 would come back in each srun of the job
site[time_maximum]=5-00:00:00
