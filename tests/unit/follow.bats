#!/usr/bin/env bats
# How often --follow asks Slurm's controller (hpc/lib/follow.sh), with a simulated clock.

source "$BATS_TEST_DIRNAME/../helpers.bash"
use_libraries common slurm sending follow

setup() {
  export ASKED=$BATS_TEST_TMPDIR/asked
  run_directory=$BATS_TEST_TMPDIR/run
  mkdir -p -- "$run_directory" "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\necho >>"$ASKED"\ncat -- "$ASKED.answer"\n' >"$BATS_TEST_TMPDIR/bin/scontrol"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/scontrol"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  slurm_says RUNNING 0:0
  echo 7 >"$run_directory/job_id"
}

slurm_says() {
  printf 'JobId=7 JobState=%s Restarts=0 ExitCode=%s Partition=main\n' "$1" "$2" >"$ASKED.answer"
}

asked() {
  wc -l <"$ASKED"
}

# Each turn of the loop is 15 s long; in each turn the test can cause an event.
follow::pause() {
  SECONDS=$((SECONDS + 15))
  at_turn "$((SECONDS / 15))"
}

# states N STATE   Sets the state of tasks 1 to N.
states() {
  local -i task
  for ((task = 1; task <= $1; task++)); do
    mkdir -p -- "$run_directory/task_$task"
    echo "$2" >"$run_directory/task_$task/state"
  done
}

@test "for ten minutes one question a minute; the end is seen in the files" {
  states 1 running
  # shellcheck disable=SC2317 # the stub of follow::pause calls it
  at_turn() {
    if (($1 == 40)); then
      states 1 failed
      slurm_says FAILED 3:0
      asked >"$ASKED.before"
    fi
  }
  SECONDS=0
  run -3 --separate-stderr follow::jobs "$run_directory" 1 7
  [[ $stderr == *'job 7 ended: failed, exit status 3'* ]]
  (($(<"$ASKED.before") <= 13 && $(asked) <= $(<"$ASKED.before") + 1))
}

@test "the end of single tasks of an array causes no question, the end of all does" {
  states 40 enqueued
  at_turn() {
    echo completed >"$run_directory/task_$(($1 > 40 ? 40 : $1))/state"
    if (($1 == 40)); then
      slurm_says COMPLETED 0:0
      asked >"$ASKED.before"
    fi
  }
  SECONDS=0
  run -0 --separate-stderr follow::jobs "$run_directory" 40 7
  (($(<"$ASKED.before") <= 13 && $(asked) <= $(<"$ASKED.before") + 1))
}

@test "a Ctrl-C that came while the job was submitted ends it at once" {
  states 1 running
  sending::hold_signals
  kill -s INT "$BASHPID"
  run -130 --separate-stderr follow::jobs "$run_directory" 1 7
  [[ $stderr == *"job 7 goes on; see $run_directory" ]]
}
