# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `no-gres` of the pocket cluster (hpc/pocket_cluster/README.md), as vista.sh is for a real one.

source "$site_clusters/pocket.sh"
site[partition]=gh
site[gpu_request]=partition # Slurm there knows no GPUs: the partition has them
site[gpus_per_node]=1
site[gpu_counts]=1
site[memory_request]=none
site[forbidden]='mem mem_per_gpu' # jobs have all the memory of their nodes
site[max_submit]=3
