# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `condo` of the pocket cluster (hpc/pocket_cluster/README.md), as oscer.sh is for a real one.

site[partition]=gpu               # the default one has no GPUs
site[gpu_type_request]=constraint # a100, v100
site[time_maximum]=2-00:00:00
