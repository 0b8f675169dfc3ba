# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Snellius, of SURF. Source: SURF's wiki, pages SLURM batch system and Snellius partitions (read on 2026-11-28). Not tried on the
# site. The partition gpu_h100 has 16 cores and 180 GiB with each GPU.

site[partition]=gpu_a100
site[gpu_type_request]=partition # gpu_a100, gpu_h100
site[gpus_per_node]=4
site[quanta]='18 120G billed' # quarters of a node
site[time_maximum]=5-00:00:00
site[scratch]=/scratch-shared/$(id -un)
