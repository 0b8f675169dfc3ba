#!/usr/bin/env bats
# The drill on the real Slurm passes correct programs and finds the mistakes of others. The drills run at the same time.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
  make_project_in "$BATS_FILE_TMPDIR"
  export project
  cp -R -- "$BATS_TEST_DIRNAME/programs" "$project/"
  local mistake
  prepare_digits "$SCRATCH/${project##*/}/datasets/digits"
  begin digits 'python -m programs.slow_digits --epochs 8 --save-every 10 --log-every 1' \
    --gpus 1 --num-nodes 2 --mem 2G -W srun --at 12
  begin right 'python programs/drill_trainer.py'
  for mistake in sampler scheduler epoch_ends; do begin "$mistake" "python programs/drill_trainer.py --mistake $mistake"; done
}

teardown_file() {
  local file
  for file in "$BATS_FILE_TMPDIR"/*.process; do
    if [[ -e ${file%.process}.status ]]; then continue; fi
    kill "$(<"$file")"
    wait_until 60 test -e "${file%.process}.status"
  done
  wait_until 60 none_queued '^drill_'
  cluster_down
}

# begin NAME COMMAND [OPTION...]   Starts a drill of COMMAND.
begin() {
  local -r name=$BATS_FILE_TMPDIR/$1
  printf '%s\n' "$2" >"$name.configuration"
  local -a options=("${@:3}")
  if ((${#options[@]} == 0)); then options=(--gpus 0 --cpus 1 --mem 200M -W srun --at 62); fi
  {
    local status=0
    bash "$project/hpc/drill.sh" --configs "$name.configuration" "${options[@]}" >"$name.report" 2>"$name.messages" &
    printf '%s\n' "$!" >"$name.process"
    wait "$!" || status=$?
    printf '%s\n' "$status" >"$name.status"
  } >/dev/null 2>&1 3>&- 4>&- &
}

# ends NAME STATUS PATTERN...   Its drill must exit with STATUS, and the report must match each pattern.
ends() {
  local -r name=$BATS_FILE_TMPDIR/$1 wanted=$2
  local pattern
  wait_until 300 test -s "$name.status" || { cat -- "$name.messages" && squeue && return 1; }
  for pattern in "${@:3}"; do
    if [[ $(<"$name.status") != "$wanted" || ! $(<"$name.report") =~ $pattern ]]; then
      printf 'status %s (%s wanted), wanted: %s; said:\n' "$(<"$name.status")" "$wanted" "$pattern" >&2
      cat -- "$name.messages" "$name.report" >&2
      return 1
    fi
  done
}

# left_behind NAME   Prints the experiments of its drill that still have a folder.
left_behind() {
  local prefix
  prefix=$(sed -nE 's/^this report.*(drill_[0-9]+-[0-9]+_[0-9]+)\.txt.*/\1/p' "$BATS_FILE_TMPDIR/$1.messages")
  find "$SCRATCH/${project##*/}" -mindepth 1 -maxdepth 1 -name "${prefix:?}_*" -printf '%f\n' | sed "s/^${prefix}_//" | sort
}

@test "a program that uses only the stop file and status 75 passes" {
  ends right 0 $'\nwarning +1 +0 +[0-9.]+ s +- +passed\n' $'\nSIGTERM +1 +2 +- +- +passed\n' \
    $'\nkill -9 of a rank +1 +2 +- +- +passed\n' $'\ndead node +1 +2 +- +- +passed\n' \
    'SIGTERM: passed; it does not listen to SIGTERM'
  same "$(left_behind right)" ''
}

@test "a sampler that is not restored is found" {
  ends sampler 1 $'\nwarning: the loss of step 63 differs, the first after the restart: the data' \
    "to fix: put the sampler's place"
  same "$(left_behind sampler | sed -n 's/warning/&/p')" warning
}

@test "a scheduler that is not restored is found" {
  ends scheduler 1 $'\nwarning: the loss of step 64 differs, though step 63, the first after the restart, was right' \
    'to fix: put the state of the optimizer and of the scheduler'
}

@test "a program that saves only at the end of an epoch is found" {
  ends epoch_ends 1 $'\nwarning +1 +12 +[0-9.]+ s +- +FAILED\n' \
    $'\nwarning: 12 steps were done twice: when asked to stop it did not save there, and went on at step 51, ' \
    'to fix: save when asked to stop'
}

@test "the digits of train/ pass, with ranks on two nodes, and lose no step at a notice" {
  ends digits 0 $'\nwarning +1 +0 +[0-9.]+ s +- +passed\n' $'\nSIGTERM +1 +0 +[0-9.]+ s +- +passed\n' \
    $'\nkill -9 of a rank +1 +[0-9]+ +- +- +passed\n' $'\ndead node +1 +[0-9]+ +- +- +passed\n'
  same "$(left_behind digits)" ''
}

# none_queued PATTERN   Succeeds if no job with such a name is in the queue.
none_queued() {
  ! squeue --noheader --format=%j | grep -qE "$1"
}

@test "a drill that is interrupted cancels its own jobs and no others" {
  local drill other
  other=$(sbatch --parsable --output=/dev/null --job-name=drill_of_another --wrap 'sleep 1000')
  experiments 'python programs/steps.py 1000'
  bash "$project/hpc/drill.sh" --gpus 0 --cpus 1 --mem 200M -W srun >"$BATS_TEST_TMPDIR/report" 2>"$BATS_TEST_TMPDIR/messages" 3>&- 4>&- &
  drill=$!
  wait_until 30 grep -q '^uninterrupted: job' "$BATS_TEST_TMPDIR/messages"
  kill -s TERM "$drill"
  wait_status "$drill"
  same "$status" 143
  grep -q "the drill's jobs are cancelled" "$BATS_TEST_TMPDIR/messages"
  wait_until 30 none_queued '^drill_.*_uninterrupted'
  ! none_queued '^drill_of_another' || return 1
  scancel "$other"
}
