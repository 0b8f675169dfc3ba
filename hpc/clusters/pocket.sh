# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The pocket cluster (hpc/pocket_cluster.sh). Its nodes' own disks:

site[node_local_directory]=${POCKET_CLUSTER_DIR:?run  eval \"\$(bash hpc/pocket_cluster.sh env)\"}/localscratch
