#!/usr/bin/env bats
# job_submitter.sh --here runs inside an allocation of salloc. The whole file uses one allocation, which must still exist at the end.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
  salloc --quiet --no-shell --nodes=2 --gpus-per-node=2 --cpus-per-task=4 --mem=4G --time=20 --job-name=held 3>&- 4>&-
  held=$(squeue --noheader --name=held --format=%A)
  light=$BATS_FILE_TMPDIR/light
  mkdir -p -- "$light/bin"
  ln -s -- "$(bash "$checkout/venv/create.sh" cpu)/bin/python" "$light/bin/python"
  export held light
}

teardown_file() {
  scancel --quiet "$held"
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

# After every run the allocation must still run, must never have been requeued, and its nodes must be clean.
teardown() {
  if [[ -n ${runner:-} ]]; then kill -s KILL -- "-$runner" 2>/dev/null || true; fi
  same "$(squeue --noheader --jobs="$held" --format=%T) $(job_field "$held" Restarts)" 'RUNNING 0'
  wait_until 20 no_steps
  same "$(local_folders "$held" | grep "_${held}_" || true)" ''
}

no_steps() {
  [[ -z $(squeue --steps --noheader --jobs="$held" --format=%i) ]]
}

# here OPTION...   Runs it from outside, in the light environment. Sets `output`, `stderr` and run_directory.
here() {
  run --separate-stderr submitter --here "$held" --environment "$light" -W srun "$@"
  printf '%s\n' "$stderr" >&2
  find_run
}

find_run() {
  local -a found=("$SCRATCH"/*/hpc_outputs/*/facts)
  run_directory=${found[-1]%/facts}
}

# begin OPTION...   Runs it in the background and waits until the program has done some steps.
begin() {
  before=${run_directory:-}
  set -m
  submitter --here "$held" --environment "$light" -W srun "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" &
  runner=$!
  set +m
  wait_until 30 has_begun || { cat -- "$BATS_TEST_TMPDIR/err" >&2 && return 1; }
}

has_begun() {
  find_run
  [[ $run_directory != "$before" && -s $run_directory/task_1/output/rank_0 ]]
}

press() {
  run python3 "$BATS_TEST_DIRNAME/programs/ctrl_c.py" "$@" -- bash "$project/hpc/job_submitter.sh" --here "$held" --environment "$light" -W srun 3>&- 4>&-
  printf '%s\n' "$output" >&2
  find_run
}

steps_ended() {
  ! pgrep -f "programs/steps.py $1" >/dev/null
}

state_of() {
  bash "$project/hpc/experiments.sh" list --json | python3 -c 'import json, sys; print([run["state"] for run in json.load(sys.stdin) if run["output_path"] == sys.argv[1]][0])' "$run_directory"
}

@test "from the shell of salloc: four ranks on two nodes under torchrun, as in a job; the allocation continues, its nodes are clean" {
  use_programs all_reduce.py
  run --separate-stderr salloc --nodes=2 --gpus-per-node=2 --cpus-per-task=4 --mem=4G --time=5 \
    bash "$BATS_TEST_DIRNAME/programs/in_salloc.sh" 0 bash "$project/hpc/job_submitter.sh" --here 3>&- 4>&-
  printf '%s\n%s\n' "$output" "$stderr" >&2
  same "$output" "${lines[0]}"$'\n'"allocation ${lines[0]} RUNNING"
  [[ $stderr == *'sum 15 at '* ]]
  local rank
  for rank in 0 1 2 3; do [[ $stderr == *$'\n'"rank $rank of 4: node $((rank / 2)), "*' CPUs, GPUs '[0-9],[0-9]* ]]; done
  find_run
  job_log | grep -q '^sum 15 at '
  same "$(<"$run_directory/task_1/attempt_0/cause") $(<"$run_directory/job_id")" "finished ${lines[0]}"
}

@test "from the shell of an interactive step (use_interactive_step), on a part of the allocation" {
  use_programs 'report.py'
  run --separate-stderr salloc --nodes=2 --gpus-per-node=2 --ntasks-per-node=4 --mem=2G --time=5 \
    srun --interactive --preserve-env \
    bash "$BATS_TEST_DIRNAME/programs/in_salloc.sh" 0 bash "$project/hpc/job_submitter.sh" --here --num-nodes 1 --gpus 1 --environment "$light" -W srun 3>&- 4>&-
  printf '%s\n%s\n' "$output" "$stderr" >&2
  [[ $output == *$'\n''allocation '*' RUNNING' ]]
  find_run
  same "$(told 0 WORLD_SIZE NNODES SLURM_NTASKS SLURM_JOB_NUM_NODES)" $'WORLD_SIZE=1\nNNODES=1\nSLURM_NTASKS=1\nSLURM_JOB_NUM_NODES=1'
  [[ $stderr =~ 'rank 0 of 1: node 0, node'[0-9]' (127.0.0.1), local rank 0, '[0-9]+' CPUs, GPUs '[0-9]$'\n' ]]
}

@test "from outside, by the job's id: a failed run exits with its status, and why names the rank; the next run works" {
  use_programs 'fail.py exit 2'
  here
  ((status == 3))
  same "$output" "$held"
  run -0 bash "$project/hpc/experiments.sh" why "$held"
  [[ $output == *"job ${run_directory##*/} ("*'): failed: rank 2 on node'*'ended with status 3'* ]]
  same "$(state_of)" failed
  local -r first=$run_directory
  use_programs 'steps.py 3'
  here --exp-name named
  ((status == 0))
  here --exp-name named --fresh # the job continues but does not block the experiment
  ((status == 0))
  [[ $run_directory != "$first" ]]
  run -0 --separate-stderr bash "$project/hpc/experiments.sh" why "$held"
  [[ $output == "job ${run_directory##*/} (named): finished"* && $stderr == *"job $held has 2 more runs"* ]]
  run -0 bash "$project/hpc/experiments.sh" why "${first##*/}"
  [[ $output == *'ended with status 3'* ]]
}

@test "an interruption: the program saves and continues in place, in the same log; a second run meanwhile is refused" {
  use_programs 'steps.py 60 --wait 50'
  begin
  same "$(state_of)" running
  fails_with 1 "a run of the kit is in job $held already" submitter --here "$held" --environment "$light" -W srun
  : >"$run_directory/task_1/attempt_0/stop"
  wait_status "$runner"
  cat -- "$BATS_TEST_TMPDIR/err" >&2
  ((status == 0))
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" $'notice request\nfinished'
  same "$(cut -d ' ' -f 1 "$run_directory/task_1/output/rank_3")" "$(seq 60)"
  same "$(state_of)" completed
}

@test "Ctrl-C: the program saves and stops and is not restarted; resubmit continues it through the queue" {
  use_programs 'steps.py 61 --wait 50'
  press 'local rank'
  ((status == 75))
  [[ $output == *'asked to save and stop'* && $output == *'saved at step'* ]]
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" 'notice request'
  same "$(state_of)" stopped
  steps_ended 61
  local -r here=$run_directory
  job=$(bash "$project/hpc/experiments.sh" resubmit "${here##*/}" 3>&- 4>&-)
  [[ $job != "$held" ]]
  wait_for_job "$job" 60
  same "$job_states" COMPLETED
}

@test "a second Ctrl-C kills a program that ignores the first; nothing is left on the nodes" {
  use_programs 'steps.py 6002 --deaf'
  press 'local rank' 'asked to save'
  ((status == 137)) || { cat -- "$BATS_TEST_TMPDIR/err" >&2 && return 1; }
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" cancelled
  same "$(state_of)" cancelled
  steps_ended 6002
}

@test "a third Ctrl-C ends the step of batch.sh; its other steps end, too" {
  use_programs 'steps.py 6003 --deaf'
  press 'local rank' 'asked to save' 'the run is ended'
  ((status != 0))
  no_steps
  same "$(state_of)" cancelled
  steps_ended 6003
}

@test "experiments.sh stop and cancel end the run, not the allocation" {
  use_programs 'steps.py 6004'
  begin
  run -0 bash "$project/hpc/experiments.sh" stop "$held"
  wait_status "$runner"
  ((status == 75))
  same "$(<"$run_directory/task_1/attempt_0/cause")" 'notice request'
  use_programs 'steps.py 6005 --deaf'
  begin --exp-name zz # its folder is the last by name
  run -0 bash "$project/hpc/experiments.sh" cancel "$held"
  [[ $output == *"the allocation, job $held, stays"* ]]
  wait_status "$runner"
  ((status == 137)) || { cat -- "$BATS_TEST_TMPDIR/err" >&2 && return 1; }
  same "$(<"$run_directory/task_1/attempt_0/cause")" cancelled
  steps_ended 6005
}

@test "the time limit: the program is asked to save before it; a program that does not is killed" {
  use_programs 'steps.py 6006'
  here --time 0:36 --grace-seconds 30
  ((status == 75))
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" 'notice time_limit'
  use_programs 'steps.py 6007 --deaf'
  here --time 0:04 --exp-name zz
  ((status == 137)) || { cat -- "$BATS_TEST_TMPDIR/err" >&2 && return 1; }
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" time_limit
  steps_ended 6007
}

@test "a request for more than the allocation has is refused and leaves nothing" {
  fails_with 1 "--num-nodes 3: job $held has 2: " submitter --here "$held" --num-nodes 3
  fails_with 1 "--gpus 3: job $held has 2 on node[0-9]: " submitter --here "$held" --gpus 3
  fails_with 1 "--cpus 5: job $held has 4 CPUs on node[0-9]: " submitter --here "$held" --cpus 5 -W torchrun
  fails_with 1 "5120 MB of memory on each node: job $held has 4096 MB on node[0-9]: " submitter --here "$held" --mem 5G
  fails_with 1 'no job 4000000' submitter --here 4000000
  fails_with 1 'has ended \(CANCELLED\)' submitter --here "$(ended_job)"
  experiments 'true a' 'true b'
  fails_with 2 'runs one task, and this request has 2' submitter --here "$held" --no-preflight
  same "$(ls -A -- "$SCRATCH")" ''
}

ended_job() {
  local job
  job=$(sbatch --parsable --begin=now+1hour --output=/dev/null --wrap true)
  scancel "$job"
  printf '%s\n' "$job"
}
