#!/usr/bin/env bats
# .isc files of both generations (tests/isc) on the real Slurm. unit/isc.bats tests how their keys are read.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

# All files are submitted at once, from a home folder as their authors had it.
setup_file() {
  local demos
  cluster_up
  make_project_in "$BATS_FILE_TMPDIR"
  demos=$project/demos
  export project
  cp -R -- "$checkout/tests/isc" "$demos"
  cp -- "$BATS_TEST_DIRNAME/programs/report.py" "$demos/train.py"
  make_home "$demos"
  send fashion_mnist --gpus 1 --rapid-cycle none
  send hello_world --gpus 1
  send chess
  send deepseek
  send first_arc24
  send loop -p main
}

# make_home DEMOS   Makes the environments, folders and data that the files name; the environment with torch is a link.
make_home() {
  local -r folder=$SCRATCH/${project##*/}
  export HOME=$BATS_FILE_TMPDIR/home
  mkdir -p -- "$HOME/.venv/bin" "$HOME/chess" "$HOME/jobs" "$folder"/{f912e556-e78f-48c7,255087c3-046c,artifact-0b1c}
  ln -s -- "$(bash "$checkout/venv/create.sh" cpu)" "$HOME/.kit_venv"
  ln -s -- "$(command -v python3)" "$HOME/.venv/bin/python"
  cp -- "$1/torchrun" "$HOME/.venv/bin/"
  chmod +x -- "$HOME/.venv/bin/torchrun"
  printf 'PATH=$HOME/.venv/bin:$PATH\n' >"$HOME/.venv/bin/activate"
  cp -- "$1/train.py" "$HOME/chess/"
  cp -- "$1/train.py" "$HOME/jobs/"
  printf '#!/bin/sh\npython train.py job.sh\n' >"$HOME/jobs/job.sh"
  chmod +x -- "$HOME/jobs/job.sh"
  echo w >"$folder/artifact-0b1c/weights"
  echo d >"$folder/f912e556-e78f-48c7/data"
  echo d >"$folder/255087c3-046c/data"
}

# send NAME OPTION...   Submits it; keeps the job's id and the submitter's messages for the test.
send() {
  bash "$project/hpc/train.sh" "$project/demos/$1.isc" --mem-per-gpu 1G --cpus 4 "${@:2}" \
    >"$BATS_FILE_TMPDIR/$1.job" 2>"$BATS_FILE_TMPDIR/$1.said" 3>&- 4>&- || {
    cat -- "$BATS_FILE_TMPDIR/$1.said" >&2
    return 1
  }
}

teardown_file() {
  cat -- "$BATS_FILE_TMPDIR"/*.job 2>/dev/null | xargs --no-run-if-empty scancel --quiet || true
  cluster_down
}

# sent NAME   Sets job and run_directory.
sent() {
  job=$(<"$BATS_FILE_TMPDIR/$1.job")
  run_directory=$(dirname -- "$(grep -lx -- "$job" "$SCRATCH"/*/hpc_outputs/*/job_id)")
}

@test "the second generation: six processes of a torchrun of the command's own, on two nodes, with two data sets" {
  sent deepseek
  ended "$job" 60 COMPLETED 0:0
  same "$(told 5 arguments RANK WORLD_SIZE GROUP_RANK N_PROC NNODES)" "\
arguments=[\"--dataset-id\", \"255087c3-046c\", \"--name\", \"two words\"]
RANK=5
WORLD_SIZE=6
GROUP_RANK=1
N_PROC=3
NNODES=2"
  [[ $(find "$run_directory/task_1/output" -name 'rank_*.json' | wc -l) == 6 ]]
  [[ $(told 5 VIRTUAL_ENV) == "VIRTUAL_ENV=$HOME/.venv" && $(told 5 folder) == *'/source/demos"' ]]
  grep -qF 'note: gpus = 6: --num-nodes 2 --gpus 3' "$BATS_FILE_TMPDIR/deepseek.said"
}

@test "the first generation: the kit's torchrun, OUTPUT_PATH in the command; its output_path leads there" {
  sent fashion_mnist
  ended "$job" 60 COMPLETED 0:0
  same "$(told 1 arguments WORLD_SIZE LOSSY_ARTIFACT_PATH)" "\
arguments=[\"--epochs\", \"1000\", \"--lr\", \"0.01\", \"--save-dir\", \"$(escaped)\", \"--tboard-path\", \"$(escaped)/tb\"]
WORLD_SIZE=2
LOSSY_ARTIFACT_PATH=$run_directory/task_1/output"
  [[ $HOME/outputs/fashion_mnist/${run_directory##*/} -ef $run_directory ]]
}

# The output folder as JSON prints it.
escaped() {
  local -r text=$run_directory/task_1/output
  printf '%s\n' "${text//\"/\\\"}"
}

@test "in one line, with the node's rank as RANK; /data/ID leads to the node's own disk" {
  sent chess
  ended "$job" 60 COMPLETED 0:0
  same "$(told 7 folder WORLD_SIZE)" "folder=\"$HOME/chess\""$'\nWORLD_SIZE=8'
  [[ $(told 7 arguments) == "arguments=[\"--data\", \"$(told 7 SLURM_TMPDIR | cut -d = -f 2)/f912e556-e78f-48c7\"]" ]]
}

@test "a script of the user's, and a script with a loop" {
  sent first_arc24
  ended "$job" 60 COMPLETED 0:0
  same "$(told 0 arguments WORLD_SIZE)" $'arguments=["job.sh"]\nWORLD_SIZE=1'
  sent loop
  ended "$job" 60 COMPLETED 0:0
  same "$(told 2 arguments FOLD)" $'arguments=["--fold", "2"]\nFOLD=2'
}

@test "interruptible: killed at the warning before the time limit, it continues from its last save under the same id" {
  send cifar100 --grace-seconds 8 # here: on a busy machine it would be over before this test
  sent cifar100
  wait_until 60 test -e "$SCRATCH/${project##*/}/cifar100-resnet50/checkpoints/latest_1"
  scancel --batch --signal=USR1 "$job" # as Slurm does then
  ended "$job" 120 COMPLETED 0:0
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" $'notice time_limit\nfinished'
  (($(tail -n 1 "$run_directory/task_1/output/starts_1") > 10))
  [[ $(wc -l <"$run_directory/task_1/output/starts_1") == 2 ]]
}

@test "cycle: a program that only saves often is killed at the end of each cycle, and the long job continues from there" {
  local -a starts
  sent hello_world
  ended "$job" 120 COMPLETED 0:0
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" $'notice cycle\nnotice cycle\nfinished'
  mapfile -t starts <"$run_directory/task_1/output/starts_0"
  ((${#starts[@]} == 3 && starts[0] == 0 && starts[1] > 0 && starts[2] > starts[1]))
  [[ $(<"$run_directory/task_1/state") == completed ]]
}
