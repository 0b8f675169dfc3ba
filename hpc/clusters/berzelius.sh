# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# hosts: berzelius*
# Berzelius, of the NSC. Source: the NSC's page Berzelius getting started (read on 2026-11-28), and public job scripts. Not tried
# on the site. Accounts: berzelius-2026-N. SCRATCH is not set: it is a folder below /proj/PROJECT.

site[gpu_type_request]=constraint # thin or fat
site[gpus_per_node]=8
site[required]=account
