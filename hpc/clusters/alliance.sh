# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# What the general-purpose clusters of the Digital Research Alliance of Canada have in common: fir.sh, nibi.sh, rorqual.sh
# and narval.sh build on it. Sources: the Alliance's wiki, pages Using GPUs with Slurm (2026-02-02) and Running jobs
# (2026-02-22). Not tried on these sites.
#
# With several accounts a job must name one, def-… or rrg-…:  export SBATCH_ACCOUNT=def-…  in ~/.bashrc. SCRATCH is set there,
# and Slurm makes SLURM_TMPDIR. Slices of a GPU have names of their own (nvidia_h100_80gb_hbm3_1g.10gb): --gpu-type.

site[forbidden]=partition # a plugin chooses the partition by time and GPUs
site[gpus_per_node]=4
site[time_minimum]=5 # a test; others one hour
site[time_maximum]=7-00:00:00
site[max_submit]=1000 # running and queued
# Load it as well before venv/create.sh, so that the environment is made of the same Python.
site[modules]=python/3.11
