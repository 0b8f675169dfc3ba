#!/usr/bin/env bats
# A test for each bug that users have met: a job that ended with a wrong cause, was lost or was submitted twice. Each test has the name of
# its row in the list of these bugs and repeats the row's own input on the real Slurm. A9 is about train/ (tests/train). The programs are
# bash scripts (programs/light.sh) in an environment of bin/python alone. The controller is stopped once, for 45 s, at the worst moment of
# each row whose name here ends in `stopped`, and of A1 and A8.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/../cluster/reports.bash"
source "$BATS_TEST_DIRNAME/matrix.bash"

setup_file() {
  local suspended sending
  cluster_up
  export XDG_STATE_HOME=$BATS_FILE_TMPDIR/state FLAGS=$BATS_FILE_TMPDIR/flags
  make_project_in "$BATS_FILE_TMPDIR"
  # In a path with a per cent sign the log lacks Slurm's own messages, and the cause of an end is less exact.
  mv -T -- "$project" "$BATS_FILE_TMPDIR/project with a space"
  export project="$BATS_FILE_TMPDIR/project with a space"
  mkdir -p -- "$FLAGS" "$BATS_FILE_TMPDIR/light/bin"
  ln -s -- "$(command -v python3)" "$BATS_FILE_TMPDIR/light/bin/python"
  make_shims

  # Start the slow rows first: a job that is suspended for 75 s, and a program that hangs for a minute, twice. Each step of the first takes
  # a second of work, so it has sent no heartbeat yet when it is checked after the suspension.
  begin A8 --hang-minutes 1 <<<'until [[ -e $FLAGS/A8.end ]]; do beat; for ((i = 0; i < 300000; i++)); do :; done; done'
  begin A16_hangs --hang-minutes 1 <<<'if ((ATTEMPT < 2)); then beat; sleep 1000; fi'
  strike A8.0 suspend
  suspended=$SECONDS
  # It is preempted, asked to stop and preempted; only one of these restarts counts for the budget.
  begin A15 --max-restarts 1 --nodelist node4 <<<'if ((ATTEMPT < 3)); then save_when_asked; fi'
  begin A15_stopped --max-restarts 1 --nodelist node2 <<<'if ((ATTEMPT < 2)); then save_when_asked; fi'
  begin A16_slow --nodelist node4 <<<'if ((ATTEMPT == 0)); then save_when_asked; fi'
  begin A16_stopped --nodelist node3 <<<'if ((ATTEMPT == 0)); then save_when_asked; fi'
  strike A15.0 true
  strike A16_slow.0 preempt node4
  strike A15_stopped.0 preempt node2

  begin A1_75 <<<'if ((ATTEMPT == 0)); then save_when_asked; fi'
  begin A1_3 <<<'comes stopped; exit 3'
  begin A3_0_stopped <<<'comes stopped'
  begin A3_7_stopped <<<'comes stopped; exit 7'
  begin A17_stopped <<<'comes stopped'
  begin A2_stopped <<<'if ((ATTEMPT == 0)); then save_when_asked; fi'
  begin A4_stopped <<<"comes stopped; $(long_log 'slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.'); kill -KILL \$\$"
  begin A10_stopped --gpus 2 --cpus 2 <<<'if ((RANK == 0)); then comes stopped; for ((i = 0; i < 100; i++)); do beat; done; fi'
  begin_array A11_stopped --sbatch-arg=--no-requeue
  strike A15.1 ask_to_stop 1
  begin A6_stopped <<<'true' 2>"$BATS_FILE_TMPDIR/A6_stopped" &
  sending=$!
  strike A3_0_stopped.0 block_stop_file
  strike A3_7_stopped.0 block_stop_file
  strike A11_stopped_1.0 ask_to_stop 0
  strike A15.2 preempt node4
  strike A1_3.0 true
  strike A1_75.0 true
  strike A17_stopped.0 true
  strike A2_stopped.0 true
  strike A4_stopped.0 true
  strike A10_stopped.0 true
  strike A15_stopped.1 wait_until 60 test -e "$FLAGS/A11_stopped.sends"
  strike A16_stopped.0 preempt node3
  wait_until 60 test -e "$FLAGS/A6_stopped.sends"
  wait_until 30 log_has 'asked to end' || squeue >&2
  stop_controller 45
  while ((SECONDS < suspended + 75)); do sleep 0.5; done
  strike A8.0 resume
  wait "$sending" || true

  begin A2 <<<'if ((ATTEMPT == 0)); then save_when_asked; fi'
  begin A2_bucket <<<'if ((ATTEMPT == 0)); then save_when_asked; fi'
  begin A3_0 <<<'comes A3_0.end'
  begin A3_7 <<<'comes A3_7.end; exit 7'
  begin A3_75 <<<'if ((ATTEMPT == 0)); then comes A3_75.end; exit 75; fi'
  begin A4_memory <<<"$(long_log 'slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.'); kill -KILL \$\$"
  begin A4_preempted <<<"$(long_log 'slurmstepd: error: *** JOB 1 ON node1 CANCELLED AT 2026-11-28T12:00:00 DUE TO PREEMPTION ***'); says A4_preempted.said; comes never"
  begin A10 --gpus 2 --cpus 2 <<<'if ((RANK == 0)); then for ((i = 0; i < 100; i++)); do beat; done; fi'
  begin_array A11 --sbatch-arg=--no-requeue
  begin A17 <<<'true'
}

teardown() {
  if [[ -n ${small:-} ]]; then umount -- "$small"; fi
}

teardown_file() {
  kill -CONT "$(node_process slurmctld)"
  cluster_down
}

# begin NAME OPTION... <PROGRAM   Submits the program as an experiment of this name.
begin() {
  cat -- "$BATS_TEST_DIRNAME/programs/light.sh" - >"$project/$1.sh"
  experiments "bash $1.sh"
  send "$@"
}

# begin_array NAME OPTION...   Submits two tasks. The first waits for a request to stop; after its restart it runs until the flag NAME.end
# exists.
begin_array() {
  { cat -- "$BATS_TEST_DIRNAME/programs/light.sh" && printf 'case $name.$ATTEMPT in *_1.0) save_when_asked ;; *_1.1) comes %s.end ;; esac\n' "$1"; } >"$project/$1.sh"
  experiments "bash $1.sh" "bash $1.sh"
  send "$@"
}

# send NAME OPTION...   Submits to node1, unless an option names another node, with the shims of this name first in PATH.
send() {
  local -a place=(--nodelist node1)
  if [[ " $* " == *' --nodelist '* ]]; then place=(); fi
  PATH=$BATS_FILE_TMPDIR/shims/$1:$PATH submit --environment "$BATS_FILE_TMPDIR/light" -W srun --gpus 0 --cpus 1 --mem 300M \
    "${place[@]}" --exp-name "$@" || { job='' run_directory='' && printf '%s: not sent\n' "$1" >&2; }
  keep "$1"
}

# strike NAME.ATTEMPT COMMAND...   Runs COMMAND when that program has begun, with its job recalled. If that fails, only a message is
# printed: the row's own test will fail.
strike() {
  recall "$(sed -E 's/(_[12])?\.[0-9]+$//' <<<"$1")"
  if [[ -z $job ]] || ! wait_until 60 test -e "$FLAGS/$1" || ! "${@:2}"; then printf '%s: not struck\n' "$1" >&2; fi
}

# shim NAME COMMAND <SCRIPT   Replaces COMMAND for the submission and the jobs of NAME; `$real` is the command itself. `sbatch --test-only`
# always runs the real command.
shim() {
  local -r folder=$BATS_FILE_TMPDIR/shims/$1
  mkdir -p -- "$folder"
  {
    printf '#!/bin/bash\nreal=%q\n' "$(command -v "$2")"
    cat <<'SCRIPT'
if [[ $1 == --test-only ]]; then exec "$real" "$@"; fi
says_and_waits() { : >"$FLAGS/$1" && until [[ -e $FLAGS/$2 ]]; do sleep 0.1; done; }
times_out() { echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2 && exit 1; }
hides() { "$real" "$@" >/dev/null && times_out; }
SCRIPT
    cat
    echo 'exec "$real" "$@"'
  } >"$folder/$2"
  chmod +x -- "$folder/$2"
}

make_shims() {
  local name
  for name in A2 A2_stopped; do
    shim "$name" ln <<<'if [[ " $*" != *" -s"* ]]; then echo "ln: Operation not permitted" >&2; exit 1; fi'
  done
  shim A2_bucket ln <<<'echo "ln: Operation not permitted" >&2; exit 1'
  shim A3_keeper tar <<<'if [[ $SLURM_STEP_ID == 0 ]]; then says_and_waits A3_keeper.brings A3_keeper.end; fi'
  shim A3_keeper squeue <<<'if [[ $* == *--jobs=$SLURM_JOB_ID* ]]; then says_and_waits A3_keeper.asks A3_keeper.answer; fi'
  shim A5_before sbatch <<<'printf "%s\n" ----- "  Welcome to 12 nodes" 2026 -----'
  shim A5_behind sbatch <<<'"$real" "$@" || exit; printf "%s\n" "" "project | hours left" "abc     | 5000" 5000; exit'
  shim A5_error sbatch <<<'"$real" "$@"; status=$?; echo "sbatch: your project ends soon" >&2; exit "$status"'
  shim A6 sbatch <<<'if [[ -z $RESUBMITS ]]; then hides "$@"; fi'
  shim A6_continued sbatch <<<'if [[ $* == *--dependency=* ]]; then hides "$@"; fi'
  shim A6_again sbatch <<<'if [[ -n $RESUBMITS ]]; then hides "$@"; fi'
  shim A6_lost sbatch <<<'if [[ ! -e $FLAGS/A6_lost ]]; then : >"$FLAGS/A6_lost"; times_out; fi'
  shim A6_stopped sbatch <<<'says_and_waits A6_stopped.sends stopped'
  for name in A7_hup A7_kill; do
    shim "$name" sbatch <<<"id=\$(\"\$real\" \"\$@\") || exit; says_and_waits $name.sent $name.end; echo \"\$id\"; exit"
  done
  shim A7_full sbatch <<<'id=$("$real" "$@") || exit; dd if=/dev/zero of="$SCRATCH/filler" bs=64k 2>/dev/null; echo "$id"; exit'
  # This makes --wait a hundred times shorter.
  for name in A10 A10_stopped; do
    shim "$name" srun <<<'words=(); for word; do if [[ $word == --wait=* ]]; then word=--wait=$((${word#*=} / 100)); fi; words+=("$word"); done; exec "$real" "${words[@]}"'
  done
  shim A11_stopped sbatch <<<'if [[ $* == *--dependency=* ]]; then says_and_waits A11_stopped.sends stopped; fi'
  shim A16_slow scontrol <<<'if [[ -n $SLURM_JOB_ID && $* == *"show job"* ]]; then sleep 20; fi'
}

# long_log LINE   Prints the code of a program that prints LINE and then 1.4 MB more.
long_log() {
  printf 'echo %q; yes "a line of the log of a long training" | head -c 1400000' "$1"
}

suspend() {
  scontrol suspend "$job" && bash "$project/hpc/experiments.sh" list --name A8 >"$BATS_FILE_TMPDIR/suspended"
}

resume() {
  scontrol resume "$job" && : >"$FLAGS/A8.end"
}

# batch.sh makes the stop file in a trap. Here it is a pipe, so batch.sh waits in the trap until somebody reads it.
block_stop_file() {
  mkfifo -- "$run_directory/task_1/attempt_0/stop"
  scancel --batch --signal=USR1 "$job" && wait_until 30 log_has 'the time limit is near'
}

# Read the pipe when the ranks have ended.
open_stop_file() {
  wait_until 30 ranks_have_gone
  timeout "$(patience 20)" cat -- "$run_directory/task_1/attempt_0/stop"
  rm -- "$run_directory/task_1/attempt_0/stop"
}

ranks_have_gone() {
  local process
  for process in $(processes_of "$job"); do
    if grep -qszx -- --job-name=ranks "/proc/$process/cmdline"; then return 1; fi
  done
}

# stop_controller SECONDS   Stops the controller and strikes the rows meanwhile.
stop_controller() {
  local -r end=$((SECONDS + $1))
  kill -STOP "$(node_process slurmctld)"
  : >"$FLAGS/stopped"
  strike A1_75.0 ask_to_stop 0
  strike A2_stopped.0 ask_to_stop 0
  strike A15_stopped.1 ask_to_stop 1
  strike A3_0_stopped.0 open_stop_file
  strike A3_7_stopped.0 open_stop_file
  while ((SECONDS < end)); do sleep 0.5; done
  kill -CONT "$(node_process slurmctld)"
}

# over NAME STATE RESTARTS CAUSES   The job, or the job that continues it, must end like this and leave nothing.
over() {
  recall "$1"
  [[ -n $job ]]
  wait_for_job "$job" 120
  same "$job_states; $(causes); $(restarts "$job")" "$2; $4; $3" || { job_log >&2 && return 1; }
  nothing_of "$1"
}

# nothing_of NAME   There must be no process, no folder on a node's disk, no partial file, no lock and no second job.
nothing_of() {
  nothing_left "$job"
  same "$(find "$run_directory" "$(checkpoints "$1")/.." -name '*.partial*' -o -name .sending)" ''
  flock --nonblock "${run_directory%/*}/.$1.lock" true
  same "$(squeue --noheader --name="$1" --format=%i)" ''
  same "$(cat -- "$(checkpoints "$1")/../.job")" "$(<"$run_directory/job_id")"
}

# continued NAME TASK   Makes the job that continues this task the job of this name.
continued() {
  recall "$1"
  wait_for_job "$job" 60
  grep -q 'continues it$' "$run_directory/task_$2/log.txt" || { cat -- "$run_directory/task_$2/log.txt" >&2 && return 1; }
  job=$(sed -nE 's/.*job ([0-9]+) continues it$/\1/p' "$run_directory/task_$2/log.txt")
  keep "$1"
}

# lives NAME JOB   JOB must be the only live job of this name; another submission must be refused.
lives() {
  [[ $2 =~ ^[1-9][0-9]*$ ]]
  same "$(squeue --noheader --name="$1" --format=%F)" "$2"
  run -1 --separate-stderr submitter --environment "$BATS_FILE_TMPDIR/light" -W srun --gpus 0 --exp-name "$1" --resume
  [[ $stderr =~ "the experiment '$1' belongs to job "([0-9]+,)*"$2 " ]]
}

# is_complete NAME   Releases the held job, which must complete.
is_complete() {
  scontrol release "$job"
  over "$1" COMPLETED 0 finished
}

# submits_behind NAME   Submits a held job in the background; sets submitter, the leader of a process group of its own.
submits_behind() {
  experiments "bash $1.sh"
  cp -- "$BATS_TEST_DIRNAME/programs/light.sh" "$project/$1.sh"
  PATH=$BATS_FILE_TMPDIR/shims/$1:$PATH setsid bash "$project/hpc/job_submitter.sh" --environment "$BATS_FILE_TMPDIR/light" -W srun \
    --gpus 0 --cpus 1 --mem 300M --nodelist node1 --exp-name "$1" --sbatch-arg=--hold >"$BATS_TEST_TMPDIR/id" 2>"$BATS_TEST_TMPDIR/messages" 3>&- 4>&- &
  submitter=$!
  wait_until 60 test -e "$FLAGS/$1.sent"
  run_directory=$(echo "$SCRATCH/${project##*/}/hpc_outputs/$1"_*)
  [[ -d $run_directory ]]
  job=$(squeue --noheader --name="$1" --format=%i)
  keep "$1"
}

setup() {
  export XDG_STATE_HOME=$BATS_FILE_TMPDIR/state
}

@test "A1: the controller silent for 45 s while the program ends with 75, or with 3" {
  over A1_75 COMPLETED 1 'notice request, finished'
  over A1_3 FAILED 0 'failed 3 0 node1'
  run -0 bash "$project/hpc/experiments.sh" why "$run_directory"
  [[ $output != *cancelled* ]]
  [[ ! -e $run_directory/task_1/attempt_0/doubt ]]
}

@test "A2: no hard links on the file system, no links at all" {
  strike A2.0 ask_to_stop 0
  strike A2_bucket.0 ask_to_stop 0
  over A2 COMPLETED 1 'notice request, finished'
  over A2_bucket COMPLETED 1 'notice request, finished'
  over A2_stopped COMPLETED 1 'notice request, finished'
}

@test "A3: the child ends while a trap of the batch script runs" {
  local name
  for name in A3_0 A3_7 A3_75; do
    strike "$name.0" block_stop_file
    : >"$FLAGS/$name.end"
  done
  for name in A3_0 A3_7 A3_75; do strike "$name.0" open_stop_file; done
  over A3_0 COMPLETED 0 finished
  over A3_7 FAILED 0 'failed 7 0 node1'
  over A3_75 COMPLETED 1 'notice time_limit, finished'
  over A3_0_stopped COMPLETED 0 finished
  over A3_7_stopped FAILED 0 'failed 7 0 node1'
}

@test "A3: data are staged while a trap of keep_node.sh runs" {
  local -r data=$SCRATCH/${project##*/}/keeper
  mkdir -- "$data"
  echo there >"$data/file"
  begin A3_keeper --data keeper --data-format tar <<<'[[ $(<"$SLURM_TMPDIR/keeper/file") == there ]]'
  wait_until 60 test -e "$FLAGS/A3_keeper.brings"
  scancel --signal=TERM "$job.0"
  wait_until 20 test -e "$FLAGS/A3_keeper.asks"
  : >"$FLAGS/A3_keeper.end"
  sleep 1 # tar has ended, and squeue has five seconds
  : >"$FLAGS/A3_keeper.answer"
  over A3_keeper COMPLETED 0 finished
}

@test "A4: the messages that show the cause are followed by 1.4 MB of log" {
  over A4_memory FAILED 0 out_of_memory
  over A4_stopped FAILED 0 out_of_memory
  recall A4_preempted
  wait_until 60 test -e "$FLAGS/A4_preempted.said"
  scancel "$job"
  over A4_preempted CANCELLED 0 preempted
}

@test "A5: sbatch prints text around the id" {
  local name
  for name in A5_behind A5_error A5_before; do
    begin "$name" --sbatch-arg=--hold <<<true
    lives "$name" "$job"
    is_complete "$name"
  done
}

@test "A6: sbatch times out, but the job was submitted" {
  local first
  begin A6 --sbatch-arg=--hold <<<true
  lives A6 "$job"
  is_complete A6

  begin A6_continued --sbatch-arg=--no-requeue <<<'if ((ATTEMPT == 0)); then save_when_asked; fi; comes A6_continued.end'
  strike A6_continued.0 ask_to_stop 0
  continued A6_continued 1
  lives A6_continued "$job"
  : >"$FLAGS/A6_continued.end"
  over A6_continued COMPLETED 0 'notice request, finished'

  begin A6_again <<<'exit 3'
  first=$job
  over A6_again FAILED 0 'failed 3 0 node1'
  job=$(RESUBMITS=1 PATH=$BATS_FILE_TMPDIR/shims/A6_again:$PATH bash "$project/hpc/experiments.sh" resubmit "$first" 3>&- 4>&-)
  [[ $job =~ ^[1-9][0-9]*$ && $job != "$first" ]]
  run_directory=$(dirname -- "$(grep -lx "$job" "$SCRATCH"/*/hpc_outputs/A6_again_*/job_id)")
  keep A6_again
  over A6_again FAILED 0 'failed 3 0 node1'
}

@test "A6: sbatch times out and no job was submitted: all files stay, and the next submission succeeds" {
  local first
  experiments 'bash A6_lost.sh'
  cp -- "$BATS_TEST_DIRNAME/programs/light.sh" "$project/A6_lost.sh"
  PATH=$BATS_FILE_TMPDIR/shims/A6_lost:$PATH fails_with 1 'squeue shows no job of .*: the run directory stays' \
    submitter --environment "$BATS_FILE_TMPDIR/light" -W srun --gpus 0 --exp-name A6_lost
  first=$(echo "$SCRATCH/${project##*/}/hpc_outputs/A6_lost"_*)
  [[ -d $first ]]
  begin A6_lost <<<true
  over A6_lost COMPLETED 0 finished
}

@test "A6: sbatch times out because the controller is stopped" {
  # A stopped controller does what sbatch asked for when it continues; 26.05 has dropped the request at times ("Three Slurms" in
  # tests/README.md). On a busy machine sbatch may wait long enough to get its answer, and the request may be carried out late.
  if [[ $(<"$BATS_FILE_TMPDIR/A6_stopped") != *'job '+([0-9])' ('* ]]; then
    printf '%s\n' "$(<"$BATS_FILE_TMPDIR/A6_stopped")" >&2
    [[ $(<"$BATS_FILE_TMPDIR/A6_stopped") == *'squeue shows no job of '*': the run directory stays; '*'submit again'* ]]
    begin A6_stopped <<<'true'
  fi
  over A6_stopped COMPLETED 0 finished
}

@test "A7: the submitter gets SIGHUP between sbatch and the id on disk" {
  local submitter
  submits_behind A7_hup
  kill -HUP -- "-$submitter"
  : >"$FLAGS/A7_hup.end"
  wait_status "$submitter"
  ((status == 0))
  same "$(<"$BATS_TEST_TMPDIR/id")" "$job"
  lives A7_hup "$job"
  is_complete A7_hup
}

@test "A7: the submitter is killed between sbatch and the id on disk" {
  local submitter
  submits_behind A7_kill
  kill -KILL "$submitter"
  : >"$FLAGS/A7_kill.end"
  wait_status "$submitter"
  run -1 --separate-stderr submitter --environment "$BATS_FILE_TMPDIR/light" -W srun --gpus 0 --exp-name A7_kill
  [[ $stderr == *"job $job of an earlier submission was not recorded: it is now"*"'A7_kill' belongs to job $job "* ]]
  lives A7_kill "$job"
  is_complete A7_kill
}

@test "A7: the disk is full between sbatch and the id on disk" {
  small=$BATS_TEST_TMPDIR/small
  mkdir -- "$small"
  mount -t tmpfs -o size=24m none "$small"
  export SCRATCH=$small
  experiments true
  job=$(PATH=$BATS_FILE_TMPDIR/shims/A7_full:$PATH submitter --environment "$BATS_FILE_TMPDIR/light" -W srun --gpus 0 --exp-name A7_full --sbatch-arg=--hold)
  [[ $(scontrol show job "$job" | sed -n 's/^ *WorkDir=//p') -ef $(echo "$small"/*/hpc_outputs/A7_full_*) ]]
  [[ -e $(echo "$small"/*/hpc_outputs/A7_full_*)/source.tar ]]
  rm -- "$small/filler"
  run -1 --separate-stderr submitter --environment "$BATS_FILE_TMPDIR/light" -W srun --gpus 0 --exp-name A7_full
  [[ $stderr == *"'A7_full' belongs to job $job "* ]]
  lives A7_full "$job"
  same "$(cat -- "$small"/*/hpc_outputs/A7_full_*/job_id)" "$job"
  scancel "$job"
}

@test "A8: a job that is suspended for 75 s has not hung, and the table says suspended" {
  over A8 COMPLETED 0 finished
  [[ $(<"$BATS_FILE_TMPDIR/suspended") == *suspended* ]]
}

@test "A10: a rank may work longer than another that has already completed" {
  over A10 COMPLETED 0 finished
  over A10_stopped COMPLETED 0 finished
}

@test "A11: the job that continues a task of an array, where requeueing is forbidden" {
  local name
  strike A11_1.0 ask_to_stop 0
  for name in A11 A11_stopped; do
    continued "$name" 1
    lives "$name" "$job"
    : >"$FLAGS/$name.end"
    over "$name" COMPLETED 0 'notice request, finished'
  done
}

@test "A12: data of a run of three arrays stay while the last array waits" {
  local -r data=$SCRATCH/${project##*/}/three
  local run archive
  stub_slurm
  sed -i 's/= 1001/= 3/' "$stub/scontrol"
  printf '#!/bin/sh\nprintf x >>"$STUB/jobs"\nif [ "$1" = --test-only ]; then exit 0; fi\nwc -c <"$STUB/jobs"\n' >"$stub/sbatch"
  mkdir -- "$data"
  head -c 4000000 /dev/urandom >"$data/file"
  experiments true true true true true
  submitter --environment "$BATS_FILE_TMPDIR/light" --gpus 0 --exp-name A12 --data three
  run=$(echo "$SCRATCH/${project##*/}/hpc_outputs/A12_"*)
  same "$(wc -l <"$run/job_id")" 3
  archive=$(find "$SCRATCH/${project##*/}/.staging" -name "$(tr '\0' '\n' <"$run/staging" | sed -n 2p).*.manifest")
  touch --date='2 days ago' -- "$archive"
  printf '#!/bin/sh\necho %s\n' "$(tail -n 1 "$run/job_id")" >"$stub/squeue"
  experiments true
  mkdir -- "$data.other"
  head -c 4000000 /dev/urandom >"$data.other/file"
  submitter --environment "$BATS_FILE_TMPDIR/light" --gpus 0 --exp-name A12_other --data three.other --staging-limit 5M
  [[ -e $archive ]]
  # The data are removed when the last has ended.
  printf '#!/bin/sh\nexit 0\n' >"$stub/squeue"
  submitter --environment "$BATS_FILE_TMPDIR/light" --gpus 0 --exp-name A12_third --data three.other --staging-limit 5M
  [[ ! -e $archive ]]
}

# change_kit   Changes the kit, as an upgrade or an edit does.
change_kit() {
  find "$project/hpc" -name '*.sh' -exec sed -i '2i echo "of the new version" && exit 9' {} +
}

@test "A13: the kit changes while a job is queued, and while it restarts" {
  cp -R -- "$project" "$BATS_TEST_TMPDIR/upgraded"
  project=$BATS_TEST_TMPDIR/upgraded
  begin A13_restarts --sbatch-arg=--no-requeue <<<'if ((ATTEMPT == 0)); then save_when_asked; fi'
  begin A13_queued --no-snapshot --sbatch-arg=--hold <<<true
  strike A13_restarts.0 change_kit
  ask_to_stop 0
  recall A13_queued
  scontrol release "$job"
  over A13_queued COMPLETED 0 finished
  continued A13_restarts 1
  over A13_restarts COMPLETED 0 'notice request, finished'
}

@test "A14: environment variables with names that the kit uses itself" {
  local name before
  before=$(cd -- "$SCRATCH/${project##*/}" && find . | LC_ALL=C sort)
  for name in .staging .sources .kits hpc_outputs . ..; do
    run -2 --separate-stderr submitter --environment "$BATS_FILE_TMPDIR/light" -W srun --gpus 0 --exp-name "$name"
    [[ $stderr == *"--exp-name"* ]]
  done
  same "$(cd -- "$SCRATCH/${project##*/}" && find . | LC_ALL=C sort)" "$before"
}

@test "A15: preemptions do not count for --max-restarts" {
  over A15 COMPLETED 3 'preempted, notice request, preempted, finished'
  over A15_stopped COMPLETED 2 'preempted, notice request, finished'
}

@test "A17: Slurm restarts a job after it has completed" {
  local name
  for name in A17 A17_stopped; do
    recall "$name"
    wait_for_job "$job" 60
    scontrol requeue "$job"
  done
  for name in A17 A17_stopped; do
    recall "$name"
    wait_for_job "$job" 120
    same "$job_states; $(causes); $(job_field "$job" Restarts)" 'COMPLETED; finished; 1'
    nothing_of "$name"
    [[ ! -e $run_directory/task_1/attempt_1 && $(<"$run_directory/task_1/state") == completed ]]
  done
}

@test "A16: healthy nodes are not blamed" {
  over A16_slow COMPLETED 1 'preempted, finished'
  over A16_stopped COMPLETED 1 'preempted, finished'
  over A16_hangs COMPLETED 2 'hung, hung, finished'
  run -0 bash "$project/hpc/experiments.sh" nodes
  same "$(awk 'NR > 1 { print $2, $5, $6, $7 }' <<<"$output")" "$(printf 'node1 %s no hung\n' "$job" "$job")" || { job_log >&2 && return 1; }
}
