# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Vulcan, of PAICE and the Alliance at the University of Alberta. Source: the Alliance's wiki, page Vulcan (2026-02-18). Not
# tried on the site. Accounts: aip-….

site[gpu_type]=l40s
site[gpus_per_node]=4
site[time_maximum]=7-00:00:00
site[internet]=proxy # its variables are set in a job; it lets listed domains through
