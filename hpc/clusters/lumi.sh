# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# LUMI-G. Source: the LUMI user guide, Scheduled jobs (read on 2026-11-28). Not tried on the site. A GPU is one of the eight
# GCDs of a node. Accounts: project_N; SCRATCH is not set: export SCRATCH=/scratch/project_N/NAME. /tmp is memory, and counts.

site[gpu_type_request]=none
site[gpus_per_node]=8
site[usable_cpus]=56               # of 64: eight are the system's
site[required]='account partition' # standard-g, small-g or dev-g
site[time_maximum]='4:3-00:00:00 1024:2-00:00:00'
site[max_submit]=210
site[interface]=hsn0,hsn1,hsn2,hsn3
