# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `all-or-nothing` of the pocket cluster (hpc/pocket_cluster/README.md), as tamia.sh is for the real one.

site[whole_nodes]=yes
site[gpu_counts]='h100:4 h200:8' # a job takes all GPUs of each node
site[gpu_type]=h100
site[required]=account # aip-…
site[time_maximum]=1-00:00:00
site[internet]=no
