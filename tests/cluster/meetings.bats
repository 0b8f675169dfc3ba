#!/usr/bin/env bats
# Ranks that never speak with each other are told of, and no others: small programs of many kinds (programs/meetings.py), a task
# of an array each, by real torch, Lightning, accelerate and MPICH.

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

# set_mpi TYPE   What srun brings to MPI's ranks, where the job does not say it.
set_mpi() {
  sed -i "s/^MpiDefault=.*/MpiDefault=$1/" "$POCKET_CLUSTER_DIR/etc/slurm.conf"
  scontrol reconfigure
}

# tasks KIND...   Each a line of the configuration, and so a task. A word with a blank is a line itself.
tasks() {
  local kind
  local -a lines=()
  for kind in "$@"; do
    if [[ $kind == *' '* ]]; then lines+=("$kind"); else lines+=("python programs/meetings.py $kind"); fi
  done
  experiments "${lines[@]}"
}

# expect_alone KIND...   Of all jobs that were submitted (`sent`): tasks of these kinds have the warning in their logs and the verdict in their
# attempts, the others neither. All have ended well.
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

# send OPTION...   The experiments, beside those that were sent before.
send() {
  submit --environment "$environment" "$@"
  sent+=("$job $run_directory")
}

@test "programs of many kinds: those that train alone are told of, and no others" {
  sent=()
  printf 'MEETINGS_SERVER=%s\nMEETINGS_PORT=%s\n' "$(scontrol show config | sed -nE 's/^SlurmctldHost.*[(=] *([0-9.]+)\)?$/\1/p' | tail -n 1)" \
    "$(scontrol show config | sed -nE 's/^SlurmctldPort *= ([0-9]+).*/\1/p')" >"$project/.env"
  # By Slurm, a rank on each of two nodes.
  tasks ddp brief fsdp by_file by_tcp by_store store_only rpc own_sockets in_a_child spawn_together accelerated no_framework \
    'python -I programs/meetings.py ddp' 'bash -c "sleep 1"' plain quick spawn_apart group_of_one one_server lightning_single \
    'PYTHONPATH=src python programs/meetings.py plain' 'bash -c "exec python -I programs/meetings.py plain"'
  send -W srun --num-nodes 2 --max-parallel 2
  # By torchrun, which holds a store of its own: on one node, and on two.
  tasks ddp plain
  send --gpus 2
  send --num-nodes 2
  # By launchers of their own.
  tasks 'python -m torch.distributed.run --nnodes=${NNODES} --nproc-per-node=1 --node-rank=${NODE_RANK} --master-addr=${MASTER_ADDR} --master-port=${MASTER_PORT} programs/meetings.py ddp' \
    'accelerate launch --cpu --num_machines ${NNODES} --num_processes 2 --machine_rank ${NODE_RANK} --main_process_ip ${MASTER_ADDR} --main_process_port ${MASTER_PORT} programs/meetings.py accelerated' \
    'bash programs/alone.sh'
  send -W node --num-nodes 2
  tasks lightning_together
  send -W lightning --num-nodes 2
  # In one node's memory, and by MPI, whose identity srun brings.
  tasks shared_memory_only mpi
  send -W srun --gpus 2
  expect_alone plain quick spawn_apart group_of_one one_server lightning_single 'bash programs/alone.sh'
}

@test "--independent: nothing is said" {
  sent=()
  tasks quick
  send -W srun --gpus 2 --independent
  expect_alone
}
