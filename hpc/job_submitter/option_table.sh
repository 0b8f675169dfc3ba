# shellcheck shell=bash
# The table of job_submitter.sh: one row an option. See options::add for the columns.

option_table::define() {
  options::heading 'Resources'
  options::add gpus count 1 '--gpus -g' 'GPUs on each node; 0 runs one process on each node, on the CPU'
  options::add gpu_type text '' '--gpu-type -G' 'GPU type, in upper or lower case'
  options::add num_nodes positive 1 '--num-nodes --num_nodes --nodes -n -N' 'number of nodes'
  options::add cpus positive '' '--cpus --cpu -c' 'CPU cores on each node, shared by its processes (default: 2 for each GPU)'
  options::add mem_per_gpu memory 10G '--mem-per-gpu -m' 'memory for each GPU of a node, such as 10G or 512M; without GPUs, for the node'
  options::add mem node_memory '' '--mem' 'memory of each node, in place of --mem-per-gpu; 0 requests all of it'
  options::add time duration 01:00:00 '--time -t' 'time limit: minutes, [days-]hours:minutes:seconds or days-hours'

  options::heading 'Experiment'
  options::add exp_name name '' '--exp-name -e' 'name of the experiment and of its folder on scratch (default: a new one for each run)'
  options::add resume flag '' '--resume' "continue from the checkpoints of --exp-name NAME"
  options::add fresh flag '' '--fresh' "move the experiment's checkpoints aside and start from the beginning"
  options::add configs path '' '--configs -C' 'file of commands, one experiment a line (default: experiment_configurations.txt in the project)'
  options::add isc path '' '--isc' 'file of the ISC (.isc), in place of --configs; options given here override what it says'
  options::add job_type 'choice standard distributed sweep' '' '--job-type -j' 'check the request: standard is one process, sweep needs a sweep id (default: accept what the other options say)'
  options::add launcher 'choice torchrun lightning srun node script' torchrun '--which-distributed -W' 'what starts the processes of a node; node: the command itself does, and runs once on each node; script is an old name of torchrun'
  options::add independent flag '' '--independent' 'the processes work alone: do not warn if they never communicate'
  options::add max_parallel positive '' '--max-parallel' 'run at most N tasks of an array at the same time (default: as many as fit)'
  options::add repeat positive '' '--repeat' 'run each line of the file N times, each with another SEED (in the environment, and as {seed} in the line)'
  options::add seed_base count 0 '--seed-base' 'first of these seeds; for random points of --sweep-config, the seed of the choice'
  options::add only_missing flag '' '--only-missing' 'submit only tasks that no earlier run of this experiment has completed; they continue from their checkpoints'
  options::add environment path '' '--environment' "virtual or conda environment to run in, in place of the project's own"
  options::add singularity_container path '' '--singularity-container -s' 'container image (SIF) to run in, in place of the virtual environment'
  options::add workdir path '' '--workdir' 'folder inside the container that the program can write to, on the disk of each node'
  options::add bind list '' '--bind' 'files and folders to mount in the container: SOURCE[:DESTINATION[:ro]]' SOURCE
  options::add chdir path '' '--chdir' 'run the command in this folder of the project (default: the project itself)'
  options::add output_path path '' '--output-path' 'create a link to the run directory in this folder, with the name of the run'
  options::add keep_folders text '' '--keep-folders' "folders that the program writes to beside itself, such as out,checkpoints: they are stored with the experiment's checkpoints, where its next run finds them"
  options::add no_snapshot flag '' '--no-snapshot' 'run the project as it is when the job starts, instead of a copy of it as it is now'

  options::heading 'Sweeps'
  options::add wandb_sweepid text '' '--wandb-sweepid -w' 'W&B sweep, ID or ENTITY/PROJECT/ID: each task of an array requests one run from the server'
  options::add sweep_config path '' '--sweep-config' 'sweep file: list its points here, without a server (with --offline)'
  options::add sweep_runs positive '' '--sweep-runs' 'number of runs, if the sweep does not limit it (default: as many as it has points)'
  options::add offline flag '' '--offline' 'W&B writes to the disk; bash hpc/sync_wandb.sh uploads it later'

  options::heading 'Data'
  options::add data list '' '--data -d' "copy these files and folders to each node's own disk: paths below the project's folder on scratch, found below SLURM_TMPDIR"
  options::add data_format 'choice auto tar zst image' auto '--data-format' 'how they are packed: an archive, a compressed archive, or an image that is mounted read-only; auto takes an image for many small files, and compresses if that makes them smaller'
  options::add broadcast 'choice auto read sbcast' auto '--broadcast' 'read: each node reads the archive; sbcast: one node reads it and Slurm distributes it; auto: sbcast from 9 nodes on'
  options::add pack_in_job flag '' '--pack-in-job' 'pack in a separate job that runs before this one, for sites whose login nodes kill long work'
  options::add pack_partition text '' '--pack-partition' 'partition of that job (default: the partition of this job)'
  options::add pack_time duration '' '--pack-time' 'time limit of that job (default: the limit of this job, or what its partition allows)'
  options::add stage_venv flag '' '--stage-venv' "also copy the virtual environment to each node's own disk"
  options::add stage_image flag '' '--stage-image' "copy the container image to each node's own disk, where later jobs find it (default: if it is on another file system, and fits)"
  options::add no_stage_image flag '' '--no-stage-image' 'use the container image where it is'
  options::add collect list '' '--collect' 'copy these files from SLURM_TMPDIR to the run directory at the end; patterns, in quotes' PATTERN
  options::add staging_days positive 30 '--staging-days' 'remove packed data that no job has used for N days'
  options::add staging_limit memory 500G '--staging-limit' 'keep at most this much packed data; remove the least recently used first'

  options::heading 'Interruptions'
  options::add max_restarts count 50 '--max-restarts' 'restart the job at most N times after a clean interruption or a hang'
  options::add grace_seconds positive '' '--grace-seconds' 'ask the program to save N seconds before the time limit (default: 120, for jobs of five minutes and more)'
  options::add hang_minutes count 30 '--hang-minutes' 'restart the job if no rank has made progress for N minutes (train/ reports each step); 0 disables this'
  options::add watch_log flag '' '--watch-log' 'also count growth of the log as progress, for programs that report none'
  options::add interrupt 'choice ask kill' ask '--interrupt' 'ask: create STOP_FILE and wait; kill: also kill the program if it does not stop in time, because it saves often by itself'

  options::add rapid_cycle 'optional cycles 5x90' '' '--rapid-cycle' 'first submit a short job that runs the program for CYCLES of SECONDS each, interrupts it at the end of each cycle and continues it in the next (5x90 without a value); this job continues from there if all cycles succeeded. none disables it, even if the environment or a file requests it'
  options::add cycle_partition text '' '--cycle-partition' 'partition of that short job (default: the partition of this job)'

  options::heading 'Slurm'
  options::add_placement account partition qos constraint
  options::add nodelist text '' '--nodelist' 'nodes that the job must get'
  options::add exclude text '' '--exclude' 'nodes that the job must not get'
  options::add_placement reservation
  options::add dependency text '' '--dependency' 'jobs to wait for, such as afterok:1234'
  options::add begin text '' '--begin' 'earliest start, such as 20:00 or now+2hours'
  options::add mail_user text '' '--mail-user' 'address for mail about the job'
  options::add mail_type text '' '--mail-type' 'events to send mail about, such as END,FAIL'
  options::add sbatch_arg list '' '--sbatch-arg' 'any other option of sbatch, written --sbatch-arg=--OPTION=VALUE' ARG
  options::add_placement cluster
  options::add no_preflight flag '' '--no-preflight' 'do not compare the request with the cluster first'

  options::heading 'Allocation'
  options::add here 'optional job mine' '' '--here' 'run now, without a queue, in an allocation: the one of this salloc shell, or job JOB of yours; print the log here. Nodes, GPUs, cores and memory default to what the allocation has'

  options::heading 'Clouds'
  options::add backend 'choice slurm sky' slurm '--backend' 'where to run: on this Slurm, or on machines of a cloud, through SkyPilot'
  options::add on_demand flag '' '--on-demand' 'with sky: on-demand machines instead of spot machines'
  options::add disk_size memory 256G '--disk-size' 'with sky: disk size of each machine'
  options::add infra text '' '--infra' 'with sky: CLOUD[/REGION[/ZONE]] (default: SkyPilot chooses)'
  options::add secret list '' '--secret' 'with sky: names of variables to pass on, besides those of .env and the W&B key' NAME

  options::heading 'General'
  options::add dry_run flag '' '--dry-run' 'print the sbatch command and submit nothing'
  options::add confirm flag '' '--confirm' 'show the request and ask before submitting'
  options::add follow flag '' '--follow' 'print the log until the job ends, and exit with its status; Ctrl-C ends only the log'
  options::add json flag '' '--json' 'print the job ids and the run directory as JSON'
  options::add_help
  options::show gpus gpu_type num_nodes time account exp_name resume data dry_run follow
}
