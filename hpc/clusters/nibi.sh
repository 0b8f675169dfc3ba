# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Nibi, of the Digital Research Alliance of Canada at the University of Waterloo. Source: the Alliance's wiki, page Nibi (2026-01-14). Not tried on the site.

# shellcheck source=alliance.sh
source "$site_clusters/alliance.sh"
site[gpu_type]=h100 # without a type a job may be refused, or get any GPU
site[gpus_per_node]=8
site[internet]=yes
