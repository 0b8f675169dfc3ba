#!/usr/bin/env bats
# Submission: the copy of the sources that runs, the names that it takes, what it hides, and what a refusal leaves.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
}

teardown_file() {
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

teardown() {
  if [[ -n ${follower:-} ]]; then kill "$follower" 2>/dev/null || true; fi
  cat -- "$SCRATCH"/*/hpc_outputs/*/job_id 2>/dev/null | xargs --no-run-if-empty scancel --quiet
}

# A program of two modules and data that git ignores, in a repository.
make_repository() {
  printf 'value = "kept"\n' >"$project/module.py"
  printf 'value = "untracked"\n' >"$project/other.py"
  mkdir -- "$project/weights"
  printf 'ignored\n' >"$project/weights/file"
  printf 'FROM_DOTENV="only in dotenv"\n' >"$project/.env"
  printf '/weights/\n/.env\n/.venv\n' >"$project/.gitignore"
  cat >"$project/main.py" <<'PYTHON'
import os, pathlib
import module, other
print("old", module.value, other.value, pathlib.Path("weights/file").read_text().strip(),
      os.environ["FROM_DOTENV"], pathlib.Path(".env").exists(), pathlib.Path.cwd())
PYTHON
  experiments 'python main.py'
  git -C "$project" init --quiet
  git -C "$project" add main.py module.py .gitignore
  git -C "$project" -c user.name=test -c user.email=test@localhost commit --quiet --message first
}

# Edit the program and delete one of its modules.
edit_program() {
  printf 'print("new")\n' >"$project/main.py"
  rm -- "$project/module.py"
}

@test "a queued job runs the program as it was at submission, although files are edited and deleted meanwhile" {
  make_repository
  submit -W srun --sbatch-arg=--hold
  edit_program
  scontrol release "$job"
  ended "$job" 30 COMPLETED 0:0
  job_log | grep -xF "old kept untracked ignored only in dotenv False $run_directory/source"
  [[ -L $run_directory/source/weights ]]
  same "$(find "$SCRATCH" -name .env)" ''
  same "$(grep -rlaF 'only in dotenv' "$SCRATCH" | sort)" "$(printf '%s\n' "$run_directory"/task_1/{log,rank_0}.txt)"
}

@test "with --no-snapshot it runs the program as it is at the start" {
  make_repository
  submit -W srun --sbatch-arg=--hold --no-snapshot
  edit_program
  scontrol release "$job"
  ended "$job" 30 COMPLETED 0:0
  job_log | grep -xF new
  [[ ! -e $run_directory/source ]]
}

@test "unchanged sources are kept once" {
  make_repository
  submit -W srun --sbatch-arg=--hold
  local -r first=$run_directory
  submit -W srun --sbatch-arg=--hold
  [[ $first != "$run_directory" && $first/source.tar -ef $run_directory/source.tar ]]
  edit_program
  submit -W srun --sbatch-arg=--hold
  [[ ! $first/source.tar -ef $run_directory/source.tar ]]
}

@test "a job that is submitted from inside a job has all its CPUs and nothing of the outer job" {
  use_programs report.py
  mv -- "$project/experiment_configurations.txt" "$project/inner.txt"
  experiments 'srun --overlap --nodes=1 --ntasks=1 --cpus-per-task=1 --cpu-bind=map_cpu:0 bash programs/submit_inside.sh'
  OUTER_PROJECT=$project OMP_NUM_THREADS=1 submit -W node --gpus 3 --num-nodes 1 --exp-name outer --nodelist node1
  ended "$job" 30 COMPLETED 0:0
  job_log | grep -E '^bound by .*map_cpu:(0x)?0, 1 threads$'
  local -r outer=$job
  job=$(<"$run_directory/task_1/output/inner_job")
  run_directory=$(dirname -- "$(grep -lx "$job" "$SCRATCH"/*/hpc_outputs/*/job_id)")
  ended "$job" 30 COMPLETED 0:0

  local -r cores=$(($(nproc) < 4 ? 1 : $(nproc) < 6 ? $(nproc) / 2 : 3)) # the two tasks share this machine
  same "$(told 1 SLURM_JOB_ID SLURM_CPUS_ON_NODE SLURM_CPUS_PER_TASK SLURM_NTASKS OMP_NUM_THREADS RANK WORLD_SIZE \
    RUN_DIRECTORY exp_name cpus)" "\
SLURM_JOB_ID=$job
SLURM_CPUS_ON_NODE=6
SLURM_CPUS_PER_TASK=3
SLURM_NTASKS=2
OMP_NUM_THREADS=$cores
RANK=1
WORLD_SIZE=2
RUN_DIRECTORY=$run_directory
exp_name=${run_directory##*/}
cpus=$(nproc --all)"
  [[ $(told 1 SLURM_CPU_BIND SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_LIST) != *map_cpu* ]]
  [[ $(told 1 SLURM_TMPDIR) == *".$job."* && $(told 1 SLURM_TMPDIR) != *".$outer."* ]]
}

@test "keys reach the program and appear nowhere" {
  use_programs 'checksums.py WANDB_API_KEY OTHER_KEY'
  export HOME=$BATS_TEST_TMPDIR/home
  mkdir -- "$HOME"
  local key other
  key=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
  other=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s\n' "$key" >"$HOME/wandb_credentials.txt"
  printf 'OTHER_KEY = "%s" # a comment\n' "$other" >"$project/.env"
  printf '%s\n' "$key" "$other" >"$HOME/keys"

  submit -W srun --num-nodes 2
  keep_arguments "$job" "$BATS_TEST_TMPDIR/arguments"
  ended "$job" 30 COMPLETED 0:0

  job_log | grep -xF "WANDB_API_KEY $(printf '%s' "$key" | sha256sum | cut -d ' ' -f 1)"
  job_log | grep -xF "OTHER_KEY $(printf '%s' "$other" | sha256sum | cut -d ' ' -f 1)"
  grep -qx programs/checksums.py "$BATS_TEST_TMPDIR/arguments"
  grep -q slurmstepd "$BATS_TEST_TMPDIR/arguments"
  scontrol --details show job "$job" >"$BATS_TEST_TMPDIR/shown"
  scontrol write batch_script "$job" "$BATS_TEST_TMPDIR/script" >/dev/null
  [[ -s $BATS_TEST_TMPDIR/script && -d $run_directory/source ]]
  same "$(grep -rlaF -f "$HOME/keys" -- "$SCRATCH" "$POCKET_CLUSTER_DIR"/{log,state,spool,scratch,disks,localscratch} \
    "$BATS_TEST_TMPDIR"/{arguments,shown,script} 2>/dev/null)" ''
}

# Each job of this experiment adds a line to a checkpoint.
checkpointing() {
  experiments 'sh -c '\''echo line >>"$CHECKPOINT_DIRECTORY/file"'\'
  checkpoints=$SCRATCH/${project##*/}/named/checkpoints
}

@test "existing checkpoints: refused, or --resume, or --fresh" {
  checkpointing
  submit -W srun --exp-name named
  ended "$job" 30 COMPLETED 0:0
  local before
  before=$(tree)
  fails_with 2 "'named' has checkpoints in .*--resume.*--fresh" submitter -W srun --exp-name named
  # If Slurm then refuses the job, they must be unchanged.
  fails_with 1 'Slurm refused the job: .*partition' \
    only_errors submitter -W srun --exp-name named --fresh --no-preflight --partition nowhere
  same "$(tree)" "$before"

  submit -W srun --exp-name named --resume
  ended "$job" 30 COMPLETED 0:0
  same "$(cat -- "$checkpoints/file")" $'line\nline'

  submit -W srun --exp-name named --fresh
  ended "$job" 30 COMPLETED 0:0
  same "$(cat -- "$checkpoints/file")" line
  same "$(cat -- "$checkpoints".20*/file)" $'line\nline'
}

# only_errors COMMAND...   Runs COMMAND and removes the notes from its messages.
only_errors() {
  local status=0
  "$@" 2>"$BATS_TEST_TMPDIR/errors" || status=$?
  grep ': error: ' "$BATS_TEST_TMPDIR/errors" >&2
  return "$status"
}

# Prints all files on scratch, except the kit's store of sources and its locks.
tree() {
  find "$SCRATCH" -path '*/hpc_outputs/.*' -prune -o -printf '%p %y %s\n' | LC_ALL=C sort
}

@test "the experiment of a live job: refused at once, also while --follow runs, and its folder is not changed" {
  checkpointing
  local before option
  bash "$project/hpc/job_submitter.sh" -W srun --exp-name named --sbatch-arg=--hold --follow \
    >"$BATS_TEST_TMPDIR/job" 2>"$BATS_TEST_TMPDIR/followed" 3>&- 4>&- &
  follower=$!
  wait_until 10 test -s "$BATS_TEST_TMPDIR/job"
  job=$(<"$BATS_TEST_TMPDIR/job")
  before=$(tree)
  for option in '' --resume --fresh; do
    fails_with 1 "'named' belongs to job $job \(PENDING\)" \
      timeout "$(patience 20)" bash "$project/hpc/job_submitter.sh" -W srun --exp-name named ${option:+"$option"}
  done
  same "$(tree)" "$before"
  scontrol release "$job"
  wait "$follower"
  same "$(cat -- "$checkpoints/file")" line
}

@test "Ctrl-C while sbatch has not answered yet: the job is recorded, and --follow ends at once" {
  experiments true
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  cat >"$BATS_TEST_TMPDIR/bin/sbatch" <<SCRIPT
#!/bin/bash
id=\$($(command -v sbatch) "\$@") || exit
if [[ \$* != *--test-only* ]]; then
  : >'$BATS_TEST_TMPDIR/sent'
  until [[ -e '$BATS_TEST_TMPDIR/answer' ]]; do sleep 0.1; done
fi
echo "\$id"
SCRIPT
  chmod +x -- "$BATS_TEST_TMPDIR/bin/sbatch"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH setsid env --default-signal=INT bash "$project/hpc/job_submitter.sh" -W srun --sbatch-arg=--hold --follow \
    >"$BATS_TEST_TMPDIR/job" 2>"$BATS_TEST_TMPDIR/followed" 3>&- 4>&- &
  follower=$!
  wait_until 30 test -e "$BATS_TEST_TMPDIR/sent"
  kill -s INT -- "-$follower"
  : >"$BATS_TEST_TMPDIR/answer"
  local status=0
  wait "$follower" || status=$?
  same "$status" 130
  job=$(<"$BATS_TEST_TMPDIR/job")
  grep -F "job $job goes on" "$BATS_TEST_TMPDIR/followed"
  same "$(cat -- "$SCRATCH"/*/hpc_outputs/*/job_id)" "$job"
  same "$(job_field "$job" JobState)" PENDING
}

@test "several submitters use one name at the same time: one gets a job" {
  checkpointing
  local -a submitters
  local process number accepted=0 refused=0 status
  for number in 1 2 3 4; do
    submitter -W srun --exp-name named --sbatch-arg=--hold >"$BATS_TEST_TMPDIR/job.$number" 2>"$BATS_TEST_TMPDIR/errors.$number" &
    submitters+=($!)
  done
  for process in "${submitters[@]}"; do
    status=0
    wait "$process" || status=$?
    case $status in
      0) accepted=$((accepted + 1)) ;;
      1) refused=$((refused + 1)) ;;
    esac
  done
  cat -- "$BATS_TEST_TMPDIR"/errors.* >&2
  ((accepted == 1 && refused == 3))
  (($(cat -- "$BATS_TEST_TMPDIR"/errors.* | grep -c "'named' belongs to job $(cat -- "$BATS_TEST_TMPDIR"/job.*) ") == 3))
  same "$(squeue --noheader --name=named --format=%i)" "$(cat -- "$BATS_TEST_TMPDIR"/job.*)"
  same "$(find "$SCRATCH" -mindepth 3 -maxdepth 3 -path '*/hpc_outputs/named_*' | wc -l)" 1
}

# leaves_nothing STATUS PATTERN OPTION...   The request must be refused in one line and leave all files as they were.
leaves_nothing() {
  local -r wanted=$1 pattern=$2
  shift 2
  local before jobs
  before=$(tree)
  jobs=$(squeue --noheader --format=%i)
  set -- submitter "$@"
  if [[ " $* " == *' --no-preflight '* ]]; then set -- only_errors "$@"; fi # there is a note then
  fails_with "$wanted" "$pattern" "$@"
  same "$(tree)" "$before"
  same "$(squeue --noheader --format=%i)" "$jobs"
}

@test "a refusal leaves nothing" {
  mkdir -p -- "$SCRATCH/${project##*/}/hpc_outputs"
  leaves_nothing 2 'unknown option .--gpu-typ.: did you mean --gpu-type' --exp-name named --gpu-typ v100l
  leaves_nothing 2 "--gpus: 'x'" --exp-name named --gpus x
  leaves_nothing 2 "--time: 'banana'" --exp-name named --time banana
  leaves_nothing 2 'no configuration file' --exp-name named --configs nowhere.txt
  leaves_nothing 2 'contradict' --exp-name named --resume --fresh
  leaves_nothing 1 'partition main has 4 nodes' --exp-name named --gpus 5
  leaves_nothing 1 'configuration is not available' --exp-name named --num-nodes 5
  leaves_nothing 1 "partition 'nowhere'" --exp-name named --partition nowhere
  leaves_nothing 1 'Slurm would refuse the job: ' --exp-name named --constraint nothing-has-this
  leaves_nothing 1 'Slurm refused the job: ' --exp-name named --no-preflight --constraint nothing-has-this
  leaves_nothing 1 'Slurm refused the job: ' --exp-name named --no-preflight --no-snapshot --partition nowhere
  leaves_nothing 1 'Slurm refused the job: ' --no-preflight --partition nowhere

  local -r before=$(tree)
  truncate --size=300M -- "$project/large"
  run --separate-stderr submitter --exp-name named
  ((status == 1))
  [[ $stderr == *'300.0 MB  large'* ]]
  same "$(tree)" "$before"
}

@test "all nodes are drained: the job and its packing job are queued and cancelled together; an impossible request is refused" {
  mkdir -p -- "$SCRATCH/${project##*/}/data"
  scontrol update nodename="node[1-4]" state=drain reason=test
  run -0 --separate-stderr submitter -W srun --gpus 0 --exp-name waits --data data --pack-in-job --pack-time 5
  local -r sent=$stderr
  run -1 --separate-stderr submitter -W srun --gpus 5 --exp-name never
  local -r refused=$stderr
  local queued cancelled
  queued=$(squeue --noheader --format='%j %l' | sort)
  cancelled=$(bash "$project/hpc/experiments.sh" cancel waits 2>&1)
  wait_until 10 no_jobs
  scontrol update nodename="node[1-4]" state=resume # the other tests need them
  [[ $sent == *'warning: Slurm cannot start the job now: 4 of 4 nodes of partition main take no jobs'* ]]
  [[ $refused == *'Slurm refused the job: '*'configuration is not available' ]]
  same "$queued" $'pack_waits 5:00\nwaits 1:00:00'
  [[ $cancelled =~ ^'waits: cancelled '[0-9]+' '[0-9]+$ ]]
}

@test "a cluster that is down: a message of one line, and nothing is submitted" {
  sed -E "s/^SlurmctldPort=.*/SlurmctldPort=9/" "$SLURM_CONF" >"$BATS_TEST_TMPDIR/slurm.conf"
  local -r before=$(tree)
  SECONDS=0
  SLURM_CONF=$BATS_TEST_TMPDIR/slurm.conf fails_with 1 'Slurm does not answer' submitter --exp-name named
  ((SECONDS < $(patience 20)))
  same "$(tree)" "$before"
}

@test "no environment: the command that makes it, at submission, or on the node if it was removed since" {
  rm -- "$project/.venv"
  leaves_nothing 1 'no virtual environment .*venv/create\.sh' --exp-name named

  mkdir -p -- "$BATS_TEST_TMPDIR/config/hpc_kit/clusters" "$BATS_TEST_TMPDIR/environment/bin"
  ln -s -- "$(command -v python3)" "$BATS_TEST_TMPDIR/environment/bin/python"
  cat >"$BATS_TEST_TMPDIR/config/hpc_kit/clusters/mine.sh" <<PROFILE
site[environment]=${BATS_TEST_TMPDIR@Q}/environment
PROFILE
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  submit -W srun --cluster mine --sbatch-arg=--hold
  rm -r -- "$BATS_TEST_TMPDIR/environment"
  scontrol release "$job"
  ended "$job" 30 FAILED 1:0
  job_log | grep 'no python in the environment .*venv/create\.sh'
}
