# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# hosts: schooner* sooner*
# OSCER, the University of Oklahoma's supercomputing centre: Schooner, and its successor Sooner. Files on
# /scratch are deleted two weeks after their making: keep results elsewhere.
#
# GPUs are in the partitions gpu and gpu_a100, for 48 hours at most; without them (--gpus 0) give
# --partition normal. A conda environment of yours takes the place of venv/create.sh: copy this file to
# ~/.config/hpc_kit/clusters/, and set in it  site[environment]=$HOME/.conda/envs/NAME

site[partition]=gpu
site[scratch]=/scratch/$(id -un)
site[internet]=yes

# Slurm makes a folder for each job on a node's own disk, and removes it, but has another name for it.
node_setup() {
  if [[ -n ${LSCRATCH:-} ]]; then export SLURM_TMPDIR=$LSCRATCH; fi
}
