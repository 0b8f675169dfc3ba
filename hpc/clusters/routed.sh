# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `routed` of the pocket cluster (hpc/pocket_cluster/README.md), as fir.sh and its like are for real ones.

site[gpu_type]=h100
site[forbidden]=partition # a plugin chooses the partition by time and GPUs
site[required]='account time'
site[time_maximum]=7-00:00:00
site[max_submit]=10
