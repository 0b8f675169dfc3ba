# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# hosts: *.vista.tacc.utexas.edu
# Vista, of TACC. Source: TACC's documentation, Vista user guide (read on 2026-11-28). Not tried on the site. Its nodes are Arm
# machines with one GPU each: the partition gh. Those who have several projects name one by --account.

site[partition]=gh
site[gpu_request]=partition # Slurm there knows no GPUs: the partition has them
site[gpus_per_node]=1
site[gpu_counts]=1
site[memory_request]=none
site[forbidden]='mem mem_per_gpu' # sbatch refuses --mem
site[whole_nodes]=yes
site[time_maximum]=2-00:00:00
site[max_submit]=40 # in gh
