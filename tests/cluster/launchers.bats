#!/usr/bin/env bats
# The launchers that start each rank with Slurm, with the real libraries. jobs.bats tests torchrun.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
  make_lightning_profile
}

teardown_file() {
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

# A user's own profile.
make_lightning_profile() {
  local environment
  environment=$(lightning_environment)
  export XDG_CONFIG_HOME=$BATS_FILE_TMPDIR/config
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  cat >"$XDG_CONFIG_HOME/hpc_kit/clusters/lightning.sh" <<PROFILE
site[environment]=${environment@Q}
PROFILE
}

# expect_lightning PROCESSES_PER_NODE   Checks what Lightning finds on two nodes.
expect_lightning() {
  local -r processes=$1
  local rank
  for ((rank = 0; rank < 2 * processes; rank++)); do
    same "$(told "$rank" cluster rank local_rank node_rank world_size steps head port)" "\
cluster=\"SLURMEnvironment\"
rank=$rank
local_rank=$((rank % processes))
node_rank=$((rank / processes))
world_size=$((2 * processes))
steps=2
head=\"$(told 0 MASTER_ADDR | cut -d = -f 2)\"
port=$(told 0 MASTER_PORT | cut -d = -f 2)"
    same "$(told "$rank" SLURMD_NODENAME)" "SLURMD_NODENAME=node$((rank / processes + 1))"
    same "$(told "$rank" weight)" "$(told 0 weight)"
  done
}

@test "lightning: its trainer finds four ranks on two nodes, the head node and the port" {
  XDG_CONFIG_HOME=$BATS_FILE_TMPDIR/config
  use_programs 'lightning_ranks.py --num_nodes {nodes} --gpus {gpus}'
  submit -W lightning --cluster lightning --gpus 2 --num-nodes 2 --nodelist 'node[1-2]'
  ended "$job" 90 COMPLETED 0:0
  expect_lightning 2
}

@test "srun: the same trainer, one rank on each node" {
  XDG_CONFIG_HOME=$BATS_FILE_TMPDIR/config
  use_programs 'lightning_ranks.py --num_nodes={nodes} --gpus={gpus}'
  submit -W srun --cluster lightning --num-nodes 2 --nodelist 'node[1-2]'
  ended "$job" 90 COMPLETED 0:0
  expect_lightning 1
}

@test "lightning: its trainer stops at a notice on four ranks and continues at that step" {
  local last
  XDG_CONFIG_HOME=$BATS_FILE_TMPDIR/config
  use_programs
  experiments 'python -m programs.lightning_survives 60 {nodes} {gpus}'
  submit -W lightning --cluster lightning --gpus 2 --num-nodes 2
  wait_until 120 grep -qs '^batch .* step 5 ' "$run_directory/task_1/log.txt"
  : >"$run_directory/task_1/attempt_0/stop"
  ended "$job" 120 COMPLETED 0:0
  same "$(cat -- "$run_directory"/task_1/attempt_*/cause)" $'notice request\nfinished'
  last=$(job_log | sed -nE 's/^interrupted at step ([0-9]+) by .*/\1/p' | head -n 1)
  ((last > 4 && last < 60))
  same "$(job_log | sed '1,/^interrupted at step/d' | sed -nE 's/^batch .* step ([0-9]+) .*/\1/p' | sort -nu | head -n 1)" "$((last + 1))"
}

@test "srun: torch's own process group, four ranks on two nodes" {
  use_programs all_reduce.py
  submit -W srun --gpus 2 --num-nodes 2
  ended "$job" 60 COMPLETED 0:0
  job_log | grep -E '^sum 15 at [0-9.]+ port [0-9]+$'
}
