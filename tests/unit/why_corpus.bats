#!/usr/bin/env bats
# Runs experiments.sh why on the ends of tests/why, as programs print them, and on a long log, with a time limit.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  local name
  mkdir -- "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/ends"
  for name in squeue scontrol sacct; do
    printf '#!/bin/sh\n' >"$BATS_TEST_TMPDIR/bin/$name" # no job is known any more
    chmod +x -- "$BATS_TEST_TMPDIR/bin/$name"
  done
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

@test "why on the ends of tests/why: at least 95 of 100 causes are right; rank, exception, place and remedy of all are; no advice to resubmit what would fail again" {
  run -0 python3 "$checkout/tests/unit/why_corpus.py" "$checkout/hpc/experiments" "$checkout/tests/why" "$BATS_TEST_TMPDIR"
  printf '# %s\n' "${lines[-1]}" >&3
  local -r counted='^([0-9]+) of ([0-9]+) causes'
  [[ ${lines[-1]} =~ $counted ]]
  ((BASH_REMATCH[2] >= 100))
}

@test "the measure counts a wrong cause, a wrong rank, a wrong place and a wrong remedy" {
  local -r end=$BATS_TEST_TMPDIR/ends/torchrun_key.txt
  sed -e 's/^# want: .*/# want: disk full/; s/^# rank: 1/# rank: 3/; s/^# where: .*/# where: train.py, line 1/; s/^# remedy: .*/# remedy: quota/' \
    -- "$checkout/tests/why/torchrun_key.txt" >"$end"
  run -1 python3 "$checkout/tests/unit/why_corpus.py" "$checkout/hpc/experiments" "$BATS_TEST_TMPDIR/ends" "$BATS_TEST_TMPDIR"
  [[ ${lines[-1]} == '0 of 1 causes, 1 wrong rank, 1 wrong place, 1 wrong remedy' ]]
}
