#!/usr/bin/env bats
# Arrays of repeats on the real Slurm; one of them with MaxArraySize 100, on its own cluster.

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
  mkdir -- "$SCRATCH"
}

teardown() {
  local -r small=$BATS_FILE_TMPDIR/small
  if [[ -d $small ]]; then POCKET_CLUSTER_DIR=$small bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-; fi
}

report() {
  bash "$project/hpc/experiments.sh" report "$@"
}

@test "repeats over seeds end in a table; --only-missing runs what failed, and nothing twice" {
  local experiment
  use_programs 'measure.py {seed}'
  submit -W srun --gpus 0 --exp-name seeds --repeat 4
  wait_for_job "$job" 120
  same "$(sort <<<"$job_states" | uniq -c | xargs)" '3 COMPLETED 1 FAILED'
  same "$(cat -- "$run_directory"/task_*/state | sort | uniq -c | xargs)" '3 completed 1 failed'
  run -0 report seeds
  # The mean of 0, 1 and 9 is 10/3, s = 4.932883, t(2) = 4.302653, 4.302653 s / sqrt(3) = 12.25399.
  [[ $output =~ score\ +3\ of\ 4\ +3\.33333\ +4\.93288\ +±\ 12\.254 && $output == *'task_1_seed_2 (seed 2): failed'* ]]

  experiment=$SCRATCH/${project##*/}/seeds
  : >"$experiment/FIXED"
  submit -W srun --gpus 0 --exp-name seeds --repeat 4 --only-missing
  wait_for_job "$job" 60
  same "$job_states" COMPLETED
  run -0 report seeds
  [[ $output =~ score\ +4\ of\ 4\ +3\.5\  && $output != *': failed'* ]]
  same "$(sort -n -- "$experiment"/checkpoints/*/runs | xargs)" '0 1 2 2 3'
  run -0 --separate-stderr submitter -W srun --gpus 0 --exp-name seeds --repeat 4 --only-missing
  [[ -z $output && $stderr == *'nothing is missing'* ]]
}

@test "the points of a sweep without W&B: results as lines of JSON, in a table; only failed points are submitted again" {
  local -r file=$BATS_TEST_TMPDIR/sweep.yml
  use_programs 'none.py'
  printf '%s\n' 'method: grid' 'program: programs/point.py' 'parameters: {a: {values: [1, 2]}, b: {values: [1, 2]}}' >"$file"
  submit -W srun --gpus 0 --exp-name search --sweep-config "$file" --offline
  wait_for_job "$job" 120
  same "$(sort <<<"$job_states" | uniq -c | xargs)" '3 COMPLETED 1 FAILED'
  run -0 report search
  [[ $output =~ a=1\ b=2$'\n'\ +step\ +1\ of\ 1\ +2\ .*$'\n'\ +product\ +1\ of\ 1\ +4\  && $output =~ a=2\ b=2$'\n'\ +[0-9a-f]+:\ failed ]]
  # The file has another order and more points; the ids stay the same.
  : >"$SCRATCH/${project##*/}/search/FIXED"
  printf '%s\n' 'parameters: {b: {values: [2, 1]}, a: {values: [2, 1, 3]}}' 'program: programs/point.py' 'method: grid' >"$file"
  submit -W srun --gpus 0 --exp-name search --sweep-config "$file" --offline --only-missing
  wait_for_job "$job" 120
  same "$(sort -- "$SCRATCH/${project##*/}"/search/checkpoints/*/runs | xargs)" '11 12 21 22 22 31 32'
  run -0 report search
  [[ $output != *': failed'* && $(grep -c 'product' <<<"$output") == 6 ]]
}

@test "1,000 tasks with MaxArraySize 100: each is submitted once, and after a cancel the missing ones" {
  local first task
  export POCKET_CLUSTER_DIR=$BATS_FILE_TMPDIR/small
  mkdir -- "$POCKET_CLUSTER_DIR"
  echo 200000 >"$POCKET_CLUSTER_DIR/next_job_id"
  bash "$checkout/hpc/pocket_cluster.sh" up --nodes 1 --network loopback 3>&- 4>&-
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  echo 'MaxArraySize=100' >>"$SLURM_CONF"
  kill -KILL "$(cut -d ' ' -f 1 "$POCKET_CLUSTER_DIR/pids/slurmctld")"
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&-
  [[ $(scontrol show config) =~ MaxArraySize\ +=\ 100$'\n' ]]

  mv -- "$project" "$BATS_TEST_TMPDIR/project"
  project=$BATS_TEST_TMPDIR/project
  experiments 'true {seed}'
  submitter -W srun --gpus 0 --exp-name many --repeat 1000 >"$BATS_TEST_TMPDIR/jobs"
  run_directory=$(dirname -- "$(compgen -G "$SCRATCH/project/hpc_outputs/many_*/job_id")")
  first=$run_directory
  cmp "$BATS_TEST_TMPDIR/jobs" "$run_directory/job_id"
  same "$(wc -l <"$BATS_TEST_TMPDIR/jobs")" 11
  same "$(tasks_known)" "$(seq 1000)"
  wait_until 90 grep -qx completed "$run_directory/task_2/state"
  xargs scancel <"$BATS_TEST_TMPDIR/jobs"
  wait_until 60 no_jobs

  submitter -W srun --gpus 0 --exp-name many --repeat 1000 --only-missing >"$BATS_TEST_TMPDIR/jobs"
  run_directory=$(dirname -- "$(grep -lx -- "$(head -n 1 "$BATS_TEST_TMPDIR/jobs")" "$SCRATCH"/project/hpc_outputs/many_*/job_id)")
  xargs scancel <"$BATS_TEST_TMPDIR/jobs"
  same "$({ tasks_known && grep -lx completed "$first"/task_*/state | sed -E 's|.*/task_([0-9]+)/state|\1|'; } | sort -n)" "$(seq 1000)"
  wait_until 60 no_jobs

  # Tasks whose number is not their index must find their folder, and Slurm must find their log.
  for task in "$run_directory"/task_*; do
    if [[ $task != */task_@(150|1000) ]]; then echo completed >"$task/state"; fi
  done
  submit -W srun --gpus 0 --exp-name many --repeat 1000 --only-missing --follow 2>"$BATS_TEST_TMPDIR/messages"
  run_directory=$(grep -o '[^ ]*/hpc_outputs/many_[^ ]*$' "$BATS_TEST_TMPDIR/messages" | tail -n 1)
  same "$(cat -- "$run_directory"/task_{150,1000}/state)" $'completed\ncompleted'
  [[ $(<"$run_directory/task_1000/log.txt") == *'exit status 0, finished'* ]]
  same "$(tr '\0' ' ' <"$run_directory/task_1000/environment")" 'SEED=999 '
}

# Prints the numbers of the tasks that Slurm has for the run's jobs, sorted. Slurm 24.11 and later do not show the arguments of a job's
# script, so the offset of each job comes from the command that submitted it.
tasks_known() {
  local job offset part
  local -a sent
  mapfile -t sent < <(printf '%s\n' "$run_directory"/sbatch_argv* | sort -V)
  while read -r job; do
    offset=$(tr '\0' '\n' <"${sent[0]}" | sed -n 's/^offset=//p')
    sent=("${sent[@]:1}")
    for part in $(scontrol --oneliner show job "$job" | sed -nE 's/.*ArrayTaskId=([0-9,-]+).*/\1/p' | tr , ' '); do
      seq "$((${part%-*} + ${offset:-0}))" "$((${part#*-} + ${offset:-0}))"
    done
  done <"$run_directory/job_id" | sort -n
}
