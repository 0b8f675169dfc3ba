#!/usr/bin/env bats
# Runs of a kit from before hpc/job/: list, why, logs, open, cancel and report still work on them. Their directories and lines of squeue are
# those that this kit (commit 7b198e5) left on the pocket cluster, with other paths.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  made_runs_setup
  mv -- "$project" "$BATS_TEST_TMPDIR/my project"
  project=$BATS_TEST_TMPDIR/'my project'
  outputs=$SCRATCH/${project##*/}/hpc_outputs
  mkdir -p -- "$outputs"
}

# old_run ID JOB NODES TASKS [FACT=VALUE...]   Makes a run whose tasks have not started; sets run.
old_run() {
  local -r name=${1%%_*} job=$2 nodes=$3 tasks=$4
  local word
  local -i task
  run=$outputs/$1
  mkdir -p -- "$run" "$outputs/../$name/checkpoints"
  cat >"$run/facts" <<FACTS
fact[seed_base]='0'
fact[source_dir]='$run/source'
fact[gpus]='1'
fact[run_id]='$1'
fact[node_local_directory]='/var/tmp/pocket/localscratch'
fact[stamp]='$(cut -d _ -f 2 <<<"$1")'
fact[max_restarts]='50'
fact[broadcast]='auto'
fact[cluster]='pocket'
fact[cpus]='1'
fact[staging_days]='30'
fact[experiments]='$tasks'
fact[tasks]='$tasks'
fact[container]=''
fact[working_directory]='.'
fact[watch_log]=''
fact[grace_seconds]='120'
fact[exp_name]='$name'
fact[modules]=''
fact[time]='0-00:10:00'
fact[project_directory]='$project'
fact[interrupt]='ask'
fact[checkpoint_directory]='${outputs%/*}/$name/checkpoints'
fact[stage_image]=''
fact[offline]=''
fact[processes_per_node]='1'
fact[environment]='$project/.venv/cpu-7932bdcd0030'
fact[job_name]='$name'
fact[nodes]='$nodes'
fact[launcher]='torchrun'
fact[sweep_config]=''
fact[kill_wait]='10'
fact[repeats]=''
fact[run_directory]='$run'
fact[tasks_per_node]='1'
fact[sweep]=''
fact[data_format]='auto'
fact[mem_megabytes]='1024'
fact[array_size]='1000'
fact[stage_venv]=''
fact[project_name]='my project'
fact[site]='pocket'
fact[scratch_dir]='${outputs%/*}'
fact[staging_megabytes]='512000'
fact[commit]=''
fact[hang_seconds]='1800'
FACTS
  for word in "${@:5}"; do printf "fact[%s]='%s'\n" "${word%%=*}" "${word#*=}" >>"$run/facts"; done
  printf '%s\0' sbatch --parsable "--job-name=$name" "--nodes=$nodes" --ntasks-per-node=1 --cpus-per-task=1 --mem=1024M \
    --time=0-00:10:00 --gpus-per-node=1 --signal=B:USR1@120 --requeue "--chdir=$run" --open-mode=append >"$run/sbatch_argv"
  if ((tasks > 1)); then
    printf '%s\0' "--array=1-$tasks" '--output=task_%a/log.txt' >>"$run/sbatch_argv"
  else
    printf '%s\0' --output=task_1/log.txt >>"$run/sbatch_argv"
  fi
  printf '%s\0' "$project/hpc/batch.sh" "$run" >>"$run/sbatch_argv"
  printf '%s\n' "$job" | tee "$run/job_id" >"$outputs/../$name/.job"
  printf '%s\n' "$1" >>"$outputs/../$name/runs"
  : >"$run/source.tar"
  : >"$run/source.tar.ignored"
  for ((task = 1; task <= tasks; task++)); do
    mkdir -- "$run/task_$task"
    echo enqueued >"$run/task_$task/state"
    printf '%s\0' python prog.py "$name" >"$run/task_$task/command"
    printf '%s\ttask_%s\tpython prog.py %s\n' "$task" "$task" "$name" >>"$run/tasks"
  done
}

# old_attempt TASK JOB ATTEMPT NODES STATUS CAUSE STATE   Makes an attempt; standard input is its part of the log. CAUSE is empty while it
# runs.
old_attempt() {
  local -r task=$run/task_$1 job=$2 number=$3 nodes=$4 status=$5 cause=$6
  local -r folder=$task/attempt_$number
  local -r began=$((1795898247 + 20 * number))
  mkdir -p -- "$folder" "$task/output"
  echo "$nodes" >"$folder/nodes"
  echo "began $began" >"$folder/times"
  printf '== job %s, attempt %s, on %s, 2026-11-28 20:37:27 UTC\n' "$job" "$number" "$nodes" >>"$task/log.txt"
  printf '== attempt %s\n' "$number" | tee -a "$task/rank_1.txt" >>"$task/rank_0.txt"
  printf 'rank 0 of 2: node 0, node1 (198.19.67.1), local rank 0, 2 CPUs, GPUs 3\n' | tee -a "$task/log.txt" >>"$task/rank_0.txt"
  printf 'rank 1 of 2: node 1, node2 (198.19.67.2), local rank 0, 2 CPUs, GPUs 3\n' | tee -a "$task/log.txt" >>"$task/rank_1.txt"
  tee -a "$task/log.txt" "$task/rank_1.txt" >/dev/null
  printf 'time\tcpu_seconds\tmemory_bytes\tgpu_percent\tgpu_memory_mib\n%s.2\t0.13\t27963392\t\t\n%s.4\t2.00\t242503680\t\t\n' \
    "$began" "$((began + 9))" >"$folder/usage_node1.tsv"
  if [[ -n $cause ]]; then
    echo "ended $((began + 10))" >>"$folder/times"
    echo "$status" >"$task/exit_status"
    if [[ $status != 0 ]]; then
      echo "1 node2 $status" >"$folder/failed_rank"
      if [[ $status != 75 ]]; then echo "the first rank that failed: rank 1 on node2, exit status $status" >>"$task/log.txt"; fi
    fi
    printf '== job %s, attempt %s: exit status %s, %s\n' "$job" "$number" "$status" "$cause" >>"$task/log.txt"
    echo "$cause" >"$folder/cause"
  fi
  echo "$7" >"$task/state"
}

# results TASK
results() {
  printf '{"epoch": %s, "loss": %s}\n' 1 1.0 2 0.5 3 0.25 >"$run/task_$1/output/metrics.jsonl"
  echo '{"loss": 0.25, "validation_accuracy": 0.875}' >"$run/task_$1/output/result.json"
}

# failing TASK JOB
failing() {
  old_attempt "$1" "$2" 0 'node[1-2]' 1 'failed 1 1 node2' failed <<LOG
this is fail rank 1
Traceback (most recent call last):
  File "$run/source/prog.py", line 6, in <module>
    raise ValueError("a label of -1")
ValueError: a label of -1
LOG
}

# old_queue ID INDEX STATE REASON NAME   Adds a line of squeue for the last run.
old_queue() {
  printf '%s|%s|%s|%s|9:57|2026-11-28T20:37:51|%s|%s\n' "$1" "$2" "$3" "$4" "$5" "$run" >>"$STUB/queue"
}

old_runs() {
  old_run good_20261128-203709_24324 2 2 1
  printf 'this is good rank 1\nepoch 3/3: loss 0.25\n' | old_attempt 1 2 0 'node[1-2]' 0 finished completed
  results 1
  old_run fail_20261128-203709_24393 4 2 1
  failing 1 4
  old_run many_20261128-203726_25501 6 2 3
  printf 'this is good rank 1\n' | old_attempt 1 9 0 'node[1-2]' 0 finished completed
  failing 2 10
  printf 'this is good rank 1\n' | old_attempt 3 6 0 'node[1-2]' 0 finished completed
  results 1
  results 3
  old_run again_20261128-203727_25570 8 2 1
  printf 'this is again rank 1\n' | old_attempt 1 8 0 'node[1-2]' 75 'notice signal' paused
  : >"$run/task_1/attempt_0/stop"
  printf '%s\n' 'job 8: to be started again' 'slurmstepd-node1: error: *** JOB 8 ON node1 CANCELLED AT 2026-11-28T20:37:38 DUE TO JOB REQUEUE ***' \
    'job 8: told to end' >>"$run/task_1/log.txt"
  printf 'this is again rank 1\n' | old_attempt 1 8 1 'node[1-2]' 0 finished completed
  old_run stopped_20261128-203740_26000 14 2 1
  printf '%s\n' 'slurmstepd-node1: error: *** JOB 14 ON node1 CANCELLED AT 2026-11-28T20:42:40 ***' 'job 14: told to end' |
    old_attempt 1 14 0 'node[1-2]' 143 cancelled failed

  old_run snap_20261128-203751_27724 12 2 1
  printf 'epoch 2/20: loss 1.00\n' | old_attempt 1 12 0 'node[1-2]' '' '' running
  old_queue 12 N/A RUNNING None snap
  # --pack-in-job: the packing job, and the job that waits for it
  old_run pack_20261128-204022_29604 23 1 1
  printf 'd\0' >"$run/data"
  old_queue 22 N/A PENDING Dependency pack_pack
  old_queue 23 N/A PENDING Dependency pack
  # --rapid-cycle: the long job waits
  old_run cycles_20261128-204231_20116 30 1 1 cycles=2 cycle_time=0-00:06:40 cycle_grace=10 cycle_seconds=10
  old_attempt 1 29 0 node1 '' '' running </dev/null
  old_queue 30 N/A PENDING Dependency cycles
  old_queue 29 N/A RUNNING None cycle_cycles
  # two arrays, as the site takes two tasks in each
  old_run two_20261128-204322_32393 $'40\n41' 1 3 array_size=2
  sed -i 's/--array=1-3/--array=1-2/' "$run/sbatch_argv"
  sed 's/--array=1-2/--array=1/; s/--output=task/--output=offset_2\/task/; s/$/offset=2\x00/' "$run/sbatch_argv" >"$run/sbatch_argv_2"
  mkdir -- "$run/offset_2"
  ln -s ../task_3 "$run/offset_2/task_1"
  old_queue 40 1 RUNNING None two
  old_queue 40 2 PENDING Resources two
  old_queue 41 1 PENDING Resources two
}

# row NAME PATTERN   The table's row of NAME must match.
row() {
  if ! grep -qE "^[0-9,]+ +$1 +$2" <<<"$output"; then
    printf 'no row %s %s in:\n%s\n' "$1" "$2" "$output" >&2
    return 1
  fi
}

# contains TEXT...   The output of `run` must contain each TEXT.
contains() {
  local text
  for text in "$@"; do
    if [[ $output != *"$text"* ]]; then
      printf 'no %s in:\n%s\n' "$text" "$output" >&2
      return 1
    fi
  done
}

@test "list: runs of the old kit that have ended, run or wait" {
  old_runs
  run -0 --separate-stderr command_of list
  [[ -z $stderr && ${#lines[@]} == 10 ]]
  row good '2 +completed +1 .* validation_accuracy 0\.875'
  row fail '2 +failed +1 '
  row many '2 +1 failed, 2 completed|2 +2 completed, 1 failed'
  row again '2 +completed +2 '
  row stopped '2 +cancelled +1 '
  row snap '2 +running +1 +epoch 2/20'
  row pack '1 +enqueued +0 '
  row cycles '1 +running +1 '
  row two '1 +2 enqueued, 1 running|1 +1 running, 2 enqueued'
}

@test "why, logs and open for runs of the old kit" {
  old_runs
  run -0 command_of why 2
  contains 'job 2 (good)' finished
  run -0 command_of why 4
  contains 'job 4 (fail)' 'rank 1 on node2 raised ValueError: a label of -1' 'status 1' "task_1/rank_1.txt"
  run -0 command_of why 6_2
  contains 'job 6_2 (many, task 2)' 'rank 1 on node2 raised ValueError'
  run -0 command_of why 10 # Slurm's own number of 6_2
  contains 'job 6_2 (many, task 2)'
  run -0 command_of why again
  contains 'job 8 (again)' 'interrupted 1 time'
  run -0 command_of why 14
  contains 'job 14 (stopped)' cancelled
  run -0 command_of why 12
  contains 'job 12 (snap)' running
  run -0 command_of why 23
  contains 'job 23 (pack)'
  run -0 command_of why 41_1
  contains 'job 41_1 (two, task 3)'
  run -0 command_of logs 4 --rank 1
  contains '== attempt 0' 'ValueError: a label of -1'
  run -0 command_of logs 6_3
  contains '== job 6, attempt 0: exit status 0, finished'
  run -0 command_of open 41_1
  contains "$outputs/two_20261128-204322_32393/task_3"
}

@test "cancel: jobs of the old kit, by experiment, job, task and run directory" {
  old_runs
  run -0 command_of cancel snap 23 40_2 "$outputs/cycles_20261128-204231_20116" 41_1
  [[ $(<"$STUB/cancelled") == $'12\n'*23*$'\n40_2\n29 30\n41_1' ]]
  run -0 command_of cancel two
  [[ $(tail -n 1 "$STUB/cancelled") == '40 41' ]]
  run -0 command_of cancel 2
  contains 'has ended: nothing to cancel'
}

@test "report for an experiment of the old kit" {
  old_runs
  run -0 command_of report many
  contains 'task_2: failed' 'validation_accuracy'
  grep -qE '^ *loss +2 of [23] +0\.25 ' <<<"$output"
  run -0 command_of report --json 6
  [[ $(python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)))' <<<"$output") == *0.875* ]]
}
