# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh
# hosts: jean-zay*
# Jean Zay, of IDRIS. Source: IDRIS's documentation, GPU partitions and disk spaces (read on 2026-11-28), and public job scripts.
# Not tried on the site. An account names the kind of GPU: abc@v100, abc@a100, abc@h100; --gpu-type is the constraint:
# v100-32g, a100, h100. Compute nodes have no disk of their own.

site[gpu_request]=gres
site[gpu_type_request]=constraint
site[memory_request]=none # it comes with the CPUs
site[required]=account
site[threads_per_core]=nomultithread
site[time_maximum]=100:00:00 # 20 hours in the QOS -t3
site[internet]=no
