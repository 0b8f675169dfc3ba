# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh; '$NAME' is expanded later
# The site of which nothing is known but what its Slurm tells. A profile is data, sourced after this one: it sets these
# facts, and any option of job_submitter.sh by its long name with _ for - (site[gpu_type]=…), and may have one function,
# node_setup, which runs on each node before the launcher. A line `# hosts: PATTERN...` names the login hosts of a site
# whose Slurm has another ClusterName. hpc/clusters/README.md says more.

site[scratch]=''                # the folder that all nodes share, if SCRATCH is not set: a path, or $NAME for a variable of the site
site[node_local_directory]=/tmp # where a job may create a folder on the node's own disk, if Slurm creates none: a path, or $NAME for a variable of the job
site[local_disk_request]=''     # what a job must request to get that disk: constraint=NAME, gres=NAME:AMOUNT, tmp=AMOUNT
site[modules]=''                # modules to load on each node
site[environment]=''            # a virtual or conda environment to use, in place of the project's own
site[internet]=''               # whether compute nodes reach the internet
site[gpu_request]=gpus_per_node # how GPUs are requested; the last three request no number
site[gpu_type_request]=''       # what --gpu-type becomes (default: as gpu_request, else the type before the number)
site[gpus_per_node]=''          # GPUs of a node, to turn the GPUs of an .isc file into nodes (default: what sinfo shows)
site[gpu_counts]=''             # GPUs per node that a job may request: '1 4', or by type 'h100:4 h200:8'
site[memory_request]=mem        # how memory is requested; zero: --mem=0, all of a node; none: not at all
site[whole_nodes]=no            # a job gets whole nodes, and pays for them
site[usable_cpus]=''            # cores of a node that jobs may use, if not all (56 of 64)
site[threads_per_core]=''       # nomultithread: --hint=nomultithread; a number: Slurm counts that many hardware threads per core of --cpus
site[quanta]=''                 # CPUs and memory per GPU, and what happens to a larger request: '18 120G billed' or '18 120G refused'
site[time_minimum]=''           # the shortest --time that is accepted
site[time_maximum]=''           # the longest --time that is accepted; by nodes '91:2:00:00 183:6:00:00': up to 91 nodes, up to 183
site[qos_by_nodes]=''           # the QOS of a job without --qos, by its nodes: '2:wide 65:huge' from 2 and from 65 nodes
site[max_submit]=''             # jobs that a user may have queued and running; each task of an array counts
site[required]=''               # options that are required there, by name: account partition
site[forbidden]=''              # options that are not allowed there
site[ignored]=''                # options that have no effect there: omitted, with a note to the user
site[interface]=''              # network interface of the nodes for NCCL and gloo, such as ib0 or hsn0
site[head_address]=''           # address of the first node for the others: suffix=i (its host name and an i), or interface=ib0 (that interface's address)
site[requeue]=requeue           # how a job is restarted: by scontrol requeue, or, if that is refused, by a new job that continues it
site[sbatch_on_nodes]=yes       # whether a job may submit a job
