# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Perlmutter, of NERSC. Source: NERSC's documentation, page Jobs (read on 2026-11-28), and public job scripts. Not tried on the
# site. Accounts for GPUs end in _g. Without --qos regular a job is of the QOS debug.

site[constraint]=gpu
site[gpu_type_request]=constraint # hbm80g: -C 'gpu&hbm80g'
site[gpus_per_node]=4
site[required]='account constraint' # -C gpu, or cpu for jobs without GPUs
site[threads_per_core]=2
site[scratch]='$PSCRATCH' # sbatch refuses jobs of those who are over a quota
site[interface]=hsn0
