# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Fir, of the Digital Research Alliance of Canada at Simon Fraser University. Source: the Alliance's wiki, page Fir. Not tried on the site.

# shellcheck source=alliance.sh
source "$site_clusters/alliance.sh"
site[gpu_type]=h100 # without a type a job may be refused, or get any GPU
site[internet]=yes
