#!/usr/bin/env bats
# Nodes that differ from ours: their own names resolve to a loopback or an old address, and the login shell has limits. The file has its own
# cluster, because it changes the nodes' /etc/hosts.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  unset POCKET_CLUSTER_DIR
  cluster_up_with --nodes 2 --gpus-per-node 2 --tmpdir none
}

teardown_file() {
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

# nodes_are ADDRESS   Makes all nodes' names resolve to ADDRESS, in the /etc/hosts of all nodes.
nodes_are() {
  local -r file=$POCKET_CLUSTER_DIR/etc/hosts
  if [[ $(bash "$checkout/hpc/pocket_cluster.sh" status 2>&1) == *loopback* ]]; then skip 'nodes without an /etc/hosts of their own'; fi
  local text
  text=$(sed -E "s/^[0-9a-f:.]+( node[0-9]+)\$/$1\1/" "$file" | awk '!seen[$0]++')
  printf '%s\n' "$text" >"$file" # in place: the nodes have it mounted
}

@test "each node's own name resolves to 127.0.1.1: torch's ranks on two nodes meet, through the interface to the head node" {
  nodes_are 127.0.1.1
  use_programs 'all_reduce.py'
  submit --gpus 1 --num-nodes 2 --cpus 1 --mem 1500M
  ended "$job" 120 COMPLETED 0:0
  [[ $(job_log) == *'sum 3 at '* ]]
}

@test "a node's own name resolves to an old address: torchrun on one node" {
  nodes_are 192.0.2.99
  use_programs 'all_reduce.py'
  submit --gpus 2 --cpus 2 --mem 3G
  ended "$job" 120 COMPLETED 0:0
  [[ $(job_log) == *'sum 3 at 127.0.0.1 port '* ]]
}

@test "the job does not inherit limits of the login shell, and ranks may open as many files as the site allows" {
  mkdir -p -- "$BATS_TEST_TMPDIR/light/bin"
  ln -s -- "$(command -v python3)" "$BATS_TEST_TMPDIR/light/bin/python"
  experiments "bash -c 'echo cpu=\$(ulimit -S -t) files=\$(ulimit -S -n) overlap=\${SLURM_OVERLAP-unset} \$GLOO_SOCKET_IFNAME'"
  (
    ulimit -S -t 60
    ulimit -S -n 64
    submit --environment "$BATS_TEST_TMPDIR/light" -W srun --gpus 0 --num-nodes 2 --cpus 1 --mem 100M
    printf '%s\n%s\n' "$job" "$run_directory" >"$BATS_TEST_TMPDIR/sent"
  )
  { read -r job && read -r run_directory; } <"$BATS_TEST_TMPDIR/sent"
  ended "$job" 60 COMPLETED 0:0
  [[ $(grep -c '^cpu=unlimited files=[0-9]\{4,\} overlap=unset .' "$run_directory/task_1/log.txt") == 2 ]]
}
