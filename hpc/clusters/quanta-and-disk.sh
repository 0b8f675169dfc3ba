# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `quanta-and-disk` of the pocket cluster (hpc/pocket_cluster/README.md), as leonardo.sh and snellius.sh are for real ones.

site[gpu_request]=gres
site[gpu_type_request]=none
site[gpus_per_node]=4
site[quanta]='4 16000M refused' # quarters of a node
site[local_disk_request]=gres=tmpfs:10g
site[node_local_directory]=/mnt/scratch/$(id -un)
site[time_maximum]=1-00:00:00
site[internet]=no
