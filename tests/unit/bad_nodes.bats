#!/usr/bin/env bats
# Nodes that fail twice within a day are excluded from new jobs.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA fact+=() # the libraries read it

setup() {
  export XDG_STATE_HOME=$BATS_TEST_TMPDIR/state SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default
  mkdir -- "$SCRATCH"
  use_libraries common bad_nodes
}

# failure NODE JOB [SECONDS_AGO]
failure() {
  bad_nodes::record stub "$1" "$2" node_failed 2>/dev/null
  if [[ -n ${3:-} ]]; then
    sed -i "\$s/^[0-9]*/$(($(date +%s) - $3))/" "$XDG_STATE_HOME/hpc_kit/nodes/stub"
  fi
}

@test "two failures of different jobs within a day count; one does not, nor two of one job, nor old ones" {
  failure node1 1
  failure node2 2
  failure node2 3
  failure node3 4
  failure node3 4
  failure node4 5 90000
  failure node4 6
  local -a bad=()
  bad_nodes::list bad stub
  [[ ${bad[*]} == node2 ]]
  bad_nodes::list bad other
  ((${#bad[@]} == 0))
}

@test "new jobs exclude them and say so; nodes of --nodelist are never excluded" {
  make_project
  stub_slurm
  failure node2 2
  failure node2 3
  run -0 --separate-stderr submitter
  [[ $stderr == *'left out, as your jobs have failed there twice within a day: node2; see  bash hpc/experiments.sh nodes'* ]]
  grep -zqx -- --exclude=node2 "$RECORD"

  rm -- "$RECORD"
  submitter --exclude node7 2>/dev/null
  grep -zqx -- --exclude=node7,node2 "$RECORD"

  rm -- "$RECORD"
  run -0 --separate-stderr submitter --nodelist node2
  [[ $stderr == *'failed twice within a day: node2; --nodelist decides'* ]]
  run ! grep -zq -- --exclude "$RECORD"
}

@test "nodes are not excluded if Slurm would then refuse the job" {
  make_project
  stub_slurm
  failure node2 2
  failure node2 3
  sed -i 's/--test-only ]; then exit 0/--test-only ]; then case "$*" in *--exclude=*node2*) echo "allocation failure: Requested node configuration is not available" >\&2; exit 1 ;; esac; exit 0/' "$stub/sbatch"
  # Another node is drained: the job would have to wait for it.
  printf '#!/bin/sh\ncase $* in *%%T*) echo "1|drained" ;; *) cat -- "$STUB/partitions" ;; esac\n' >"$stub/sinfo"
  run -0 --separate-stderr submitter
  [[ $stderr == *'without these nodes Slurm would refuse the job: they are not left out'* ]]
  run ! grep -zq -- --exclude "$RECORD"
  rm -- "$RECORD"
  submitter --exclude node7 2>/dev/null
  grep -zqx -- --exclude=node7 "$RECORD"
}

# noted [NODE STATE]... -- CAUSE JOBS   Prints the nodes that a job records after such an attempt on node[1-2]; scontrol shows these states.
noted() {
  local shown='' node=node1
  use_libraries slurm interruption
  fact=([cluster]=stub [nodes]=1)
  mkdir -p -- "$BATS_TEST_TMPDIR/run/task_1/attempt_0" "$BATS_TEST_TMPDIR/bin"
  echo 'node[1-2]' >"$BATS_TEST_TMPDIR/run/task_1/attempt_0/nodes"
  while [[ $1 != -- ]]; do
    shown+="NodeName=$1 Arch=x86_64 State=$2 ThreadsPerCore=1"$'\n'
    shift 2
  done
  printf '%s' "$3" >"$BATS_TEST_TMPDIR/run/jobs"
  printf '#!/bin/sh\nprintf %%s "%s"\n' "$shown" >"$BATS_TEST_TMPDIR/bin/scontrol"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/scontrol"
  rm -f -- "$XDG_STATE_HOME/hpc_kit/nodes/stub"
  if [[ $2 == node_failed ]]; then
    PATH=$BATS_TEST_TMPDIR/bin:$PATH SLURM_JOB_ID=7 interruption::blame_dead_node "$BATS_TEST_TMPDIR/run/task_1/attempt_0"
  else
    PATH=$BATS_TEST_TMPDIR/bin:$PATH SLURM_JOB_ID=7 SLURM_JOB_NODELIST=$node interruption::blame_node "$BATS_TEST_TMPDIR/run/task_1/attempt_0" "$2"
  fi 2>/dev/null
  noted=$(cut -d ' ' -f 2- -- "$XDG_STATE_HOME/hpc_kit/nodes/stub" 2>/dev/null) || true
}

@test "a node that is down is recorded; a cloud's node and a healthy one are not" {
  noted node1 'IDLE' node2 'DOWN*' -- node_failed ''
  [[ $noted == 'node2 7 node_failed' ]]
  noted node1 'IDLE*' node2 'IDLE+DRAIN' -- node_failed ''
  [[ $(sort <<<"$noted") == $'node1 7 node_failed\nnode2 7 node_failed' ]]
  noted node1 'IDLE+POWERED_DOWN' node2 'DOWN*+CLOUD' -- node_failed ''
  [[ -z $noted ]]
  noted node1 ALLOCATED -- 'failed 135 0 node1' ''
  [[ $noted == 'node1 7 failed 135 0 node1' ]]
  noted node1 ALLOCATED+CLOUD -- 'failed 135 0 node1' ''
  [[ -z $noted ]]
  noted node1 ALLOCATED -- 'failed 1 0 node1' ''
  [[ -z $noted ]]
}

@test "a hang counts for the run's first job; the jobs that continue it are no second evidence" {
  noted node1 ALLOCATED -- hung $'4 train\n7 continue\n'
  [[ $noted == 'node1 4 hung' ]]
  noted node1 ALLOCATED -- hung ''
  [[ $noted == 'node1 7 hung' ]]
  noted node1 ALLOCATED+CLOUD -- hung $'4 train\n'
  [[ -z $noted ]]
}

@test "experiments.sh nodes lists them, and clears one or all" {
  local -r command=$checkout/hpc/experiments.sh
  failure node1 1
  failure node2 2
  failure node2 3
  run -0 bash "$command" nodes
  [[ ${lines[1]} =~ ^stub\ +node1\ .*\ 1\ +no\ +node_failed$ ]]
  [[ ${lines[3]} =~ ^stub\ +node2\ .*\ 3\ +yes\ +node_failed$ ]]
  bash "$command" nodes --clear node2
  run -0 bash "$command" nodes
  ((${#lines[@]} == 2))
  bash "$command" nodes --clear
  run -0 bash "$command" nodes
  ((${#lines[@]} == 1))
  fails_with 2 "unknown command 'node'" bash "$command" node
  fails_with 2 "unexpected 'node2'" bash "$command" nodes node2
}

@test "a state folder that cannot be written does not fail the job" {
  printf 'a file' >"$XDG_STATE_HOME"
  bad_nodes::record stub node1 1 node_failed 2>/dev/null
  bad_nodes::list bad stub
  ((${#bad[@]} == 0))
}
