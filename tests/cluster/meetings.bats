#!/usr/bin/env bats
# Ranks that never communicate with each other are reported, and no others. The programs are small and of many kinds (programs/meetings.py),
# one array task for each kind, with real torch, Lightning, accelerate and MPICH.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
  environment=$(meetings_environment)
  export environment
  set_mpi pmi2
}

teardown_file() {
  set_mpi none
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
  cp -R -- "$BATS_TEST_DIRNAME/programs" "$project/"
}

# set_mpi TYPE   Sets what srun gives to MPI ranks if the job does not say it.
set_mpi() {
  sed -i "s/^MpiDefault=.*/MpiDefault=$1/" "$POCKET_CLUSTER_DIR/etc/slurm.conf"
  scontrol reconfigure
}

# tasks KIND...   Writes a line of the configuration, and so a task, for each KIND. A word with a blank is the line itself.
tasks() {
  local kind
  local -a lines=()
  for kind in "$@"; do
    if [[ $kind == *' '* ]]; then lines+=("$kind"); else lines+=("python programs/meetings.py $kind"); fi
  done
  experiments "${lines[@]}"
}

# expect_alone KIND...   For all submitted jobs (`sent`): tasks of these kinds must have the warning in their logs and the verdict in their
# attempts, and the others must have neither. All must have completed.
expect_alone() {
  local kind folder command wanted='' entry
  for kind in "$@"; do wanted+=" $kind "; done
  for entry in "${sent[@]}"; do
    wait_for_job "${entry%% *}" 300
    for folder in "${entry#* }"/task_*; do
      command=$(tr '\0' ' ' <"$folder/command")
      kind=${command% }
      kind=${kind##*meetings.py }
      if ! grep -q ': exit status 0, finished$' "$folder/log.txt" || [[ -e $folder/attempt_0/ranks ]] || ! is_told_well; then
        printf 'task %s: %s\n%s\n' "${folder##*_}" "$command" "$(<"$folder/log.txt")" >&2
        return 1
      fi
    done
  done
}

is_told_well() {
  if [[ $wanted == *" $kind "* ]]; then
    [[ -s $folder/attempt_0/unconnected ]] &&
      grep -qE '^warning: job [0-9]+: its 2 processes never spoke with each other: each may have trained alone' "$folder/log.txt"
  else
    [[ ! -e $folder/attempt_0/unconnected ]] && ! grep -q 'never spoke' "$folder/log.txt"
  fi
}

# send OPTION...   Submits the experiments; earlier ones may still run.
send() {
  submit --environment "$environment" "$@"
  sent+=("$job $run_directory")
}

@test "programs of many kinds: those that train alone are reported, and no others" {
  sent=()
  printf 'MEETINGS_SERVER=%s\nMEETINGS_PORT=%s\n' "$(scontrol show config | sed -nE 's/^SlurmctldHost.*[(=] *([0-9.]+)\)?$/\1/p' | tail -n 1)" \
    "$(scontrol show config | sed -nE 's/^SlurmctldPort *= ([0-9]+).*/\1/p')" >"$project/.env"
  # Started by Slurm, one rank on each of two nodes.
  tasks ddp brief fsdp by_file by_tcp by_store store_only rpc own_sockets in_a_child spawn_together accelerated no_framework \
    'python -I programs/meetings.py ddp' 'bash -c "sleep 1"' plain quick spawn_apart group_of_one one_server lightning_single \
    'PYTHONPATH=src python programs/meetings.py plain' 'bash -c "exec python -I programs/meetings.py plain"'
  send -W srun --num-nodes 2 --max-parallel 2
  # Started by torchrun, which has its own store, on one node and on two.
  tasks ddp plain
  send --gpus 2
  send --num-nodes 2
  # Started by launchers of their own.
  tasks 'python -m torch.distributed.run --nnodes=${NNODES} --nproc-per-node=1 --node-rank=${NODE_RANK} --master-addr=${MASTER_ADDR} --master-port=${MASTER_PORT} programs/meetings.py ddp' \
    'accelerate launch --cpu --num_machines ${NNODES} --num_processes 2 --machine_rank ${NODE_RANK} --main_process_ip ${MASTER_ADDR} --main_process_port ${MASTER_PORT} programs/meetings.py accelerated' \
    'bash programs/alone.sh'
  send -W node --num-nodes 2
  tasks lightning_together
  send -W lightning --num-nodes 2
  # Ranks that communicate through a node's memory, and through MPI, whose identity srun sets.
  tasks shared_memory_only mpi
  send -W srun --gpus 2
  expect_alone plain quick spawn_apart group_of_one one_server lightning_single 'bash programs/alone.sh'
}

@test "--independent: nothing is reported" {
  sent=()
  tasks quick
  send -W srun --gpus 2 --independent
  expect_alone
}
