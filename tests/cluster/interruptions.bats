#!/usr/bin/env bats
# The interruption protocol on a cluster, with a program that does not use train/ (programs/steps.py): what ends an attempt, which cause is
# recorded, and what continues. Long jobs run beside the other tests.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
  make_project_in "$BATS_FILE_TMPDIR"
  export project
  # Slurm warns 30 to 90 s before the time limit of two minutes; a hang is detected after one minute.
  begin warned 'steps.py 950' --time 2 --grace-seconds 30
  begin limit 'steps.py 100000 --deaf' --time 1
  begin hang 'steps.py 60 --hang 30' --num-nodes 2 --hang-minutes 1 -W torchrun
}

teardown_file() {
  cluster_down
}

# begin NAME PROGRAM OPTION...   Submits a job to nodes that no test kills; `recall NAME` sets its job and run_directory again.
begin() {
  use_programs "$2"
  submit --exclude 'node[3-4]' --gpus 0 -W srun --exp-name "$1" "${@:3}"
  printf '%s\n%s\n' "$job" "$run_directory" >"$BATS_FILE_TMPDIR/$1"
}

recall() {
  { read -r job && read -r run_directory; } <"$BATS_FILE_TMPDIR/$1"
}

# causes [TASK]   Prints a line `ATTEMPT CAUSE` for each attempt.
causes() {
  local file
  for file in "$run_directory/task_${1:-1}"/attempt_*/cause; do
    [[ $file =~ attempt_([0-9]+)/cause$ ]]
    printf '%s %s\n' "${BASH_REMATCH[1]}" "$(<"$file")"
  done
}

# went_on STEPS RANKS [TASK]   Each rank must have done each step exactly once.
went_on() {
  local rank
  for ((rank = 0; rank < $2; rank++)); do
    same "$(cut -d ' ' -f 1 "$run_directory/task_${3:-1}/output/rank_$rank")" "$(seq "$1")"
  done
}

# has_begun [TASK]   Waits until the first attempt has done some steps.
has_begun() {
  wait_until 60 test -s "$run_directory/task_${1:-1}/output/rank_0" || { squeue && job_log "${1:-1}" && return 1; }
}

ask_to_stop() {
  : >"$run_directory/task_${1:-1}/attempt_0/stop"
}

@test "a stop file: the ranks save, and the job is restarted with its id and the same log" {
  begin stop 'steps.py 60 --wait 50' --num-nodes 2
  has_begun
  ask_to_stop
  ended "$job" 90 COMPLETED 0:0
  same "$(causes)" $'0 notice request\n1 finished'
  went_on 60 2
  same "$(job_field "$job" Restarts)" 1
  [[ $(grep -c "^== job $job, attempt [01], on " "$run_directory/task_1/log.txt") == 2 ]]
  [[ $(job_log) != *'failed first'* ]]
}

@test "the same under torchrun, with several ranks on a node" {
  begin stop_torchrun 'steps.py 60 --wait 50' --gpus 2 --num-nodes 2 -W torchrun
  has_begun
  ask_to_stop
  ended "$job" 90 COMPLETED 0:0
  same "$(causes)" $'0 notice request\n1 finished'
  went_on 60 4
}

@test "one task of an array is restarted alone" {
  use_programs 'steps.py 40' 'steps.py 60 --wait 50'
  submit --exclude 'node[3-4]' -W srun --exp-name array
  has_begun 2
  ask_to_stop 2
  wait_for_job "$job" 90
  same "$(causes 1)" '0 finished'
  same "$(causes 2)" $'0 notice request\n1 finished'
  went_on 40 1 1
  went_on 60 1 2
}

# is_continued NAME [OPTION...]   A new job must continue a job with these options, and --follow must follow the new job.
is_continued() {
  local follower
  use_programs 'steps.py 60 --wait 50'
  submitter --exclude 'node[3-4]' -W srun --exp-name "$1" --follow "${@:2}" \
    >"$BATS_TEST_TMPDIR/id" 2>"$BATS_TEST_TMPDIR/messages" &
  follower=$!
  wait_until 20 test -s "$BATS_TEST_TMPDIR/id"
  job=$(<"$BATS_TEST_TMPDIR/id")
  run_directory=$(echo "$SCRATCH/${project##*/}/hpc_outputs/$1"_*)
  has_begun
  ask_to_stop
  wait_status "$follower"
  cat -- "$BATS_TEST_TMPDIR/messages" >&2
  ((status == 0))
  same "$(causes)" $'0 notice request\n1 finished'
  went_on 60 1
  [[ $(<"$run_directory/job_id") != "$job" ]]
  grep -q "job $job: job $(<"$run_directory/job_id") continues it" "$BATS_TEST_TMPDIR/messages"
}

@test "where the site forbids requeueing, a new job continues the old one; --follow follows it" {
  is_continued forbidden --sbatch-arg=--no-requeue
  [[ $(job_log) == *'scontrol requeue: '* ]]
}

@test "where the profile says that jobs must be continued, a new job does so without asking Slurm to requeue" {
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf 'source "$site_clusters/pocket.sh"\nsite[requeue]=continue\n' >"$XDG_CONFIG_HOME/hpc_kit/clusters/pocket.sh"
  is_continued continued
  [[ $(job_log) != *'scontrol requeue: '* ]]
}

@test "a requeue that kills scontrol before it has answered: the job is restarted once" {
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\n%s "$@"\nif [ "$1" = requeue ]; then sleep 30; fi\n' "$(command -v scontrol)" >"$BATS_TEST_TMPDIR/bin/scontrol"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/scontrol"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH begin no_answer 'steps.py 60 --wait 50'
  has_begun
  ask_to_stop
  ended "$job" 90 COMPLETED 0:0
  same "$(causes)" $'0 notice request\n1 finished'
  went_on 60 1
  same "$(<"$run_directory/job_id")" "$job"
  [[ $(job_log) != *'continues it'* ]]
}

@test "when no restarts are left, the job fails with 75 and says so" {
  begin budget 'steps.py 600' --max-restarts 1
  has_begun
  ask_to_stop
  wait_until 60 test -e "$run_directory/task_1/attempt_1/heartbeat"
  : >"$run_directory/task_1/attempt_1/stop"
  ended "$job" 60 FAILED 75:0
  same "$(causes)" $'0 notice request\n1 notice request'
  [[ $(job_log) == *'not started again: it was 1 times, and --max-restarts is 1'* ]]
}

@test "--max-restarts 0: Slurm does not restart it either" {
  use_programs 'steps.py 600'
  submit -W srun --max-restarts 0 --begin now+1hour
  same "$(job_field "$job" Requeue)" 0
  scancel "$job"
}

@test "scancel: the program saves, is never restarted and ends within KillWait" {
  begin cancelled 'steps.py 600' --num-nodes 2
  has_begun
  scancel "$job"
  SECONDS=0
  wait_for_job "$job" 15
  wait_until 12 test -e "$run_directory/task_1/attempt_0/cause"
  ((SECONDS < $(patience 12)))
  same "$job_states" CANCELLED
  same "$(causes)" '0 cancelled'
  [[ $(job_log) == *'saved at step'* ]]
  sleep 7 # a requeue would show by now
  same "$(job_field "$job" JobState)" CANCELLED
  same "$(job_field "$job" Restarts)" 0
}

# preempt JOB   Submits a job to the partition urgent that takes all of node4 for a moment.
preempt() {
  sbatch --parsable --partition=urgent --nodelist=node4 --exclusive --output=/dev/null --wrap 'sleep 1' >/dev/null
}

@test "preemption: the program saves in the grace time and is restarted" {
  use_programs 'steps.py 60 --wait 50'
  submit --nodelist node4 -W srun --exp-name preempted
  has_begun
  preempt
  ended "$job" 90 COMPLETED 0:0
  same "$(causes)" $'0 preempted\n1 finished'
  went_on 60 1
  [[ $(job_log) == *'saved at step'* ]]
}

@test "preemption of a program that ignores it: Slurm kills it and restarts it" {
  use_programs 'steps.py 60 --deaf --wait 50'
  submit --nodelist node4 -W srun --exp-name deaf
  has_begun
  preempt
  ended "$job" 120 COMPLETED 0:0
  same "$(causes)" $'0 preempted\n1 finished'
  same "$(restarts "$job")" 1
  [[ $(job_log) != *'saved at step'* ]]
}

@test "a node dies: the job is restarted, and the record says why" {
  use_programs 'steps.py 60 --wait 50'
  submit --nodelist 'node[3-4]' --num-nodes 2 -W srun --exp-name died
  has_begun
  kill -KILL "$(cut -d ' ' -f 1 "$POCKET_CLUSTER_DIR/pids/node3")"
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&-
  ended "$job" 90 COMPLETED 0:0
  same "$(causes)" $'0 node_failed\n1 finished'
  # Nothing could record its end, so the last samples give its length.
  same "$(cut -d ' ' -f 1 "$run_directory"/task_1/attempt_{0,1}/times | xargs)" 'began began ended'
  run -0 bash "$project/hpc/experiments.sh" report died
  [[ $output =~ node_failed\ +1\ +00:([0-9:]+)\  && ${BASH_REMATCH[1]} != 00:00 ]]
  same "$(sinfo --noheader --states=drain,down --format=%N)" ''
}

@test "--rapid-cycle: the job is interrupted and restarted several times, then the long job runs" {
  local cycles
  use_programs 'steps.py 150'
  submit --exclude 'node[3-4]' -W srun --num-nodes 2 --exp-name cycles --rapid-cycle 3x3 --cycle-partition urgent
  cycles=$(squeue --noheader --name=cycle_cycles --format=%i)
  same "$(job_field "$cycles" Partition) $(job_field "$job" Partition)" "urgent main"
  wait_until 60 test -e "$run_directory/task_1/attempt_1"
  same "$(job_field "$job" JobState)" PENDING
  ended "$job" 90 COMPLETED 0:0
  same "$(job_field "$cycles" JobState) $(job_field "$cycles" Restarts)" 'COMPLETED 0'
  same "$(causes)" $'0 notice cycle\n1 notice cycle\n2 notice cycle\n3 finished'
  same "$(<"$run_directory/task_1/state")" completed
  went_on 150 2
}

@test "--rapid-cycle: a program that ignores requests to stop never reaches its long job" {
  local cycles
  use_programs 'steps.py 1000 --deaf' 'steps.py 1'
  submit --exclude 'node[3-4]' -W srun --exp-name deaf_cycles --rapid-cycle 2x2 --time 10 --grace-seconds 3
  cycles=$(squeue --noheader --array-unique --name=cycle_deaf_cycles --format=%F | head -n 1)
  wait_for_job "$cycles" 90
  same "$(causes 1)" '0 ignored_stop'
  [[ $(job_log 1) == *'asked to save and stop by STOP_FILE, the program has not done so within 3 s'* ]]
  same "$(<"$run_directory/task_1/state")" failed
  # The other line of the file completed before the end of its first cycle, so its task of the long job has nothing to do.
  wait_for_job "$job" 60
  same "$(causes 2)" '0 finished'
  [[ $(job_log 2) == *'this task has completed before: nothing is left to do'* ]]
  same "$(<"$run_directory/task_2/state")" completed
  same "$(sort <<<"$job_states")" $'CANCELLED\nCOMPLETED'
}

@test "more memory than requested: out_of_memory, and no restart" {
  experiments "python -c 'held = [bytearray(10**8) for _ in range(40)]; import time; time.sleep(20)'"
  submit --exclude 'node[3-4]' -W srun --mem 1G
  wait_for_job "$job" 60
  same "$(causes)" '0 out_of_memory'
  same "$(job_field "$job" Restarts)" 0
}

@test "a rank that fails is not restarted" {
  use_programs 'fail.py exit 1'
  submit --exclude 'node[3-4]' --num-nodes 2 -W srun
  ended "$job" 60 FAILED 3:0
  same "$(causes)" '0 failed 3 1 node2'
}

@test "a hang: the log has the stacks of all ranks, and the job is restarted" {
  recall hang
  ended "$job" 150 COMPLETED 0:0
  same "$(causes)" $'0 hung\n1 finished'
  went_on 60 2
  # Read the ranks' own files, because Slurm may mix lines that two nodes print at the same moment.
  [[ $(cat -- "$run_directory"/task_1/rank_*.txt | grep -c 'programs/steps.py", line [0-9]* in <module>') == 2 ]]
}

@test "the warning before the time limit: the program saves, and the job is restarted" {
  recall warned
  ended "$job" 240 COMPLETED 0:0
  # Slurm may warn up to a minute early; then there is a second warning.
  [[ $(causes) =~ ^'0 notice time_limit'($'\n''1 notice time_limit')?$'\n'[12]' finished'$ ]] || { causes && return 1; }
  went_on 950 1
}

@test "the time limit without a warning ends the job, and the record says so" {
  recall limit
  wait_for_job "$job" 150
  same "$job_states" TIMEOUT
  same "$(causes)" '0 time_limit'
}
