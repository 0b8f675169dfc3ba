# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# Leonardo Booster, of CINECA. Source: CINECA's HPC documentation, page Leonardo (read on 2026-11-28), and public job scripts.
# Not tried on the site. A node has four GPUs and 494000 MB for jobs. SCRATCH is set.

site[partition]=boost_usr_prod
site[gpu_request]=gres
site[gpu_type_request]=none
site[gpus_per_node]=4
site[local_disk_request]=gres=tmpfs:10g
site[required]=account
site[time_maximum]=4-00:00:00 # with --qos boost_qos_lprod; else a day
site[internet]=no
