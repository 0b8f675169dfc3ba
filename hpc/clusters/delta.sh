# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# hosts: dt-login*
# Delta, of the NCSA. Source: the NCSA's documentation of Delta (read on 2026-11-28), and public job scripts. Not tried on the
# site. Accounts for GPUs end in -delta-gpu. SCRATCH is not set: it is a folder below /work/hdd. /tmp is shared with other jobs.

site[partition]=gpuA100x4
site[gpu_type_request]=partition # gpuA100x4, gpuA40x4, gpuH200x8
site[required]=account
site[interface]=hsn0
