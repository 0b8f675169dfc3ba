#!/usr/bin/env bats
# batch.sh without Slurm: how it ends, and steps that do not start.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  run_directory=$BATS_TEST_TMPDIR/run task=$BATS_TEST_TMPDIR/run/task_1 stub=$BATS_TEST_TMPDIR/stub
  mkdir -p -- "$task" "$stub" "$BATS_TEST_TMPDIR/node"
  ln -s -- "$checkout" "$run_directory/kit"
  echo enqueued >"$task/state"
  printf 'fact[%s\n' nodes]=1 tasks_per_node]=1 processes_per_node]=1 cpus]=1 tasks]=1 gpus]=0 hang_seconds]=0 kill_wait]=10 max_restarts]=5 \
    interrupt]=ask sweep]= cluster]=stub source_dir]=/ project_directory]=/ checkpoint_directory]="$BATS_TEST_TMPDIR/x/checkpoints" >"$run_directory/facts"
  printf '#!/bin/sh
case $* in
  *hostnames*) echo node1 ;;
  *requeue*) : >"$STUB/requeued" ;;
  *) echo "JobId=1 JobState=RUNNING Reason=None " ;;
esac\n' >"$stub/scontrol"
  export STUB=$stub SLURM_JOB_ID=1 SLURM_JOB_NODELIST=node1 SLURM_JOB_NUM_NODES=1 SLURM_TMPDIR=$BATS_TEST_TMPDIR/node
  unset SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID
  PATH=$stub:$PATH
}

teardown() {
  if [[ -n ${batch:-} ]]; then kill -KILL -- "-$batch" 2>/dev/null || true; fi
}

# srun_does SCRIPT   Makes a srun that runs this sh script; the script's output goes to the log.
srun_does() {
  printf '#!/bin/sh\n%s\n' "$1" >"$stub/srun"
  chmod +x -- "$stub"/*
}

# start_batch   Starts it in its own process group, with the signals of a fresh login; sets `batch`.
start_batch() {
  # Use setsid, because bash makes background processes ignore INT and QUIT; env restores them.
  setsid env --default-signal bash "$checkout/hpc/job/batch.sh" "$run_directory" >>"$task/log.txt" 2>&1 3>&- 4>&- &
  batch=$!
}

cause() {
  cat -- "$task/attempt_0/cause"
}

saves_and_stops='while [ ! -e "$STUB/../run/task_1/attempt_0/stop" ]; do sleep 0.1; done; exit 75'

@test "a signal that batch.sh does not expect: the task does not count as completed" {
  srun_does ': >"$STUB/began"; exec sleep 20'
  start_batch
  wait_until 20 test -e "$stub/began"
  kill -XCPU "$batch"
  wait_status "$batch"
  [[ $(cause) == 'failed 143 - -' && $(<"$task/state") == failed ]]
}

@test "TERM, INT or HUP to batch.sh alone: the program is asked to save, srun gets no signal, the job is restarted, nothing stays" {
  local signal end=TERM
  srun_does 'trap "exit 143" TERM INT HUP; : >"$STUB/began"; '"$saves_and_stops"
  for signal in TERM INT HUP; do
    rm -rf -- "$task"/attempt_* "$stub"/{began,requeued}
    start_batch
    wait_until 20 test -e "$stub/began"
    kill -s "$signal" "$batch"
    wait_until 20 test -e "$stub/requeued"
    sleep 0.5
    kill -s "$end" "$batch" # now Slurm ends it
    wait_status "$batch"
    wait_until 5 group_is_gone "$batch"
    end=KILL
    [[ $(cause) == 'notice request' && $(<"$task/state") == paused ]]
  done
}

@test "a signal while the controller does not answer: Slurm's message in the log gives the cause" {
  local line wanted
  printf '#!/bin/sh\ncase $* in *hostnames*) echo node1 ;; *) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1 ;; esac\n' >"$stub/scontrol"
  # The messages of 22.05 and 24.11, then those of 26.05.
  while IFS='|' read -r wanted line; do
    rm -rf -- "$task"/{attempt_*,log.txt} "$stub/began"
    srun_does "echo '$line'"'
: >"$STUB/began"; exec sleep 20'
    start_batch
    wait_until 20 test -e "$stub/began"
    kill -s TERM "$batch"
    wait_status "$batch"
    [[ $(cause) == "$wanted" && -e $task/attempt_0/doubt ]]
  done <<'WORDS'
time_limit|slurmstepd-node1: error: *** JOB 1 ON node1 CANCELLED AT 2026-11-29T12:00:00 DUE TO TIME LIMIT ***
node_failed|slurmstepd-node1: error: *** JOB 1 ON node1 CANCELLED AT 2026-11-29T12:00:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***
cancelled|slurmstepd-node1: error: *** JOB 1 ON node1 CANCELLED AT 2026-11-29T12:00:00 ***
time_limit|[2026-11-29T12:53:05.010] error: *** JOB 5 ON node1 CANCELLED AT 2026-11-29T12:53:05 DUE TO TIME LIMIT ***
cancelled|[2026-11-29T12:48:56.742] error: *** JOB 2 ON node1 CANCELLED AT 2026-11-29T12:48:56 DUE to SIGNAL Terminated ***
WORDS
}

@test "a signal while the controller does not answer, and the program has saved: Slurm's message says who ended the job" {
  local words
  printf '#!/bin/sh\ncase $* in *hostnames*) echo node1 ;; *) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1 ;; esac\n' >"$stub/scontrol"
  for words in ' DUE TO TIME LIMIT:time_limit' ' DUE TO PREEMPTION:preempted' ':cancelled'; do
    rm -rf -- "$task"/{attempt_*,log.txt} "$stub/began"
    srun_does "echo 'slurmstepd-node1: error: *** JOB 1 ON node1 CANCELLED AT 2026-11-29T12:00:00${words%%:*} ***'"'
: >"$STUB/began"; '"$saves_and_stops"
    start_batch
    wait_until 20 test -e "$stub/began"
    kill -s TERM "$batch"
    wait_until 30 grep -q 'exit status 75' "$task/log.txt"
    kill -s KILL -- "-$batch" 2>/dev/null || true # at the end of KillWait, if it runs still
    wait_status "$batch"
    [[ $(cause) == "${words#*:}" && -e $task/attempt_0/doubt ]]
  done
}

@test "the warning before the time limit comes before Slurm has started the ranks: the job is restarted" {
  srun_does 'echo "srun: Job 1 step creation temporarily disabled, retrying (Requested nodes are busy)" >&2
: >"$STUB/began"; exec sleep 60'
  start_batch
  wait_until 20 test -e "$stub/began"
  kill -s USR1 "$batch"
  wait_until 20 test -e "$stub/requeued"
  [[ $(cause) == 'notice time_limit' && $(<"$task/state") == paused ]]
  kill -s TERM "$batch" # now Slurm ends it
  wait_status "$batch"
}

group_is_gone() {
  [[ -z $(pgrep -g "$1") ]]
}

@test "srun is called again if it cannot start because the controller does not answer; not after the program has started" {
  srun_does 'echo called >>"$STUB/calls"
if [ "$(wc -l <"$STUB/calls")" = 1 ]; then
  echo "srun: error: Unable to confirm allocation for job 1: Socket timed out on send/recv operation" >&2
  exit 1
fi
: >"$STUB/../run/task_1/attempt_0/begun"
exit 3'
  start_batch
  wait_status "$batch"
  [[ $(wc -l <"$stub/calls") == 2 && $(cause) == 'failed 3 - -' ]]
}

@test "a step that srun refuses for another reason is not tried again; a step that never starts ends the job" {
  srun_does 'echo called >>"$STUB/calls"; echo "srun: error: no such option" >&2; exit 1'
  start_batch
  wait_status "$batch"
  [[ $(wc -l <"$stub/calls") == 1 && $(cause) == 'failed 1 - -' ]]
  rm -rf -- "$task"/attempt_* "$stub/calls"
  srun_does 'echo called >>"$STUB/calls"; echo "srun: error: Unable to create step for job 1: Invalid request" >&2; exit 1'
  printf '#!/bin/sh\n' >"$stub/sleep"
  chmod +x -- "$stub/sleep"
  start_batch
  wait_status "$batch"
  [[ $(wc -l <"$stub/calls") == 4 && $(cause) == 'failed 1 - -' ]]
}

@test "an srun that refuses --overlap and --gpu-bind, and takes the CPUs only from its environment" {
  srun_does 'for word; do
  case $word in --overlap* | --gpu-bind*) echo "srun: unrecognized option $word" >&2; exit 1 ;; esac
done
[ "$SRUN_CPUS_PER_TASK" = 1 ] && [ "$SLURM_OVERLAP" = 1 ] || exit 4
: >"$STUB/../run/task_1/attempt_0/begun"'
  start_batch
  wait_status "$batch"
  [[ $status == 0 && $(cause) == finished ]]
}

@test "a continuing job whose submission got no answer is submitted again; if Slurm accepts both, one job runs" {
  local number
  srun_does 'case $ATTEMPT in 0) exit 75 ;; *) echo "$SLURM_JOB_ID" >>"$STUB/ran" ;; esac'
  printf '#!/bin/sh
echo "$@" >>"$STUB/sent"
if [ "$(wc -l <"$STUB/sent")" -lt 2 ]; then echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1; fi
echo "Submitted batch job 8"\n' >"$stub/sbatch"
  printf '#!/bin/sh\n' | tee "$stub/squeue" >"$stub/sleep"
  chmod +x -- "$stub"/*
  printf 'fact[requeue]=continue\n' >>"$run_directory/facts"
  mkdir -p -- "$BATS_TEST_TMPDIR/x"
  printf '%s\0' sbatch --time=5 "$checkout/hpc/job/batch.sh" "$run_directory" >"$run_directory/sbatch_argv"
  start_batch
  wait_status "$batch"
  [[ $(uniq --count <"$stub/sent") == *" 2 --dependency=afterany:1 --time=5 $checkout/hpc/job/batch.sh $run_directory continues=0" ]]
  [[ $(<"$run_directory/job_id") == 8 ]]
  for number in 9 8 9; do # the last: job 9 is requeued
    SLURM_JOB_ID=$number bash "$checkout/hpc/job/batch.sh" "$run_directory" continues=0 >>"$task/log.txt" 2>&1
    if ((number == 9)); then echo enqueued >"$task/state"; fi
  done
  [[ $(<"$stub/ran") == $'9\n9' ]]
  grep -q 'job 8: job 9 has continued this task' "$task/log.txt"
  [[ $(<"$run_directory/job_id")$(<"$BATS_TEST_TMPDIR/x/.job") == 99 ]]
  [[ $(<"$run_directory/jobs") == $'1 train\n8 continue\n9 continue' ]]
}
