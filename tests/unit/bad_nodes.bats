#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; ../helpers
# Nodes that fail twice within a day are left out of new jobs.

load ../helpers

setup() {
  export XDG_STATE_HOME=$BATS_TEST_TMPDIR/state SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default
  mkdir -- "$SCRATCH"
  use_libraries common bad_nodes
}

# failure NODE JOB [SECONDS_AGO]
failure() {
  bad_nodes::record stub "$1" "$2" node_failed 2>/dev/null
  if [[ -n ${3:-} ]]; then
    sed -i "\$s/^[0-9]*/$((EPOCHSECONDS - $3))/" "$(bad_nodes::file stub)"
  fi
}

@test "two failures of different jobs within a day, and not one, nor two of one job, nor old ones" {
  failure node1 1
  failure node2 2
  failure node2 3
  failure node3 4
  failure node3 4
  failure node4 5 90000
  failure node4 6
  [[ $(bad_nodes::list stub) == node2 ]]
  [[ -z $(bad_nodes::list other) ]]
}

@test "new jobs leave them out, and say so; --nodelist decides" {
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

@test "they are not left out where Slurm would then refuse the job" {
  make_project
  stub_slurm
  failure node2 2
  failure node2 3
  sed -i 's/--test-only ]; then exit 0/--test-only ]; then case "$*" in *--exclude=*node2*) echo "sbatch: error: not available" >\&2; exit 1 ;; esac; exit 0/' "$stub/sbatch"
  run -0 --separate-stderr submitter
  [[ $stderr == *'without these nodes Slurm would refuse the job: they are not left out'* ]]
  run ! grep -zq -- --exclude "$RECORD"
  rm -- "$RECORD"
  submitter --exclude node7 2>/dev/null
  grep -zqx -- --exclude=node7 "$RECORD"
}

@test "experiments.sh nodes shows them, and clears one or all" {
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

@test "a state folder that cannot be written is nothing to fail by" {
  printf 'a file' >"$XDG_STATE_HOME"
  bad_nodes::record stub node1 1 node_failed 2>/dev/null
  [[ -z $(bad_nodes::list stub) ]]
}
