# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Narval, of the Digital Research Alliance of Canada at Calcul Québec. Source: the Alliance's wiki, page Narval (2025-12-16). Not tried on the site.

# shellcheck source=alliance.sh
source "$site_clusters/alliance.sh"
site[gpu_type]=a100 # without a type a job may be refused, or get any GPU
site[internet]=no
