#!/usr/bin/env bats
# Progress and last loss, read from the output of real programs, in experiments.sh list and why.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  made_runs_setup
}

@test "list: PROGRESS and METRIC from the output of programs, with a total and without" {
  local line
  local -i number=0
  while IFS=';' read -r line _; do
    number+=1
    made_run "run$number" "$number" 1
    state 1 failed
    attempt 1 0 'failed 1 - -' "$(printf '%b' "$line")"
  done <"$BATS_TEST_DIRNAME/progress.txt"
  ((number == 20))
  run -0 command_of list --json
  printf '%s\n' "$output" >"$BATS_TEST_TMPDIR/list"
  run -0 python3 - "$BATS_TEST_TMPDIR/list" "$BATS_TEST_DIRNAME/progress.txt" <<'PY'
import json, sys
shown = {run["name"]: run for run in json.load(open(sys.argv[1]))}
for number, line in enumerate(open(sys.argv[2]), 1):
    text, progress, metric = line.rstrip("\n").split(";")
    run = shown[f"run{number}"]
    what, done, whole = run["progress"] or ("-", 0, None)
    told = "-" if what == "-" else f"{what} {done:g}" + (f"/{whole}" if whole else "")
    loss = "-" if run["last"] is None else f"{run['last']:g}"
    if (told, loss) != (progress, metric):
        print(f"{text}: {told}, {loss}")
PY
  [[ -z $output ]]
}

@test "why: no estimate from a bar that restarts in each epoch; an estimate from one that does not" {
  made_run anew 1 1 time=0-00:10:00
  state 1 failed
  attempt 1 0 time_limit ' 50%|#####     | 450/900 [00:10<00:10]' ' 99%|######### | 899/900 [00:20<00:00]' ' 40%|####      | 360/900 [00:08<00:12]'
  run -0 command_of why anew
  [[ $output == *'how fast it was is not known, as its step of 900 starts over'* && $output == *'--time 00:20:00'* ]]
  made_run once 2 1 time=0-00:10:00
  state 1 failed
  attempt 1 0 time_limit ' 10%|#         | 90/900 [00:10<00:10]' '100%|##########| 20/20 [00:02<00:00]' ' 50%|#####     | 450/900 [00:20<00:20]'
  run -0 command_of why once
  [[ $output == *'step 450 of 900 was reached in 00:10:00, so the whole needs about 00:20:00'* ]]
  made_run epochs 3 1 time=0-00:10:00
  state 1 failed
  attempt 1 0 time_limit 'Epoch 4:  45%|####5     | 400/900 [00:12<00:15, 33.1it/s, loss=0.31]'
  run -0 command_of why epochs
  [[ $output == *'epoch 4 was reached in 00:10:00, so 00:02:30 each'* ]]
}
