#!/usr/bin/env bats
# The jobs that --rapid-cycle submits, as a stub of Slurm gets them. tests/cluster/interruptions.bats runs such jobs.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  make_project
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default
  mkdir -- "$SCRATCH"
}

# shown OPTION...   Prints the jobs that a dry run shows, one a line.
shown() {
  run -0 --separate-stderr submitter --dry-run "$@"
}

@test "two jobs: the cycles, and the training, which waits for them" {
  shown --rapid-cycle --exp-name zz --time 5:00:00 -p main
  ((${#lines[@]} == 2))
  # Five cycles of 90 s, each with 120 s for saving and 180 s for starting.
  [[ ${lines[0]} == *"'--job-name=cycle_zz'"*"'--time=0-00:32:30'"*" 'rapid_cycle'" ]]
  [[ ${lines[0]} == *"'--partition=main'"* && ${lines[0]} != *'--signal'* && ${lines[0]} != *'--dependency'* ]]
  [[ ${lines[1]} == *"'--job-name=zz'"*"'--time=0-05:00:00'"*"'--dependency=afterok:CYCLE_JOB'"* ]]
  [[ ${lines[1]} == *"'--kill-on-invalid-dep=yes'"* && ${lines[1]} != *rapid_cycle* ]]
}

@test "cycles, partition, and other dependencies" {
  shown --rapid-cycle 3x20 --cycle-partition short --dependency afterany:5 --grace-seconds 60
  [[ ${lines[0]} == *"'--partition=short'"* && ${lines[0]} == *"'--time=0-00:13:00'"* && ${lines[0]} == *"'--dependency=afterany:5'"* ]]
  [[ ${lines[1]} != *'--partition'* && ${lines[1]} == *"'--dependency=afterok:CYCLE_JOB,afterany:5'"* ]]
  HPC_RAPID_CYCLE=1x10 shown
  [[ ${#lines[@]} == 2 && ${lines[0]} == *"'--time=0-00:05:10'"* ]]
  shown --rapid-cycle=2x30 -p main --cycle-partition short
  [[ ${lines[0]} == *"'--partition=short'"* && ${lines[0]} != *"'--partition=main'"* && ${lines[1]} == *"'--partition=main'"* ]]
}

@test "in an array, each task waits for its own cycles" {
  experiments 'true' 'false'
  shown --rapid-cycle --dependency afterany:5
  [[ ${lines[0]} == *"'--array=1-2'"* && ${lines[1]} == *"'--dependency=aftercorr:CYCLE_JOB,afterany:5'"* ]]
}

@test "packing comes first, then the cycles, then the training" {
  mkdir -p -- "$SCRATCH/${project##*/}/data"
  shown --data data --pack-in-job --rapid-cycle
  ((${#lines[@]} == 3))
  [[ ${lines[1]} == *"'--dependency=afterok:PACK_JOB'"*" 'rapid_cycle'" ]]
  [[ ${lines[2]} == *"'--dependency=afterok:PACK_JOB,afterok:CYCLE_JOB'"* ]]
}

@test "impossible requests" {
  fails_with 2 "--rapid-cycle: '5' is not CYCLESxSECONDS: write it like 5x90$" submitter --rapid-cycle 5
  fails_with 2 "--rapid-cycle: '0x90' is not" submitter --rapid-cycle=0x90
  fails_with 2 '--cycle-partition is about --rapid-cycle: give both$' submitter --cycle-partition short
  fails_with 2 'with --rapid-cycle all of its conditions must hold' submitter --rapid-cycle --dependency 'afterok:1?afterok:2'
  # Slurm decides, because a plugin may know a partition that sinfo does not show.
  printf '#!/bin/sh\ncase "$*" in *--partition=nowhere*) echo "invalid partition" >&2; exit 1 ;; esac\n' >"$stub/sbatch"
  fails_with 1 "invalid partition; --cycle-partition 'nowhere': this cluster has main urgent big short cpu$" submitter --rapid-cycle --cycle-partition nowhere
}

@test "both jobs are submitted, or none" {
  printf '#!/bin/sh\ncase "$*" in --test-only*) ;; *rapid_cycle) echo 4712 ;; *) echo no >&2; exit 1 ;; esac\n' >"$stub/sbatch"
  printf '#!/bin/sh\necho "$*" >"$STUB/cancelled"\n' >"$stub/scancel"
  chmod +x -- "$stub/scancel"
  run -1 --separate-stderr submitter --no-snapshot --rapid-cycle --exp-name refused
  [[ $stderr == *'Slurm refused the job: no' && $(<"$stub/cancelled") == 4712 ]]
  [[ -z $(compgen -G "$SCRATCH/*/hpc_outputs/refused*") ]]
}

@test "the state of a task that has not started" {
  submit --no-snapshot
  [[ $(<"$run_directory/task_1/state") == enqueued ]]
}
