# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `foreign-launcher` of the pocket cluster (hpc/pocket_cluster/README.md), as juwels.sh is for a real one.

source "$site_clusters/pocket.sh"
site[gpu_request]=gres
site[gpu_type_request]=none
site[whole_nodes]=yes
site[required]=account
site[interface]=ib0
site[head_address]=suffix=i # jwb0001i is the address of jwb0001 that other nodes reach
