#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; bats and the helpers set the others
# experiments.sh report, over run directories as batch.sh leaves them.

load ../helpers

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  folder=$SCRATCH/${project##*/}
  mkdir -p -- "$folder/seeds"
}

# task RUN NUMBER ID TEXT STATE [RESULT]
task() {
  local -r directory=$folder/hpc_outputs/$1
  if [[ ! -d $directory ]]; then echo "$1" >>"$folder/seeds/runs"; fi
  mkdir -p -- "$directory/task_$2/output"
  printf '%s\t%s\t%s\n' "$2" "$3" "$4" >>"$directory/tasks"
  echo "$5" >"$directory/task_$2/state"
  if [[ -n ${6:-} ]]; then printf '%s\n' "$6" >"$directory/task_$2/output/result.json"; fi
}

report() {
  run -0 bash "$project/hpc/experiments.sh" report "$@"
}

@test "mean, deviation and interval of each line, over its seeds" {
  task one 1 task_1_seed_0 'seed 0: train a' completed '{"accuracy": 0.90, "epochs": 3}'
  task one 2 task_1_seed_1 'seed 1: train a' completed '{"accuracy": 0.92, "epochs": 3}'
  task one 3 task_1_seed_2 'seed 2: train a' completed '{"accuracy": 0.97, "epochs": 3}'
  task one 4 task_2_seed_0 'seed 0: train b' completed '{"accuracy": 0.5}'
  report seeds
  # By hand: mean 0.93, s = 0.0360555, t(2) = 4.30265, 4.30265 s / sqrt(3) = 0.0895669.
  [[ $output =~ train\ a$'\n'\ +accuracy\ +3\ of\ 3\ +0\.93\ +0\.0360555\ +±\ 0\.0895669$'\n'\ +epochs\ +3\ of\ 3\ +3\ +0\ +±\ 0 ]]
  [[ $output =~ train\ b$'\n'\ +accuracy\ +1\ of\ 1\ +0\.5\ +-\ +-$ ]]
}

@test "what failed, is missing, or has no number is shown, and not averaged" {
  task one 1 task_1_seed_0 'seed 0: train' completed '{"loss": 2}'
  task one 2 task_1_seed_1 'seed 1: train' failed '{"loss": 1000}'
  task one 3 task_1_seed_2 'seed 2: train' enqueued
  task one 4 task_1_seed_3 'seed 3: train' completed '{"loss": NaN}'
  task one 5 task_1_seed_4 'seed 4: train' completed
  task one 6 task_1_seed_5 'seed 5: train' completed '{"loss": 4}'
  report seeds
  [[ $output =~ loss\ +2\ of\ 6\ +3\  ]]
  [[ $output == *'task_1_seed_1 (seed 1): failed'*'task_1_seed_2 (seed 2): enqueued'*'task_1_seed_3 (seed 3): loss is nan'* ]]
  [[ $output == *'task_1_seed_4 (seed 4): completed, without a result.json'* ]]
}

@test "of several runs of an experiment, what has completed counts" {
  task one 1 task_1_seed_0 'seed 0: train' completed '{"loss": 1}'
  task one 2 task_1_seed_1 'seed 1: train' failed
  task two 1 task_1_seed_0 'seed 0: train' enqueued
  task two 2 task_1_seed_1 'seed 1: train' completed '{"loss": 3}'
  report seeds
  [[ $output =~ loss\ +2\ of\ 2\ +2\  && $output != *failed* && $output != *enqueued* ]]
  report "$folder/hpc_outputs/one"
  [[ $output == *'(seed 1): failed'* ]]
}

@test "the last line of a .jsonl file, where there is no result.json; other files are left alone" {
  task one 1 task_1 'train' completed
  printf '{"step": 1, "loss": 9}\n{"step": 2, "loss": 5, "name": "x", "good": true}\n' >"$folder/hpc_outputs/one/task_1/output/log.jsonl"
  printf 'not json\n' >"$folder/hpc_outputs/one/task_1/output/other.jsonl"
  report seeds
  [[ $output =~ loss\ +1\ of\ 1\ +5\  && $output != *name* && $output != *good* ]]
}

@test "what cannot be" {
  fails_with 2 "report needs an experiment's name, or a run directory$" bash "$project/hpc/experiments.sh" report
  fails_with 1 "no run of an experiment 'none' in " bash "$project/hpc/experiments.sh" report none
  unset SCRATCH
  fails_with 1 'SCRATCH is not set' bash "$project/hpc/experiments.sh" report none
}
