# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Killarney, of PAICE and the Alliance at the Vector Institute. Source: the Alliance's wiki, page Killarney (2025-11-03). Not
# tried on the site. Accounts: aip-…. GPU types: l40s, 4 a node, and h100, 8 a node.

site[gpu_type]=l40s
