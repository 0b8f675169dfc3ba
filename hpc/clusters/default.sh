# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh; '$NAME' is expanded later
# The site of which nothing is known but what its Slurm tells. A profile is data, sourced after this one: it sets these
# facts, and any option of job_submitter.sh by its long name with _ for - (site[gpu_type]=…), and may have one function,
# node_setup, which runs on each node before the launcher. A line `# hosts: PATTERN...` names the login hosts of a site
# whose Slurm has another ClusterName. hpc/clusters/README.md says more.

site[scratch]=''                # the folder that all nodes share, where SCRATCH is not set: a path, or $NAME for a variable of the site
site[node_local_directory]=/tmp # where a job may make a folder on a node's own disk, if Slurm makes none: a path, or $NAME for a variable that jobs have on nodes
site[local_disk_request]=''     # what a job must ask for to have that disk: constraint=NAME, gres=NAME:AMOUNT, tmp=AMOUNT
site[modules]=''                # modules to load on each node
site[environment]=''            # a virtual or conda environment to use, in place of the project's own
site[internet]=''               # whether compute nodes reach the internet
site[gpu_request]=gpus_per_node # how GPUs are asked for; with the last three their number is not: a node has those that it has
site[gpu_type_request]=''       # what --gpu-type becomes (default: as gpu_request, else the type in front of the number)
site[gpus_per_node]=''          # GPUs of a node, by which an .isc file's become nodes; else what sinfo shows
site[gpu_counts]=''             # the numbers of GPUs of a node that a job may ask for: '1 4', or by type 'h100:4 h200:8'
site[memory_request]=mem        # how memory is asked for; zero: --mem=0, all of a node; none: not at all
site[whole_nodes]=no            # a job gets, and pays, all of its nodes
site[usable_cpus]=''            # cores of a node that jobs may have, where these are not all (56 of 64)
site[threads_per_core]=''       # nomultithread: --hint=nomultithread; a number: Slurm counts that many hardware threads for each core of --cpus
site[quanta]=''                 # CPUs and memory that come with each GPU, and what happens to more: '18 120G billed' or '18 120G refused'
site[time_minimum]=''           # the shortest --time that is taken
site[time_maximum]=''           # the longest --time that is taken; by nodes '91:2:00:00 183:6:00:00': up to 91 nodes, up to 183
site[qos_by_nodes]=''           # the QOS of a job without --qos, by the nodes that it has: '2:wide 65:huge', from so many nodes on
site[max_submit]=''             # jobs that a user may have queued and running; each task of an array is one
site[required]=''               # options that must be given there, by name: account partition
site[forbidden]=''              # options that may not be given there
site[ignored]=''                # options that mean nothing there: left out, and the user is told
site[interface]=''              # network interface of the nodes for NCCL and gloo, such as ib0 or hsn0
site[head_address]=''           # where the other nodes find the first: suffix=i (its host name and an i), or interface=ib0 (that interface's address)
site[requeue]=requeue           # how a job starts again: scontrol requeue, or, where that is refused, a new job that continues it
site[sbatch_on_nodes]=yes       # whether a job may send a job
