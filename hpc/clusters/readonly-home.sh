# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `readonly-home` of the pocket cluster (hpc/pocket_cluster/README.md), as trillium.sh is for the real one.

source "$site_clusters/pocket.sh"
site[gpu_counts]='1 4' # several nodes have four each
site[memory_request]=none
site[ignored]='mem mem_per_gpu' # memory comes with the GPUs
site[time_minimum]=15
site[time_maximum]=1-00:00:00
site[sbatch_on_nodes]=no
site[internet]=no
