# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# hosts: jwlogin*
# JUWELS Booster, of the JSC. Source: the JSC's user documentation of JUWELS (read on 2026-11-28), and public job scripts. Not
# tried on the site. SCRATCH comes with  jutil env activate -p PROJECT.

site[partition]=booster
site[gpu_request]=gres
site[gpu_type_request]=none
site[gpus_per_node]=4
site[whole_nodes]=yes
site[required]=account
site[interface]=ib0
site[head_address]=suffix=i # the InfiniBand address of jwb0001 is that of jwb0001i
