# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# hosts: cedar*
# Cedar, of the Digital Research Alliance of Canada at Simon Fraser University. Its service ended on
# 2025-09-12 and Fir followed; kept for those who come from system 004, and as the pattern of an Alliance
# cluster. SCRATCH is set there, and Slurm makes SLURM_TMPDIR below /localscratch: neither is said here.
#
# A job must name an account, which is your own group's (def-… or rrg-…):  export HPC_ACCOUNT=def-…  in
# ~/.bashrc. GPU types: p100 (12 GB) and p100l (16 GB), 4 a node with 24 cores; v100l (32 GB), 4 with 32.

site[gpu_type]=v100l
site[internet]=yes
# Load it as well before venv/create.sh, so that the environment is made of the same Python.
site[modules]=python/3.11
