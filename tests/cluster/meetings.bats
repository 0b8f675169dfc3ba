#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # ${NAME} is replaced on the node; variables of ../helpers
# Ranks that never speak with each other are told of, and no others: small programs of many kinds (programs/meetings.py), a task
# of an array each, by real torch, Lightning, accelerate and MPICH.

load ../helpers
load reports

setup_file() {
  cluster_up
  make_environment
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

# As reports.bash makes that of Lightning, with accelerate and MPI.
make_environment() {
  local -ra requirements=(lightning==2.6.6 accelerate==1.15.0 mpi4py==4.1.2 mpich==5.0.2)
  local kit key lock
  kit=$(bash "$checkout/venv/create.sh" cpu)
  key=$(printf '%s\n' "${requirements[@]}" "$kit" | sha256sum)
  export environment=$checkout/.venv/meetings-${key:0:12}
  exec {lock}>"$environment.lock"
  flock "$lock"
  if [[ ! -e $environment/complete ]]; then
    rm -rf -- "$environment"
    "$kit/bin/python" -m venv "$environment"
    "$environment/bin/python" -c 'import site, sys; open(site.getsitepackages()[0] + "/kit.pth", "w").write(sys.argv[1])' \
      "$("$kit/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]}" --constraint "$checkout/venv/constraints-cpu.txt"
    touch -- "$environment/complete"
  fi
  exec {lock}>&-
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

# expect_alone KIND...   Of the array of the last `submit`: these have the warning in their logs and the verdict in their attempts, the others
# neither. All have ended well.
expect_alone() {
  local kind folder command wanted=''
  for kind in "$@"; do wanted+=" $kind "; done
  wait_for_job "$job" 300
  for folder in "$run_directory"/task_*; do
    command=$(tr '\0' ' ' <"$folder/command")
    kind=${command% }
    kind=${kind##*meetings.py }
    grep -q ': exit status 0, finished$' "$folder/log.txt"
    [[ ! -e $folder/attempt_0/ranks ]]
    if [[ $wanted == *" $kind "* || $command == *alone* ]]; then
      grep -qE '^warning: job [0-9]+: its [24] processes (are 2 groups that )?never spoke with each other' "$folder/log.txt"
      [[ -s $folder/attempt_0/unconnected ]]
    elif grep -q 'never spoke' "$folder/log.txt" || [[ -e $folder/attempt_0/unconnected ]]; then
      return 1
    fi || { printf 'task %s: %s\n%s\n' "${folder##*_}" "$command" "$(<"$folder/log.txt")" >&2 && return 1; }
  done
}

@test "srun, two nodes" {
  printf 'MEETINGS_SERVER=%s\nMEETINGS_PORT=%s\n' "$(scontrol show config | sed -nE 's/^SlurmctldHost.*[(=] *([0-9.]+)\)?$/\1/p' | tail -n 1)" \
    "$(scontrol show config | sed -nE 's/^SlurmctldPort *= ([0-9]+).*/\1/p')" >"$project/.env"
  tasks ddp brief fsdp by_file by_tcp by_store store_only rpc own_sockets in_a_child spawn_together accelerated mpi no_framework \
    'python -I programs/meetings.py ddp' 'bash -c "sleep 1"' plain quick spawn_apart group_of_one one_server lightning_single \
    'PYTHONPATH=src python programs/meetings.py plain' 'bash -c "exec python -I programs/meetings.py plain"'
  submit -W srun --num-nodes 2 --environment "$environment" --max-parallel 2
  expect_alone plain quick spawn_apart group_of_one one_server lightning_single 'plain"'
}

@test "torchrun, Lightning, a launcher of one's own; one node" {
  tasks ddp plain
  submit -W torchrun --gpus 2
  expect_alone plain
  submit -W torchrun --num-nodes 2
  expect_alone plain
  tasks 'python -m torch.distributed.run --nnodes=${NNODES} --nproc-per-node=2 --node-rank=${NODE_RANK} --master-addr=${MASTER_ADDR} --master-port=${MASTER_PORT} programs/meetings.py ddp' \
    'accelerate launch --cpu --num_machines ${NNODES} --num_processes 2 --machine_rank ${NODE_RANK} --main_process_ip ${MASTER_ADDR} --main_process_port ${MASTER_PORT} programs/meetings.py accelerated' \
    'bash programs/alone.sh'
  submit -W node --num-nodes 2 --environment "$environment"
  expect_alone
  tasks lightning_together
  submit -W lightning --num-nodes 2 --environment "$environment"
  expect_alone
  tasks shared_memory_only
  submit -W srun --gpus 2
  expect_alone
  tasks plain
  submit -W srun --gpus 2 --independent
  expect_alone
}
