# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `account-at` of the pocket cluster (hpc/pocket_cluster/README.md), as jeanzay.sh is for the real one.

source "$site_clusters/pocket.sh"
site[gpu_request]=gres
site[gpu_type_request]=constraint
site[memory_request]=none
site[forbidden]='mem mem_per_gpu' # memory comes with the CPUs
site[required]=account            # abc@v100 or abc@h100, by the kind of GPU
site[time_maximum]=100:00:00
site[internet]=no
