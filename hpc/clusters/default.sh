# shellcheck shell=bash disable=SC2034,SC2154 # an array of hpc/lib/site.sh
# The site of which nothing is known but what its Slurm tells. A profile is data, sourced after this one;
# it may set these, and any option of job_submitter.sh by its long name with _ for - (site[gpu_type]=…),
# and may have one function, node_setup, which runs on each node before the launcher. A line
# `# hosts: PATTERN...` names the login hosts of a site whose Slurm has another ClusterName.

site[scratch]=''                # the folder that all nodes share, where SCRATCH is not set
site[node_local_directory]=/tmp # where a job may make a folder on a node's own disk, if Slurm makes none
site[modules]=''                # modules to load on each node
site[environment]=''            # a virtual or conda environment to use, in place of the project's own
site[gpus_per_node]=''          # GPUs of a node, by which an .isc file's become nodes; else what sinfo shows
site[internet]=''               # yes or no: whether compute nodes reach the internet
site[ignored]=''                # options that mean nothing there, by name: left out, and the user is told
