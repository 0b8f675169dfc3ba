# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Mila's cluster. Source: Mila's documentation, pages Running your code, Computing nodes and Storage (read on 2026-11-28). Not
# tried on the site. --gpu-type takes a model (a100l) or an amount of memory (48gb). A job may be preempted without notice:
# save often. Partitions: main, long, unkillable, short-unkillable. SCRATCH and SLURM_TMPDIR are set.

site[max_submit]=1000
