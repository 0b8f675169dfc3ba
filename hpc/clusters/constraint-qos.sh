# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `constraint-qos` of the pocket cluster (hpc/pocket_cluster/README.md), as perlmutter.sh is for the real one.

source "$site_clusters/pocket.sh"
site[constraint]=gpu
site[gpu_type_request]=constraint   # hbm80g: -C 'gpu&hbm80g'
site[required]='account constraint' # accounts for GPUs end with _g
site[whole_nodes]=yes
site[threads_per_core]=2
site[interface]=hsn0
