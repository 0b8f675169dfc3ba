# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# tamIA, of PAICE and the Alliance at Université Laval. Source: the Alliance's wiki, page TamIA (2026-03-05). Not tried on the
# site. Accounts: aip-….

site[whole_nodes]=yes
site[gpu_counts]='h100:4 h200:8' # a job takes all GPUs of each node, or is refused
site[gpu_type]=h100
site[time_minimum]=1:00:00
site[time_maximum]=1-00:00:00
site[max_submit]=1000
site[internet]=no
