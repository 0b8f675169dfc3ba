# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Trillium, of the Digital Research Alliance of Canada at SciNet. Source: the Alliance's wiki, page Trillium Quickstart
# (2026-01-07). Not tried on the site. Jobs with GPUs are sent from the login node for GPUs, and from scratch: HOME is
# read-only on compute nodes. Accounts: def-… or rrg-….

site[gpus_per_node]=4
site[gpu_counts]='1 4' # two and three GPUs are refused; several nodes have four each
site[memory_request]=none
site[forbidden]='mem mem_per_gpu' # memory comes with the GPUs: 188 GiB with one, 755 with four
site[time_minimum]=15
site[time_maximum]=1-00:00:00
site[max_submit]=500
site[sbatch_on_nodes]=no
site[internet]=no
