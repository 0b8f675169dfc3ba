#!/usr/bin/env bats
# What the drill finds in logs and what it reports. The runs are written by the tests: 50 steps, the fault at step 20.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  work=$BATS_TEST_TMPDIR/work
  runs=$BATS_TEST_TMPDIR/'run directories'
  local fault
  { begin 0 && steps 1 50; } | run_of uninterrupted
  for fault in warning sigterm; do
    { begin 0 && steps 1 20 && begin 1 && steps 21 50; } | run_of "$fault"
    struck "$fault" 'notice signal'
  done
  for fault in kill node; do
    { begin 0 && steps 1 20 && begin 1 && steps 16 50; } | run_of "$fault"
    struck "$fault" 'failed 137 0 node1'
  done
}

begin() {
  printf '== job 7, attempt %s, on node[1-2], 2026-11-21 13:05:50 UTC\n' "$1"
}

# steps FIRST LAST [MORE [EVERY]]   Prints steps as a program logs them, with MORE added to the loss.
steps() {
  LC_ALL=C awk -v first="$1" -v last="$2" -v more="${3:-0}" -v every="${4:-1}" 'BEGIN {
    for (step = first; step <= last; step++)
      if (step % every == 0) printf "step %d of 50: loss %.9g\n", step, 1 / step + more
  }'
}

# run_of NAME [STATE]   Makes a run with the log of standard input.
run_of() {
  local -r directory=$runs/$1
  mkdir -p -- "$directory/task_1/output" "$directory"/task_1/attempt_{0,1} "$work/$1"
  cat >"$directory/task_1/log.txt"
  if ! grep -q 'attempt 1,' "$directory/task_1/log.txt"; then rmdir -- "$directory/task_1/attempt_1"; fi
  printf "fact[grace_seconds]='120'\n" >"$directory/facts"
  printf '%s\n' "$directory" >"$work/$1/runs"
  printf '%s\n' "${2:-COMPLETED 0:0}" >"$work/$1/state"
}

# struck NAME CAUSE [SECONDS [SAVED]]   Attempt 0 of the run was hit and ended with CAUSE SECONDS later.
struck() {
  local -r directory=$runs/$1
  printf '%s\n' "$2" >"$directory/task_1/attempt_0/cause"
  printf '0 %s\n' "${4:-1}" >"$directory/drill"
  touch --date=@1000000000 -- "$directory/drill"
  touch --date="@$((1000000000 + ${3:-1}))" -- "$directory/task_1/attempt_0/cause"
}

judge() {
  run --separate-stderr python3 "$checkout/hpc/drill/drill.py" judge "$work" "${1:-0}"
}

# says STATUS PATTERN...   The drill must exit with STATUS, and its report must match each pattern.
says() {
  judge
  local pattern
  for pattern in "${@:2}"; do
    if [[ $status != "$1" || ! $output =~ $pattern ]]; then
      printf 'status %s (%s wanted), wanted: %s; said:\n%s\n%s\n' "$status" "$1" "$pattern" "$output" "$stderr" >&2
      return 1
    fi
  done
}

@test "a correct program passes" {
  says 0 $'\nwarning +1 +0 +1\\.0 s +- +passed\n' $'\nkill -9 of a rank +1 +5 +- +- +passed\n' $'\ndead node: passed'
  [[ $output != *FAILED* && $output != *'to fix'* ]]
  diff <(printf '%s\n' warning sigterm kill node) "$work/passed"
}

@test "a program that ignores requests to stop" {
  { begin 0 && steps 1 50; } | run_of warning
  struck warning finished 3
  says 1 'warning: not tested: the run came to its end 3 s after the fault was sent' # perhaps before the fault arrived
  struck warning finished 20
  says 1 'warning: .*does not listen to STOP_FILE.*to fix: look for that file at the end of each step'
  struck warning 'failed 3 0 node1'
  says 1 'warning: it ended with status 3 when STOP_FILE was there'
  { begin 0 && steps 1 20 && begin 1 && steps 21 50; } | run_of warning
  struck warning 'notice time_limit' 300
  says 1 'warning: it stopped 300 s after it was asked, and has 120 s'
  diff <(printf '%s\n' sigterm kill node) "$work/passed"
}

@test "a program that knows only STOP_FILE dies of SIGTERM, which is reported and is not a mistake" {
  { begin 0 && steps 1 20; } | run_of sigterm
  struck sigterm 'failed 143 0 node1'
  mv -- "$runs/sigterm" "$runs/sigterm before"
  { begin 0 && steps 16 50; } | run_of sigterm
  printf '%s\n' "$runs/sigterm before" "$runs/sigterm" >"$work/sigterm/runs"
  says 0 $'\nSIGTERM +1 +5 +- ' 'SIGTERM: passed; it does not listen to SIGTERM \(died of it\)'
  struck sigterm 'failed 1 0 node1'
  cp -- "$runs/sigterm/task_1/attempt_0/cause" "$runs/sigterm before/task_1/attempt_0/cause"
  says 1 'SIGTERM: it ended with status 1 at SIGTERM'
}

@test "a program that starts again from step 1, repeats steps, skips steps, ends early or goes too far" {
  local name
  for name in warning node; do
    { begin 0 && steps 1 20 && begin 1 && steps 1 50; } | run_of "$name"
  done
  struck warning 'notice request'
  struck node 'failed 137 0 node1' 1 0
  says 1 'warning: it began again at step 1: it does not load' $'\ndead node +1 +20 .* passed, all steps lost\n' 'dead node: passed, all steps lost: it had saved nothing by then'
  struck node 'failed 137 0 node1'
  says 1 'dead node: it began again at step 1'

  { begin 0 && steps 1 20 && begin 1 && steps 11 50; } | run_of warning
  says 1 $'\nwarning +1 +10 ' 'warning: 10 steps were done twice: .* at step 11, where it had saved before'
  { begin 0 && steps 1 20 && begin 1 && steps 26 50; } | run_of warning
  says 1 'warning: steps 21 to 25 were never done \(5 in all\)'
  { begin 0 && steps 1 20 && begin 1 && steps 21 45; } | run_of warning
  says 1 'warning: it ended at step 45; without the fault it ends at 50'
  { begin 0 && steps 1 20 && begin 1 && steps 21 55; } | run_of warning
  says 1 'warning: it went on to step 55; without the fault it ends at 50'
  { begin 0 && steps 1 20 && begin 1; } | run_of warning 'FAILED 1:0'
  says 1 'warning: it did not come to its end after the restart: FAILED 1:0'
  rm -- "$runs/warning/drill"
  says 1 'warning: the run failed before the fault came \(FAILED 1:0\)'
  { begin 0 && steps 1 50; } | run_of warning
  says 1 'warning: not tested: the run was over before the fault came'
}

@test "an attempt that failed without the fault is named" {
  { begin 0 && steps 1 20 && begin 1 && steps 16 30 && begin 2 && steps 16 50; } | run_of node
  struck node 'failed 137 0 node1'
  mkdir -- "$runs/node/task_1/attempt_2"
  echo 'failed 134 1 node2' >"$runs/node/task_1/attempt_1/cause"
  echo finished >"$runs/node/task_1/attempt_2/cause"
  says 0 $'\ndead node: passed\n    an attempt failed for another reason \\(failed 134 1 node2\\), and its steps count as lost: see .*/node/task_1/log.txt$'
  [[ $(grep -c 'for another reason' <<<"$output") == 1 ]]
}

@test "other losses: which state is missing, or that the program is not deterministic" {
  { begin 0 && steps 1 20 && begin 1 && steps 21 50 1e-6; } | run_of warning
  { begin 0 && steps 1 20 && begin 1 && steps 16 16 && steps 17 50 1e-6; } | run_of kill
  judge
  [[ $status == 3 && -z $output && ! -e $work/passed ]]
  { begin 0 && steps 1 50; } | run_of uninterrupted_again
  says 1 $'\nwarning +1 +0 +1\\.0 s +21 +FAILED\n' 'warning: the loss of step 21 differs, the first after the restart' \
    'a DataLoader that shuffles without a generator of its own' \
    'kill -9 of a rank: the loss of step 17 differs, though step 16, .*state of the optimizer and of the scheduler'
  { begin 0 && steps 1 9 && steps 10 50 2e-6; } | run_of uninterrupted_again
  says 1 'warning: cannot tell: two uninterrupted runs differ, too, from step 10 on, by 2e-06' 'give --tolerance 4e-06'
  judge 4e-6
  [[ $status == 0 ]]
  rm -r -- "$work/uninterrupted_again"
  judge 4e-7
  [[ $status == 1 && $output == *'warning: the loss of step 21 differs'* ]]

  { begin 0 && steps 1 4 && steps 5 20 1e-6 && begin 1 && steps 21 50; } | run_of warning
  judge 1e-7
  [[ $output == *'warning: the loss of step 5 differs, and that is before the fault'*"the loader's own generator"* ]]
}

@test "only each tenth step, or a loss with few digits, is reported" {
  local name
  for name in uninterrupted uninterrupted_again warning sigterm kill node; do
    { begin 0 && steps 1 20 0 10 && begin 1 && steps 21 50 0 10; } | sed -E 's/(\.[0-9]{3})[0-9]*/\1/' | run_of "$name"
  done
  struck warning 'notice request'
  says 0 'The losses have 2 digits'
  { begin 0 && steps 1 20 0 10 && begin 1 && steps 21 50 0.5 10; } | run_of warning
  says 1 'step 30 differs.*tells each 10th step only'
}

# pairs LINE...   Prints the step and loss found in each line.
pairs() {
  PYTHONPATH=$checkout/hpc/drill python3 - "$@" <<'PYTHON'
import sys
from drill import pairs
for line in sys.argv[1:]:
    print(*((step, loss) for step, loss, _ in pairs(line)), sep="; ")
PYTHON
}

@test "steps and losses in the formats that programs print" {
  diff - <(pairs 'step 3 loss 0.5' 'epoch 2, Step: 12/100, lr 1e-3, train_loss=2.5e-1' '{"epoch": 1, "global_step": 7, "loss": NaN}' \
    "{'loss': 1.25, 'step': 4}" '[default0]:step=9 | val loss 3.0 | loss: -.5' '{"step": 5, "train/loss": 2, "lr": 0.1}' \
    'step 1: loss tensor(2.5000, grad_fn=<X>)' 'step 1: loss 2.0step 1: loss 3.0' \
    'step 8: validation loss 0.3' 'resumed at step 7 of 50' 'timestep 3 loss 1' '12 steps, a loss of 3' '{"step": 1, "val_loss": 2}' \
    'epoch 3: loss 1.5' 'iter 60: loss 3.6600, time 12ms' 'Iteration 7, loss = 0.5' 'Epoch 2 | Iter 0 | Train Loss 3.3') <<'FOUND'
(3, 0.5)
(12, 0.25)
(7, nan)
(4, 1.25)
(9, -0.5)
(5, 2.0)
(1, 2.5)
(1, 2.0); (1, 3.0)






(60, 3.66)
(7, 0.5)

FOUND
}

@test "several ranks log the step, in any order; a rank that died did not reach it" {
  local name
  for name in uninterrupted uninterrupted_again warning sigterm kill node; do
    { begin 0 && steps 1 20 && steps 1 20 0.5 && begin 1 && steps 21 50 0.5 && steps 21 50; } | run_of "$name"
    struck "$name" 'notice request'
  done
  says 0 $'\nwarning +1 +0 '
  { begin 0 && steps 1 20 && steps 1 19 0.5 && begin 1 && steps 21 50 0.5 && steps 21 50; } | run_of kill
  says 0 $'\nkill -9 of a rank +1 +0 '
  { begin 0 && steps 1 20 && steps 1 20 0.5 && begin 1 && steps 21 50 0.25 && steps 21 50; } | run_of kill
  says 1 'kill -9 of a rank: the loss of step 21 differs'
}

@test "files of JSON lines count if the log has no steps" {
  local name file
  for name in uninterrupted warning sigterm kill node; do
    file=$runs/$name/task_1/output/logs/train.jsonl
    mkdir -p -- "${file%/*}"
    sed -nE 's/^step ([0-9]+) of 50: loss (.*)/{"step": \1, "loss": \2}/p' "$runs/$name/task_1/log.txt" >"$file"
    sed -i '/^step/d' "$runs/$name/task_1/log.txt"
  done
  says 0 $'\nwarning +1 +0 ' $'\nkill -9 of a rank +1 +5 '
}

@test "the plan: where the faults come, or what the program must print" {
  diff - <(python3 "$checkout/hpc/drill/drill.py" plan "$runs/uninterrupted") <<'PLAN'
warning 19
sigterm 21
kill 23
node 25
PLAN
  [[ $(python3 "$checkout/hpc/drill/drill.py" plan "$runs/uninterrupted" 7) == *'node 7' ]]
  fails_with 2 '--at 50: .* steps are 1 to 50' python3 "$checkout/hpc/drill/drill.py" plan "$runs/uninterrupted" 50
  { begin 0 && echo 'epoch 1: loss 3'; } | run_of uninterrupted
  fails_with 1 'no step with a loss found .*print\(f"step \{step\} loss' python3 "$checkout/hpc/drill/drill.py" plan "$runs/uninterrupted"
  { begin 0 && steps 1 9; } | run_of uninterrupted
  fails_with 1 'only 9 steps' python3 "$checkout/hpc/drill/drill.py" plan "$runs/uninterrupted"
}

@test "requests that are no drill are refused" {
  make_project
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -- "$SCRATCH"
  local -ra drill=(bash "$project/hpc/drill.sh" --gpus 1)
  local option
  for option in --exp-name=x --resume --fresh --dry-run --confirm --follow; do
    fails_with 2 "${option%=x}: the drill names" "${drill[@]}" "$option"
  done
  fails_with 2 "--tolerance: 'little' is not a number" "${drill[@]}" --tolerance little
  fails_with 2 "--tolerance: '-1' is not" "${drill[@]}" --tolerance=-1
  fails_with 2 'max-restarts 0: the drill is about restarts' "${drill[@]}" --max-restarts 0
  fails_with 2 'unknown option .*--gpu-number' "${drill[@]}" --gpu-number 1
  experiments 'python one.py' 'python two.py'
  touch -- "$project"/{one,two}.py
  fails_with 2 'the drill takes one experiment' "${drill[@]}"
  [[ ! -e $RECORD && -z $(ls -A -- "$SCRATCH") ]]
  [[ $(bash "$project/hpc/drill.sh" --help) == *'drill.sh [--tolerance T]'*'--at N'* ]]
}

@test "Slurm is asked seldom while a job waits for long" {
  local -a pauses=()
  local work=$BATS_TEST_TMPDIR run_directory=$BATS_TEST_TMPDIR job=7 states
  # shellcheck source=/dev/null
  source <(sed -n '/^drill::wait_for_end() {$/,/^}$/p' "$BATS_TEST_DIRNAME/../../hpc/drill.sh")
  follow::states() { echo PENDING; }
  follow::is_live() { ((${#pauses[@]} < 2)); }
  sleep() { pauses+=("$1") SECONDS=300; }
  echo 7 >"$run_directory/job_id"
  SECONDS=0
  drill::wait_for_end
  [[ ${pauses[*]} == '1 15' && $states == PENDING ]]
}
