# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# hosts: borg*
# The PLAI group's cluster at the University of British Columbia, as system 004 describes it: one partition,
# no accounts, no types of GPU, and neither SCRATCH nor SLURM_TMPDIR. hpc/clean_nodes.sh clears what jobs
# that ended badly have left on the nodes' own disks.

site[partition]=plai
site[ignored]='account gpu_type'
site[scratch]=/ubc/cs/research/plai-scratch/$(id -un)
site[node_local_directory]=/scratch-ssd
site[internet]=yes
