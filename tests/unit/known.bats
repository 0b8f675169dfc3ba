#!/usr/bin/env bats
# experiments.sh list caches what it has shown of ended runs (hpc/experiments/known.py). The cache must not change the table.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  made_runs_setup
  made_run well 1 1
  state 1 completed
  attempt 1 0 finished
  printf '{"epoch": %s, "loss": %s}\n' 1 0.75 2 0.5 >"$run/task_1/output/metrics.jsonl"
  well=$run
  made_run broken 2 2
  state 1 completed
  state 2 failed
  attempt 1 0 finished
  attempt 2 0 'failed 1 0 node1' 'epoch 3/20: loss 1'
  broken=$run
  made_run waits 3 1 # the elapsed time of one that runs changes
  queued 3 N/A PENDING Priority
  settle
}

# All files are as old as those of runs that ended long ago.
settle() {
  find "$outputs" -exec touch --no-dereference --date='2026-01-01 14:00' -- {} +
}

kept() {
  echo "$outputs"/.table_*
}

# same   The table must be equal to one without a cache; sets output.
same() {
  local known
  known=$(command_of list --json)
  rm -f -- "$outputs"/.table_*
  output=$(command_of list --json)
  diff <(printf '%s\n' "$known") <(printf '%s\n' "$output")
}

@test "the second table equals the first and reads no file of an ended run" {
  command_of list >"$BATS_TEST_TMPDIR/first"
  [[ -s $(kept) ]]
  strace -f -e trace=open,openat -o "$BATS_TEST_TMPDIR/calls" bash "$project/hpc/experiments.sh" list >"$BATS_TEST_TMPDIR/second"
  diff "$BATS_TEST_TMPDIR/first" "$BATS_TEST_TMPDIR/second"
  grep -c waits_ "$BATS_TEST_TMPDIR/calls" >/dev/null
  run ! grep -e "${well##*/}/" -e "${broken##*/}/" "$BATS_TEST_TMPDIR/calls"
}

@test "each change of a run is noticed: another result, a changed line, another state, an attempt, a log, a job, a removed run" {
  command_of list >/dev/null
  settle
  echo '{"loss": 0.25}' >"$well/task_1/output/result.json"
  same
  [[ $output == *'"best": 0.25'* ]]
  settle
  command_of list >/dev/null
  printf '{"epoch": 3, "loss": 0.125}\n' >>"$well/task_1/output/metrics.jsonl"
  same
  [[ $output == *'"best": 0.125'* ]]
  settle
  command_of list >/dev/null
  echo paused >"$broken/task_2/state"
  touch --date='2026-01-03' -- "$broken/task_2/state"
  same
  settle
  command_of list >/dev/null
  mkdir -- "$well/task_1/attempt_1"
  echo 'failed 1 0 node1' >"$well/task_1/attempt_1/cause"
  same
  [[ $output == *'"attempts": 2'* ]]
  settle
  command_of list >/dev/null
  echo 'epoch 4/20: loss 1' >>"$broken/task_2/log.txt"
  same
  command_of list >/dev/null
  echo 17 >>"$broken/job_id"
  same
  [[ $output == *'"17"'* ]]
  command_of list >/dev/null
  rm -r -- "$broken"
  same
  [[ $output != *broken* ]]
}

@test "runs that changed within the last minute are not cached; the cache of another kit, or of a full disk, is ignored" {
  touch -- "$well/task_1/state"
  command_of list >/dev/null
  run ! grep -q "${well##*/}" "$(kept)"
  grep -q "${broken##*/}" "$(kept)"
  for words in '' '[]' '{' '{"version": 1, "entries": {}}' '{"entries": 3}' "$(printf '\377')"; do
    printf '%s' "$words" >"$outputs/.table_$UID"
    same
  done
  # --last keeps runs that it has not looked at
  settle
  command_of list >/dev/null
  touch -d '2026-01-02' -- "$broken/task_1/state"
  command_of list --last 2 --name '*' >/dev/null
  grep -q "${well##*/}" "$(kept)"
  command_of list --name well | grep -c well
}

@test "a folder that cannot be written, or another user's cache: everything is read again" {
  ((UID == 0)) || skip 'only root gives files away'
  [[ -x /usr/bin/python3 ]] || skip "no python3 that all users see"
  command_of list >"$BATS_TEST_TMPDIR/first"
  sed -i 's/finished/forged/; s/0\.5/0.1/' "$(kept)"
  chown 12345 "$(kept)"
  command_of list >"$BATS_TEST_TMPDIR/second"
  diff "$BATS_TEST_TMPDIR/first" "$BATS_TEST_TMPDIR/second"
  rm -f -- "$outputs"/.table_*
  local shared # other users cannot enter the folder of bats
  shared=$(mktemp -d)
  cp -a -- "$outputs" "$checkout/hpc/experiments" "$STUB/squeue" "$shared/"
  chmod -R a+rX,go-w -- "$shared"
  for user in 0 23456; do
    STUB=$shared PATH=$shared:/usr/bin:/bin setpriv --reuid="$user" --regid=23456 --clear-groups \
      /usr/bin/python3 -B "$shared/experiments/experiments.py" "$shared/hpc_outputs" list >"$BATS_TEST_TMPDIR/$user"
    rm -f -- "$shared/hpc_outputs"/.table_0
  done
  diff "$BATS_TEST_TMPDIR/0" "$BATS_TEST_TMPDIR/23456"
  [[ $(wc -l <"$BATS_TEST_TMPDIR/0") == 4 && -z $(find "$shared/hpc_outputs" -maxdepth 1 -name '.table_*') ]]
  rm -r -- "$shared"
}
