#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; ../helpers
# A training that is interrupted ends with the weights of one that is not, bit by bit: the digits of train/, four ranks
# on two nodes, on the real Slurm. Each fault is looked at for its weights, the cause that is written down, the number of
# restarts, and for what it leaves behind.

load ../helpers
load ../cluster/reports

setup_file() {
  cluster_up
  make_project "$BATS_FILE_TMPDIR"
  # In a path with a per cent sign Slurm's own words are not in the log, and the cause of an end is less exact.
  mv -T -- "$project" "$BATS_FILE_TMPDIR/project with a space"
  project="$BATS_FILE_TMPDIR/project with a space"
  export project
  prepare_digits "$SCRATCH/${project##*/}/datasets/digits"
  experiments 'python -m train digits --epochs 12 --save-every 20'
  # The run that nothing interrupts.
  train reference
  ended "$job" 120 COMPLETED 0:0
}

teardown_file() {
  cluster_down
}

# train NAME [OPTION...]   Sends the training.
train() {
  submit --gpus 2 --num-nodes 2 --nodelist 'node[1-2]' --exp-name "$@"
}

# at_epoch NUMBER   Until it is done.
at_epoch() {
  wait_until 60 grep -qs "^epoch $1/" "$run_directory/task_1/log.txt"
}

# survived NAME RESTARTS CAUSE...   The job has ended well, after attempts of these causes, with the same weights.
survived() {
  local cause number=0
  ended "$job" 150 COMPLETED 0:0
  same "$(job_field "$job" Restarts)" "$2"
  for cause in "${@:3}"; do
    same "$(<"$run_directory/task_1/attempt_$number/cause")" "$cause"
    number=$((number + 1))
  done
  same_weights "$1"
  same "$(local_folders "$job")" ''
  same "$(sinfo --noheader --states=drain,down --format=%N)" ''
}

same_weights() {
  local -a pythons=("$checkout"/.venv/cpu-*/bin/python)
  "${pythons[0]}" - "$SCRATCH/${project##*/}"/{reference,"$1"}/checkpoints/final.pt <<'PYTHON'
import sys
import torch
reference, other = (torch.load(path) for path in sys.argv[1:])
assert list(reference) == list(other)
assert all(torch.equal(reference[name], other[name]) for name in reference), "other weights"
PYTHON
}

@test "a stop file, twice in one training" {
  train stopped
  at_epoch 2
  : >"$run_directory/task_1/attempt_0/stop"
  wait_until 60 test -d "$run_directory/task_1/attempt_1"
  at_epoch 6
  : >"$run_directory/task_1/attempt_1/stop"
  survived stopped 2 'notice request' 'notice request' finished
}

@test "preemption" {
  train preempted
  at_epoch 2
  sbatch --parsable --partition=urgent --nodelist=node2 --exclusive --output=/dev/null --wrap true >/dev/null
  survived preempted 1 preempted finished
}

@test "a node dies with all that is on it" {
  train died
  at_epoch 4
  kill -KILL "$(cut -d ' ' -f 1 "$POCKET_CLUSTER_DIR/pids/node2")"
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&-
  survived died 1 node_failed finished
}

@test "the controller is started anew in the middle" {
  train controller
  at_epoch 2
  kill -KILL "$(cut -d ' ' -f 1 "$POCKET_CLUSTER_DIR/pids/slurmctld")"
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&-
  survived controller 0 finished
}

@test "a rank is killed: the job fails; sent again with --resume it ends with the same weights" {
  local process
  train killed
  at_epoch 4
  process=$(pgrep --newest --full "^python -m train digits")
  kill -KILL "$process"
  ended "$job" 60 FAILED 137:0
  [[ $(<"$run_directory/task_1/attempt_0/cause") == 'failed 137 '[0-3]' node'[12] ]]
  train killed --resume
  survived killed 0 finished
  [[ $(job_log) == *'resumed at step'* ]]
}
