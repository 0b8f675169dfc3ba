# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The shape `lownoise` of the pocket cluster (hpc/pocket_cluster/README.md), as frontier.sh and lumi.sh are for real ones.

site[gpu_type_request]=none
site[whole_nodes]=yes
site[usable_cpus]=56 # of 64: eight are the system's
site[required]=account
site[time_maximum]='2:2:00:00 3:6:00:00 12:00:00'
site[local_disk_request]=constraint=nvme
site[node_local_directory]=/mnt/bb/$(id -un)
site[interface]=hsn0
