#!/usr/bin/env bats
# Requests that are wrong or that the cluster cannot meet: a message of one line before anything is queued or written. golden.bats tests
# correct requests.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  stub_slurm
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -- "$SCRATCH"
  cd -- "$BATS_TEST_TMPDIR" || return
}

nothing_is_left() {
  [[ ! -e $RECORD && -z $(find "$SCRATCH" -mindepth 1) ]]
}

# refuses   Reads lines STATUS|OPTIONS|PATTERN.
refuses() {
  local status pattern line
  local -a options
  while IFS='|' read -r status line pattern; do
    mapfile -d '' options < <(xargs printf '%s\0' <<<"$line")
    fails_with "$status" "^job_submitter.sh: error: .*$pattern" submitter "${options[@]}"
    nothing_is_left
  done
}

@test "requests that contradict themselves" {
  refuses <<'REQUESTS'
2|--gpus x|--gpus: 'x' is not a whole number
2|--gpus -1|--gpus: '-1' is not a whole number
2|--num-nodes 0|--num-nodes: '0' is not a whole number from 1 up
2|--time banana|--time: 'banana' is not a time: write it like 30
2|--mem 5G --mem-per-gpu 1G|--mem and --mem-per-gpu contradict each other
2|--resume --fresh|--resume and --fresh contradict each other
2|--job-type standard --gpus 2|standard is one process, and --num-nodes 1 --gpus 2 are 2
2|--job-type standard -n 3 -g 0|standard is one process, and --num-nodes 3 --gpus 0 are 3
2|--job-type sweep|--job-type sweep needs a sweep
2|-j distribted|-j: 'distribted' is none of: standard, distributed, sweep
2|-W slurm|'slurm' is none of: torchrun, lightning, srun, node, script
2|-W srun --gpus 4 --cpus 6|--cpus 6 cannot be shared evenly by the 4 processes of a node: take 4 or 8
2|-W lightning --gpus 3 --cpus 2|cannot be shared evenly by the 3 processes of a node: take 3
2|--exp-name ../other|cannot name a folder
2|--cluster nowhere|--cluster 'nowhere': no such profile: there are .*default
2|--sbatch-arg=--nodes=3|--sbatch-arg='--nodes=3': the kit decides this itself
2|--sbatch-arg=--array=1-5|the kit decides this itself
2|--sbatch-arg=--export=NONE|the kit decides this itself
2|--sbatch-arg=--wrap=true|the kit decides this itself
2|--sbatch-arg=-H|write a long option of sbatch, as in --sbatch-arg=--hold
2|--sbatch-arg=run.sh|write a long option of sbatch
2|--sbatch-arg=|an empty value
2|-C nowhere.txt|no configuration file 'nowhere.txt': make it, or name another with --configs
2|-C .|'.' is not a file that you can read
REQUESTS
}

@test "--resume needs a name: the message gives that of the newest run that has checkpoints; a dry run looks for them, too" {
  local -r saved=$SCRATCH/${project##*/}
  fails_with 2 '--resume needs --exp-name NAME, the experiment to continue: .*lists them\)$' submitter --resume
  HPC_RESUME=1 fails_with 2 '--resume needs --exp-name NAME' submitter --dry-run
  nothing_is_left
  mkdir -p -- "$saved/${project##*/}_20260101-000000_"{1,22}/checkpoints/task_1 "$saved/${project##*/}_20260102-000000_3/checkpoints"
  touch -- "$saved/${project##*/}_20260101-000000_22/checkpoints/task_1/step_3.pt"
  run -2 --separate-stderr submitter --resume
  local -r name=${project##*/}_20260101-000000_22
  [[ $stderr == *". The newest of these that has checkpoints:  --exp-name ${name@Q} --resume" ]]
  run -0 --separate-stderr submitter --dry-run --exp-name "$name" --resume
  [[ $output == *"--job-name="* && $stderr != *'no checkpoints yet'* ]]
  fails_with 2 'has checkpoints in .*: give --resume' submitter --dry-run --exp-name "$name"
  run -0 --separate-stderr submitter --dry-run --exp-name other --resume
  [[ $stderr == 'note: other has no checkpoints yet: it starts from the beginning'* ]]
  submit --exp-name "$name" --resume
  [[ $job == 4711 && $(sed -n "s/^fact\[resume\]=//p" "$run_directory/facts") == "'1'" ]]
  fails_with 2 'cannot name a folder' submitter --exp-name "a/${name##*/}" --resume
}

@test "a dry run shows the commands of the tasks" {
  experiments 'echo one' 'echo "two words"'
  run -0 --separate-stderr submitter --dry-run --repeat 3 --seed-base 5
  [[ $stderr == *$'dry run: nothing is written or sent. batch.sh is hpc/job/batch.sh of this project; tasks: 6\n  tasks 1-3, seeds 5 to 7:  echo one\n  tasks 4-6, seeds 5 to 7:  echo two words' ]]
  run -0 --separate-stderr submitter --dry-run
  [[ $stderr == *$'tasks: 2\n  task 1:  echo one\n  task 2:  echo two words' ]]
}

@test "configuration files without an experiment" {
  experiments '# nothing yet'
  refuses <<<"2|-g 1|no experiment in .*experiment_configurations.txt.*: write its command on a line"
  experiments "python 'train"
  refuses <<<"2|-g 1|line 1: a quote \(') that is never closed"
  rm -- "$project/experiment_configurations.txt"
  refuses <<<"2|-g 1|no configuration file "
}

# test_only_refuses LINE...   Sets what sbatch --test-only prints; a job that is submitted nevertheless is accepted.
test_only_refuses() {
  printf '%s\n' "$@" >"$stub/refusal"
  cat >"$stub/sbatch" <<'STUB'
#!/bin/sh
if [ "$1" = --test-only ]; then cat -- "$STUB/refusal" >&2; exit 1; fi
printf '%s\0' sbatch "$@" >>"$RECORD"
echo 4711
STUB
}

@test "requests that the cluster cannot meet: Slurm's message, and what the cluster offers" {
  test_only_refuses 'sbatch: error: invalid partition specified'
  refuses <<'REQUESTS'
1|-p nowhere|invalid partition specified; --partition 'nowhere': this cluster has main urgent big short cpu
1|-p main,nowhere|--partition 'nowhere': this cluster has main
1|-p 'main urgent'|--partition 'main urgent': this cluster has main
1|-p ,|--partition '': this cluster has main
REQUESTS
  test_only_refuses 'allocation failure: Requested node configuration is not available'
  refuses <<'REQUESTS'
1|-g 5|would refuse the job: .*configuration is not available; partition main has 4 nodes of 16 CPUs, 64000 MB, gpu:v100l:4.*, at most infinite$
1|-p cpu|; partition cpu has 8 nodes of 32 CPUs, 128000 MB, no GPUs, at most 2-00:00:00; GPUs are in: main urgent big short$
1|-p big -G H100|; partition big has 2 nodes of 64 CPUs, 512000 MB, gpu:a100:8, .*; 1 nodes of 64\+ CPUs, 256000\+ MB, gpu:A40:4, at most 7-00:00:00$
REQUESTS
  test_only_refuses 'sbatch: error: Invalid account or account/partition combination specified'
  refuses <<<'1|-a theirs|would refuse the job: Invalid account.*; your accounts: mine ours$'
  test_only_refuses 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation'
  refuses <<<'1|-g 1|Slurm does not answer: .*Socket timed out'
}

@test "a time above the partition's limit is reported, because sbatch may accept it and let it wait forever" {
  run -0 --separate-stderr submitter --dry-run -p short -t 61
  [[ $stderr == 'job_submitter.sh: warning: --time 0-01:01:00: partition short allows 0-01:00:00 at most: unless '* ]]
  for options in '-p short -t 60' '-p main -t 9-0' '-p short,cpu -t 61'; do
    read -ra words <<<"$options"
    run -0 --separate-stderr submitter --dry-run "${words[@]}"
    drop_preview
    [[ -z $stderr ]]
  done
}

@test "a mismatch with sinfo is not refused where a plugin routes jobs" {
  sed -i -e 's/\*//' -e 's/v100l:4/v100l:1/' "$stub/partitions"
  run -0 --separate-stderr submitter --dry-run -g 4 -n 9 -a def-theirs
  drop_preview
  [[ -z $stderr ]]
}

@test "a partition that sinfo does not show, or none: a plugin may know it, so sbatch decides" {
  local line
  for line in '-p hidden' '-p main,hidden' '--rapid-cycle --cycle-partition hidden' '-p cpu -g 4'; do
    read -ra words <<<"$line"
    run -0 --separate-stderr submitter --dry-run "${words[@]}"
    drop_preview
    [[ -z $stderr && $output == "'sbatch' "* ]]
  done
  sed -i 's/|gpu:[^|]*|/|(null)|/; s/\*//' "$stub/partitions"
  run -0 --separate-stderr submitter --dry-run -g 2
  drop_preview
  [[ -z $stderr ]]
  test_only_refuses 'allocation failure: Invalid generic resource (gres) specification'
  refuses <<<'1|-p main|no partition shows GPUs: where they come with a partition or a constraint, a profile says so: site.gpu_request.$'
}

@test "hints after a refusal: the partitions with GPUs, how to request memory" {
  test_only_refuses 'allocation failure: Requested node configuration is not available'
  refuses <<<'1|-p cpu|; GPUs are in: main urgent big short$'
  test_only_refuses 'sbatch: error: --mem is not allowed here'
  refuses <<<'1|-p main|not allowed here; partition main has .*a profile says so: site.memory_request.$'
}

# states LINE...   Sets what sinfo says about the nodes, NUMBER|STATE.
states() {
  printf '%s\n' "$@" >"$stub/states"
  printf '#!/bin/sh\ncase $* in *--all*--partition*) exit 1 ;; *%%T*) cat -- "$STUB/states" ;; *) cat -- "$STUB/partitions" ;; esac\n' >"$stub/sinfo"
}

@test "a refusal because of the QOS: the partition's QOS, and the option" {
  printf '#!/bin/sh\necho "PartitionName=main AllowQos=normal,wide State=UP"\n' >"$stub/scontrol"
  test_only_refuses 'sbatch: error: QOSMaxNodePerJobLimit'
  refuses <<<'1|-n 2|QOSMaxNodePerJobLimit; .*; partition main allows the QOS: normal wide: say which by --qos, or in a profile: site.qos.$'
  test_only_refuses 'sbatch: error: Batch job submission failed: Invalid qos specification'
  refuses <<<'1|-p big --qos x|Invalid qos specification; .*; partition big allows the QOS: normal wide: say which by --qos'
}

@test "drained nodes: the job is queued with a message; a request that no node could meet is refused" {
  test_only_refuses 'allocation failure: Requested node configuration is not available'
  states '3|drained' '1|down*'
  run -0 --separate-stderr submitter --dry-run -n 4
  [[ $stderr == 'job_submitter.sh: warning: Slurm cannot start the job now: 4 of 4 nodes of partition main take no jobs; it waits '* ]]
  states '1|idle' '3|allocated'
  refuses <<<'1|-n 4|would refuse the job: .*configuration is not available'
  states '4|drained'
  refuses <<<'1|-n 5|would refuse the job: .*configuration is not available'
  test_only_refuses 'allocation failure: Invalid feature specification'
  refuses <<<'1|-n 2|would refuse the job: .*Invalid feature'
}

@test "several nodes of a partition with several GPU types, without a type: the message lists the types" {
  local line
  run -0 --separate-stderr submitter --dry-run -p big -n 2
  drop_preview
  [[ $stderr =~ ^'job_submitter.sh: warning: partition big has GPUs of several types: '(a100 A40|A40 a100)'; the 2 nodes may get different ones: say which by --gpu-type'$ ]]
  for line in '-p big -n 2 -G a100' '-p big -n 1 -g 2' '-p big -n 2 -g 0' '-p main -n 2' '-p main,short -n 2' '-p big -n 2 --constraint x'; do
    read -ra words <<<"$line"
    run -0 --separate-stderr submitter --dry-run "${words[@]}"
    drop_preview
    [[ -z $stderr ]]
  done
}

@test "options of sbatch that the kit sets are refused in each form that sbatch accepts" {
  refuses <<'REQUESTS'
2|--sbatch-arg=--gpu-bind=single:1|'--gpu-bind=single:1': the kit gives each process its GPU
2|--sbatch-arg=--gpu-b=single:1|to sbatch, --gpu-b may be --gpu-bind, and the kit gives each process its GPU
2|--sbatch-arg=--error=x|the kit searches the log for causes
2|--sbatch-arg=--err=x|--err may be --error
2|--sbatch-arg=--dependency=afterok:1|say --dependency
2|--sbatch-arg=--clusters=other|the kit finds its jobs in the cluster that it is called on
2|--sbatch-arg=-Mother|'-Mother': the kit finds its jobs
2|--sbatch-arg=-N2|'-N2': the kit decides this itself: say --num-nodes
2|--sbatch-arg=-J --gpus 1|'-J': .* say --exp-name
2|--sbatch-arg=--part=main|--part may be --partition, and say --partition
2|--sbatch-arg=--ntasks-per-gpu=1|say --gpus, and --which-distributed
2|--sbatch-arg=--mem|say --mem
2|--sbatch-arg=--mem-per-cpu=1G|say --mem, or --mem-per-gpu
2|--sbatch-arg=--gres=tmpfs:1,gpu:2|say --gpus, and --gpu-type
2|--sbatch-arg=--export-file=x|write variables into the project's .env
2|--sbatch-arg=--version|sbatch would send no job
2|'--sbatch-arg=--licenses matlab'|write a long option of sbatch
REQUESTS
  local word
  for word in --no-requeue --gpu-bind=none --hold --licenses=matlab --mem-bind=local --exclusive --nice --gres=tmpfs:10g --switches=1; do
    [[ $(submitter --dry-run "--sbatch-arg=$word") == *" '$word' "* ]]
  done
}

@test "an address for mail without events" {
  run -0 --separate-stderr submitter --dry-run --mail-user me@example.org
  [[ $stderr == *'sends no mail without --mail-type, such as END,FAIL'* ]]
  run -0 --separate-stderr submitter --dry-run --mail-user me@example.org --mail-type END
  [[ $stderr != *'no mail'* ]]
}

@test "variables that look like options and are none are reported" {
  HPC_PARTITON=x run -0 --separate-stderr submitter --dry-run
  drop_preview
  [[ $stderr == 'job_submitter.sh: warning: HPC_PARTITON of the environment is no option of this command, and has no effect: did you mean HPC_PARTITION?' ]]
  HPC_WHICH_DISTRIBUTED=srun run -0 --separate-stderr submitter --dry-run
  [[ $stderr == *': did you mean HPC_LAUNCHER?'* ]]
  HPC_DATA=x HPC_USAGE_SECONDS=1 run -0 --separate-stderr submitter --dry-run
  drop_preview
  [[ $stderr == 'job_submitter.sh: warning: HPC_DATA of the environment has no effect: give --data on the command line, as it is a list' ]]
  printf 'HPC_TIMME=3\n' >"$project/.env"
  run -0 --separate-stderr submitter --dry-run
  drop_preview
  [[ $stderr == *'HPC_TIMME of the environment '*'did you mean HPC_TIME?' ]]
}

@test "the packing job has its own time, up to its partition's limit, and is tested with Slurm" {
  mkdir -p -- "$SCRATCH/${project##*/}/data"
  run -0 --separate-stderr submitter --dry-run --data data --pack-in-job --pack-partition short -t 2:00:00
  [[ ${lines[0]} == *"'--time=0-01:00:00' '--partition=short'"* && ${lines[1]} == *"'--time=0-02:00:00'"* ]]
  drop_preview
  [[ $stderr == 'note: the job that packs gets 0-01:00:00, all that partition short allows (--pack-time)' ]]
  run -0 --separate-stderr submitter --dry-run --data data --pack-in-job --pack-partition short -t 2:00:00 --pack-time 20
  drop_preview
  [[ ${lines[0]} == *"'--time=0-00:20:00' '--partition=short'"* && -z $stderr ]]
  run -0 --separate-stderr submitter --dry-run --data data --pack-in-job --pack-partition short --pack-time 90
  [[ $stderr == *'warning: --pack-time 0-01:30:00: partition short allows 0-01:00:00 at most'* ]]
  fails_with 2 '--pack-time is about --pack-in-job: give both' submitter --pack-time 20
  printf '#!/bin/sh\ncase $* in *--job-name=pack_*) echo "sbatch: error: no packing here" >&2; exit 1 ;; esac\n' >"$stub/sbatch"
  fails_with 1 'would refuse the job that packs \(--pack-in-job\): no packing here; partition cpu has [^;]*; another partition for it, .*: --pack-partition$' submitter --data data --pack-in-job --pack-partition cpu
}

@test "a site where data are packed in a job: a submission without data sends no such job" {
  mkdir -p -- "$SCRATCH/${project##*/}/data"
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  echo 'site[pack_in_job]=1' >"$XDG_CONFIG_HOME/hpc_kit/clusters/stub.sh"
  run -0 --separate-stderr submitter --dry-run
  [[ ${#lines[@]} == 1 && $output != *pack_* ]]
  run -0 --separate-stderr submitter --dry-run --data data
  [[ ${#lines[@]} == 2 && ${lines[0]} == *--job-name=pack_* ]]
}

@test "the packing job and the job of cycles request memory as the site requires; a refusal says which job it concerns" {
  mkdir -p -- "$SCRATCH/${project##*/}/data"
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  local -r profile=$XDG_CONFIG_HOME/hpc_kit/clusters/stub.sh
  local how wanted
  mkdir -p -- "${profile%/*}"
  while IFS='|' read -r how wanted; do
    printf 'site[memory_request]=%s\n' "$how" >"$profile"
    run -0 --separate-stderr submitter --dry-run --data data --pack-in-job
    [[ " ${lines[0]} " == *" '--cpus-per-task=4' $wanted'--time="* ]] || { echo "$how: ${lines[0]}" && return 1; }
  done <<'HOW'
mem|'--mem=4096M' 
mem_per_cpu|'--mem-per-cpu=1024M' 
mem_per_gpu|'--mem=4096M' 
zero|'--mem=0' 
none|
HOW
  printf '#!/bin/sh\ncase $* in *--job-name=pack_*) echo "sbatch: error: only GPU jobs" >&2; exit 1 ;; *) echo 4711 ;; esac\n' >"$stub/sbatch"
  fails_with 1 'would refuse the job that packs \(--pack-in-job\): only GPU jobs; partition main has .*: --pack-partition$' submitter --data data --pack-in-job
  run -1 --separate-stderr submitter --no-snapshot --no-preflight --data data --pack-in-job
  [[ $stderr == *'refused the job that packs (--pack-in-job): only GPU jobs; another partition for it: --pack-partition' ]]
  printf '#!/bin/sh\ncase $* in *--job-name=cycle_*) echo "sbatch: error: not here" >&2; exit 1 ;; *) echo 4711 ;; esac\n' >"$stub/sbatch"
  fails_with 1 'would refuse the job of the cycles \(--rapid-cycle\): not here; .*: --cycle-partition$' submitter --rapid-cycle
}

@test "requests that it can just meet are accepted" {
  local options
  for options in '-g 4 -n 4 -c 16 --mem 64000M' '-p cpu -g 0 -n 8 -c 32' '-p big -n 3 -g 4 -c 64 --mem 250G' \
    '-p big -G a100 -g 8 -n 2 -t 7-0' '-G V100L' '-a OURS' '-p short -t 60' '-p main,urgent -n 4'; do
    read -ra words <<<"$options"
    run -0 --separate-stderr submitter --dry-run "${words[@]}"
    [[ $output == "'sbatch' '--parsable' "* && ${#lines[@]} == 1 ]]
  done
  [[ $(submitter --dry-run -G V100L) == *"'--gpus-per-node=v100l:1'"* ]]
  nothing_is_left
}

@test "a partition that is not up is reported" {
  sed -i '/^urgent/s/up$/drain/' "$stub/partitions"
  run -0 --separate-stderr submitter --dry-run -p urgent
  drop_preview
  [[ $stderr == 'job_submitter.sh: warning: partition urgent is drain: the job will wait until it is up' ]]
}

@test "a cluster without a default partition" {
  sed -i 's/\*//' "$stub/partitions"
  test_only_refuses 'sbatch: error: No partition specified or system default partition'
  refuses <<<'1|-g 1|would refuse .*; this cluster has no default partition: give --partition, one of: main urgent big short cpu$'
  printf '#!/bin/sh\n' >"$stub/sbatch"
  [[ $(submitter --dry-run -p main) == *"'--partition=main'"* ]]
}

@test "Slurm's own refusals are passed on in one line" {
  printf '#!/bin/sh\necho "sbatch: error: It is\nsbatch: error: not possible" >&2\nexit 1\n' >"$stub/sbatch"
  refuses <<<'1|-g 1|Slurm would refuse the job: It is; not possible; partition main has 4 nodes'
  run -1 --separate-stderr submitter --no-preflight --no-snapshot
  [[ -z $output && $stderr == *'error: Slurm refused the job: It is; not possible' ]]
}

@test "a Slurm that prints no job number" {
  printf '#!/bin/sh\n[ "$1" = --test-only ] || echo "Usage: sbatch"\n' >"$stub/sbatch"
  fails_with 1 'sbatch did not print a job id \(Usage: sbatch\), and squeue shows no job of .*: the run directory stays' submitter
}

@test "SCRATCH is not set, or is no folder to write in" {
  mkdir -- "$BATS_TEST_TMPDIR/folder"
  local -r where=$SCRATCH
  unset SCRATCH
  fails_with 1 'SCRATCH is not set: add to ~/.bashrc the folder that all nodes share, such as  export SCRATCH=/scratch/\$USER  \(or say it in a profile: site\[scratch\]\)$' submitter
  SCRATCH=$where/none fails_with 1 'is not a folder in which you can write' submitter
  SCRATCH=folder fails_with 1 'it must be an absolute path' submitter
  [[ ! -e $RECORD ]]
}

@test "no environment: the command that makes it" {
  rm -- "$project/.venv"
  refuses <<<'1|-g 1|no virtual environment for .*/venv/requirements.txt: make it once with  bash .*/venv/create.sh$'
}

@test "no Slurm on this machine, and a Slurm that does not answer" {
  printf '#!/bin/sh\necho "no connection" >&2\nexit 1\n' >"$stub/scontrol"
  refuses <<<'1|-g 1|Slurm does not answer \(no connection\): is the cluster up\?'
  # A dry run shows what would be submitted.
  run -0 --separate-stderr submitter --dry-run
  [[ $output == "'sbatch' "* && $stderr == 'note: the request is not compared with the cluster. Slurm does not answer (no connection)'* ]]
  rm -- "$stub/sbatch"
  if ! command -v sbatch >/dev/null; then
    refuses <<<'1|-g 1|no sbatch on this machine: run this on a login node of a Slurm cluster, or start one here'
  fi
}

@test "--time 24:00 is 24 minutes, and the submitter says so" {
  run -0 --separate-stderr submitter --dry-run --time 24:00
  [[ $output == *"'--time=0-00:24:00'"* ]]
  drop_preview
  [[ $stderr == 'note: to Slurm, --time 24:00 is 24 minutes; the same in hours is 24:00:00' ]]
}

@test "a skipped preflight is reported" {
  run -0 --separate-stderr submitter --dry-run --no-preflight -g 9
  drop_preview
  [[ $output == *"'--gpus-per-node=9'"* && $stderr == 'note: the request is not compared with the cluster (--no-preflight)' ]]
}

@test "a submitted job: only its number on standard output, the run on standard error" {
  run -0 --separate-stderr submitter -g 2 -n 2
  [[ $output == 4711 ]]
  [[ $stderr == "job 4711 (${project##*/}): 2 x 2 processes; $SCRATCH/${project##*/}/hpc_outputs/${project##*/}_"* ]]
  local -r run_directory=${stderr#*processes; }
  [[ $(<"$run_directory/job_id") == 4711 && -d $run_directory/task_1 && -e $run_directory/source.tar ]]
  cmp -- "$RECORD" "$run_directory/sbatch_argv"
}

# answer TEXT OPTION...   Runs the submitter on a terminal where the user types TEXT.
answer() {
  python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' \
    bash "$project/hpc/job_submitter.sh" "${@:2}" <<<"$1" 3>&-
}

@test "--confirm shows the request, and submits nothing without a yes" {
  run -1 --separate-stderr submitter --confirm </dev/null
  [[ -z $output && $stderr == *'error: --confirm asks on a terminal, and there is none' ]]
  run -1 answer n --confirm
  [[ $output == *"'sbatch' '--parsable'"*'Submit this? [y/N]'*'not submitted'* ]]
  run -1 answer '' --confirm
  nothing_is_left
  run -0 answer y --confirm
  [[ $output == *'Submit this? [y/N]'*4711* && -e $RECORD ]]
}
