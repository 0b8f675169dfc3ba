# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `cloud-elastic` of the pocket cluster (hpc/pocket_cluster/README.md). Memory is not scheduled there: ask for none.

source "$site_clusters/pocket.sh"
site[gpus_per_node]=4
site[memory_request]=none
