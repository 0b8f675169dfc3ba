# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Rorqual, of the Digital Research Alliance of Canada at Calcul Québec. Source: the Alliance's wiki, page Rorqual (2026-03-05). Not tried on the site.

# shellcheck source=alliance.sh
source "$site_clusters/alliance.sh"
site[gpu_type]=h100 # without a type a job may be refused, or get any GPU
site[internet]=no
