# shellcheck shell=bash
# The table of job_submitter.sh: one row an option. See options::add for the columns.

option_table::define() {
  options::heading 'Resources'
  options::add gpus count 1 '--gpus -g' 'GPUs on each node; 0 runs one process on each node, on the CPU'
  options::add gpu_type text '' '--gpu-type -G' 'type of GPU; upper or lower case does not matter'
  options::add num_nodes positive 1 '--num-nodes --num_nodes --nodes -n -N' 'nodes'
  options::add cpus positive '' '--cpus --cpu -c' 'CPU cores on each node, shared by its processes (default: 2 for each GPU)'
  options::add mem_per_gpu memory 10G '--mem-per-gpu -m' 'memory for each GPU of a node, such as 10G or 512M; without GPUs, for the node'
  options::add mem node_memory '' '--mem' 'memory of each node, in place of --mem-per-gpu; 0: all of it'
  options::add time duration 01:00:00 '--time -t' 'longest run time: minutes, [days-]hours:minutes:seconds or days-hours'

  options::heading 'Experiment'
  options::add exp_name name '' '--exp-name -e' 'name of the experiment and of its folder on scratch (default: one of its own for each run)'
  options::add resume flag '' '--resume' 'go on from the checkpoints that the experiment has'
  options::add fresh flag '' '--fresh' 'move the checkpoints that the experiment has aside, and begin anew'
  options::add configs path '' '--configs -C' 'file of commands, one experiment a line (default: experiment_configurations.txt in the project)'
  options::add isc path '' '--isc' 'file of the ISC (.isc), in place of --configs; what it says counts where no option is given here'
  options::add job_type 'choice standard distributed sweep' '' '--job-type -j' 'checks the request: standard is one process, sweep needs a sweep id (default: whatever the rest says)'
  options::add launcher 'choice torchrun lightning srun node script' torchrun '--which-distributed -W' 'what starts the processes of a node; node: the command itself does, and is run once on each; script is an old name of torchrun'
  options::add independent flag '' '--independent' 'each process is meant to work alone: do not warn that they never spoke with each other'
  options::add max_parallel positive '' '--max-parallel' 'tasks of an array that run at the same time (default: as many as fit)'
  options::add repeat positive '' '--repeat' 'run each line of the file so many times, with another SEED (in the environment, and {seed} in the line)'
  options::add seed_base count 0 '--seed-base' 'first of these seeds; for random points of --sweep-config, the seed of the choice'
  options::add only_missing flag '' '--only-missing' 'send those tasks of the experiment alone that have not completed in a run before, from their checkpoints'
  options::add environment path '' '--environment' "virtual or conda environment to run in, in place of the project's own"
  options::add singularity_container path '' '--singularity-container -s' 'container image (SIF) to run in, in place of the virtual environment'
  options::add workdir path '' '--workdir' 'folder inside the container that shall be writable, on the disk of each node'
  options::add bind list '' '--bind' 'files and folders to show inside the container: SOURCE[:DESTINATION[:ro]]'
  options::add chdir path '' '--chdir' "folder in which the command runs, from the project's (default: the project's)"
  options::add output_path path '' '--output-path' 'folder in which a link to the run directory is made, by the name of the run'
  options::add keep_folders text '' '--keep-folders' "folders that the program writes to beside itself, such as out,checkpoints: they lie with the experiment's checkpoints, where its next run finds them"
  options::add no_snapshot flag '' '--no-snapshot' 'run the project as it is when the job starts, not a copy of it as it is now'

  options::heading 'Sweeps'
  options::add wandb_sweepid text '' '--wandb-sweepid -w' 'W&B sweep, ID or ENTITY/PROJECT/ID: each task of an array asks the server for one run'
  options::add sweep_config path '' '--sweep-config' 'sweep file whose points are listed here, without a server (with --offline)'
  options::add sweep_runs positive '' '--sweep-runs' 'runs, where the sweep has no number of its own (default: as many as it has points)'
  options::add offline flag '' '--offline' 'W&B writes to the disk; bash hpc/sync_wandb.sh sends it later'

  options::heading 'Data'
  options::add data list '' '--data -d' "files and folders to bring to each node's own disk: paths below the project's folder on scratch, the same below SLURM_TMPDIR"
  options::add data_format 'choice auto tar zst image' auto '--data-format' 'how they travel: an archive, a compressed one, or an image that is mounted read-only; auto takes an image for many small files, and compresses what becomes smaller'
  options::add broadcast 'choice auto read sbcast' auto '--broadcast' 'each node reads the archive, or one does and Slurm hands it on (auto: from 9 nodes on)'
  options::add pack_in_job flag '' '--pack-in-job' 'pack in a job of its own, for which this one waits, as login nodes kill long work'
  options::add pack_partition text '' '--pack-partition' "partition of that job (default: the job's)"
  options::add pack_time duration '' '--pack-time' "longest run time of that job (default: the job's, or what its partition allows)"
  options::add stage_venv flag '' '--stage-venv' "bring the virtual environment to each node's own disk, too"
  options::add stage_image flag '' '--stage-image' "bring the container's image to each node's own disk, where later jobs find it (default: where it lies on another file system, and fits)"
  options::add no_stage_image flag '' '--no-stage-image' 'leave it where it is'
  options::add collect list '' '--collect' 'what the program leaves in SLURM_TMPDIR and shall be copied to the run directory at the end; patterns, in quotes'
  options::add staging_days positive 30 '--staging-days' 'remove packed data that no job has used for so many days'
  options::add staging_limit memory 500G '--staging-limit' 'keep at most so much packed data: what was not used longest goes first'

  options::heading 'Interruptions'
  options::add max_restarts count 50 '--max-restarts' 'start the job again so many times, after an interruption that the program has saved at, or a hang'
  options::add grace_seconds positive '' '--grace-seconds' 'ask the program to save so many seconds before the time limit (default: 120, for jobs of five minutes and more)'
  options::add hang_minutes count 30 '--hang-minutes' 'end and restart a job whose ranks beat no more for so long (train/ beats at each step); 0: never'
  options::add watch_log flag '' '--watch-log' "the log's growth is such a beat, too, for programs that give none"
  options::add interrupt 'choice ask kill' ask '--interrupt' 'how the program is interrupted: it is asked to save and stop, or also killed when it does not, as it saves often by itself'

  options::add rapid_cycle 'optional cycles 5x90' '' '--rapid-cycle' 'first a short job in which the program runs for so many cycles of so many seconds, is interrupted at the end of each, and goes on in the next (5x90; none: not even if the environment or a file says so); this job goes on from there when all has gone well'
  options::add cycle_partition text '' '--cycle-partition' "partition of that job (default: the job's)"

  options::heading 'Slurm'
  options::add_placement account partition qos
  options::add constraint text '' '--constraint' 'features that the nodes must have'
  options::add nodelist text '' '--nodelist' 'nodes that the job must get'
  options::add exclude text '' '--exclude' 'nodes that the job must not get'
  options::add reservation text '' '--reservation' 'reservation to use'
  options::add dependency text '' '--dependency' 'jobs to wait for, such as afterok:1234'
  options::add begin text '' '--begin' 'earliest start, such as 20:00 or now+2hours'
  options::add mail_user text '' '--mail-user' 'address for mail about the job'
  options::add mail_type text '' '--mail-type' 'what to write mail about, such as END,FAIL'
  options::add sbatch_arg list '' '--sbatch-arg' 'any other option of sbatch, written --sbatch-arg=--OPTION=VALUE'
  options::add_placement cluster
  options::add no_preflight flag '' '--no-preflight' 'do not compare the request with the cluster first'

  options::heading 'In an allocation that you have'
  options::add here 'optional job mine' '' '--here' 'run now, without a queue, inside an allocation: that of the shell of salloc, or job JOB of yours; the log is shown here. Nodes, GPUs, cores and memory that you do not name are what the allocation has'

  options::heading 'Clouds'
  options::add backend 'choice slurm sky' slurm '--backend' 'where it runs: on this Slurm, or on machines of a cloud, by SkyPilot'
  options::add on_demand flag '' '--on-demand' 'with sky: machines that stay, in place of spot machines'
  options::add disk_size memory 256G '--disk-size' 'with sky: the disk of each machine'
  options::add infra text '' '--infra' "with sky: CLOUD[/REGION[/ZONE]] (default: SkyPilot's choice)"
  options::add secret list '' '--secret' 'with sky: names of variables to hand on; those of .env, and the W&B key, are'

  options::heading 'This command'
  options::add dry_run flag '' '--dry-run' 'print the sbatch command and submit nothing'
  options::add confirm flag '' '--confirm' 'show the request and ask before it is sent'
  options::add follow flag '' '--follow' 'show the log until the job ends, and exit with its status'
  options::add help flag '' '--help -h' 'print this'
}
