# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Frontier, of the OLCF. Source: the OLCF user documentation, Frontier user guide and PyTorch on Frontier (read on 2026-11-28).
# Not tried on the site. A GPU is one of the eight GCDs of a node. SCRATCH is not set: it is
# /lustre/orion/PROJECT/scratch/NAME.

site[gpu_request]=none # a node comes with its eight GCDs
site[gpus_per_node]=8
site[memory_request]=none
site[whole_nodes]=yes
site[usable_cpus]=56 # of 64: eight are the system's
site[required]=account
site[time_maximum]='91:2:00:00 183:6:00:00 12:00:00'
site[max_submit]=100
site[local_disk_request]=constraint=nvme
site[node_local_directory]=/mnt/bb/$(id -un)
site[launcher]=srun # the OLCF advises against torchrun
site[interface]=hsn0
