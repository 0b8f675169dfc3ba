#!/usr/bin/env bats
# experiments.sh list, logs, open, cancel and resubmit, on run directories as jobs leave them, with a stub of Slurm.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  made_runs_setup
}

# shown NAME PATTERN   The row of this run must match.
shown() {
  local line
  for line in "${lines[@]}"; do
    if [[ $line == *" $1 "* && $line =~ $2 ]]; then return; fi
  done
  printf 'no row %s like %s in:\n%s\n' "$1" "$2" "$output" >&2
  return 1
}

@test "the table: newest first, states, attempts, progress, time, metrics, folder; one question to Slurm" {
  made_run well 1 1
  state 1 completed
  attempt 1 0 'notice request'
  attempt 1 1 finished
  printf '{"epoch": %s, "validation_accuracy": %s, "loss": 0.1}\n' 1 0.75 2 0.875 3 0.8125 >"$run/task_1/output/metrics.jsonl"
  echo '{"validation_accuracy": 0.8125, "world_size": 4}' >"$run/task_1/output/result.json"
  made_run going 2 1
  state 1 running
  attempt 1 0 '' 'epoch 3/20: loss 1'
  queued 2 N/A RUNNING None
  made_run waiting 3 1
  queued 3 N/A PENDING Priority
  made_run held 9 1
  queued 9 N/A PENDING 'launch failed requeued held'
  made_run special 10 1
  queued 10 N/A SPECIAL_EXIT 'job requeued in special exit state'
  made_run sheldon 11 1
  queued 11 N/A PENDING 'ReqNodeNotAvail, UnavailableNodes:sheldon1'
  made_run requeued 4 1
  state 1 running
  attempt 1 0 ''
  queued 4 N/A PENDING BeginTime
  made_run broken 5 1
  state 1 failed
  attempt 1 0 'failed 1 0 node1' 'step 5: loss 0.75' "$(printf '  File "train.py", in main\n%.0s' {1..300})"
  made_run stopped 6 1
  state 1 failed
  attempt 1 0 cancelled
  made_run never_began 7 1
  made_run lost 8 1
  state 1 running
  attempt 1 0 ''
  run -0 --separate-stderr command_of
  [[ -z $stderr ]]
  [[ ${lines[0]} == 'JOB '*'OUTPUT PATH' && ${lines[1]} == "8 "* && ${lines[11]} == *"$outputs/well_20260101-000001_1" ]]
  shown well '^1 +well +2 +completed +2 +epoch 3 +00:20:00 +validation_accuracy 0\.8125 \(best 0\.875\) '
  shown going ' running +1 +epoch 3/20 '
  shown waiting ' enqueued +0 +- +- +- '
  shown requeued ' paused '
  shown held ' enqueued, held +0 '
  shown special ' enqueued, held +0 '
  shown sheldon ' enqueued +0 '
  shown broken ' failed +1 +step 5 +00:10:00 +loss 0\.75 '
  shown stopped ' cancelled '
  shown never_began ' cancelled '
  shown lost ' failed '
  [[ $(wc -l <"$STUB/calls") == 1 ]]
}

@test "an array: its best task; printed losses count, too" {
  local task
  made_run sweep 20 3
  for task in 1 2 3; do state "$task" completed; done
  echo '{"accuracy": 0.5}' >"$run/task_1/output/result.json"
  printf '{"accuracy": %s}\n' 0.75 0.625 >"$run/task_2/output/metrics.jsonl"
  made_run printed 21 2
  for task in 1 2; do
    state "$task" completed
    attempt "$task" 0 finished "step 5: loss 0.$task"
  done
  run -0 command_of
  shown sweep ' 3 completed .* accuracy 0\.625 \(best 0\.75\), task 2 '
  shown printed ' 2 completed .* loss 0\.1, task 1 '
  run -0 command_of list --name sweep --json
  [[ $output == *'"best_task": 2'* ]]
}

@test "an array: only tasks that were submitted count; its second array has other numbers" {
  made_run many $'10\n11' 6
  printf '%s\0' sbatch --array=1-2 >"$run/sbatch_argv"
  printf '%s\0' sbatch --array=1,3 >"$run/sbatch_argv_3" # task 5 was done before
  state 1 completed
  state 2 running
  queued 10 2 RUNNING None
  queued 11 3 PENDING Resources
  run -0 command_of list --name man
  shown many '^10,11 +many +2 +1 enqueued, 1 running, 1 completed, 1 cancelled +0 +task 1/4 '
  run -0 command_of open 11_3
  [[ $output == *"$run/task_6"$'\n'* ]]
  run -1 command_of open 11_2
  [[ $output == *"neither a job, nor a run directory, nor an experiment"* ]]
}

@test "live jobs are found by their folder: a continuing job, cycles and a packing job, among others" {
  local number
  made_run many $'10\n11\n12' 6
  printf '%s\0' sbatch --array=1-3 >"$run/sbatch_argv"
  printf '%s\0' sbatch --array=1-3 >"$run/sbatch_argv_3"
  for number in 1 3 4 6; do state "$number" completed; done
  state 2 failed
  state 5 paused
  attempt 2 0 'failed 1 0 node1'
  attempt 5 0 'notice time_limit' 'batch.sh: job 11: job 12 continues it'
  queued 12 2 PENDING Dependency
  queued 99 N/A RUNNING None pack_
  queued 98 N/A RUNNING None other_
  run -0 command_of
  shown many ' 1 paused, 4 completed, 1 failed '
  run -0 command_of why 12_2
  [[ $output == 'job 12_2 (many, task 5): paused: '* ]]
  run -0 command_of why 11_2
  [[ $output == 'job 12_2 (many, task 5): paused: '* ]]
  run -0 command_of cancel 12_2
  run -0 command_of cancel many
  [[ $(<"$STUB/cancelled") == $'12_2\n12 99' ]]

  # It runs, and the lines about it are far from the log's end.
  : >"$STUB/queue"
  queued 12 2 RUNNING None
  state 5 running
  printf '== job 12, attempt 1, on node[1-2], now\n' >"$run/task_5/log.txt"
  head -c 3000000 /dev/zero | tr '\0' x | fold -w 99 >>"$run/task_5/log.txt"
  run -0 command_of why 12
  [[ $output == 'job 12_2 (many, task 5): running: '* ]]
}

@test "two arrays, each with its own cycles" {
  made_run long $'21\n23' 4 cycles=2
  printf '%s\0' sbatch --array=1-2 >"$run/sbatch_argv"
  printf '%s\0' sbatch --array=1-2 >"$run/sbatch_argv_2"
  queued 20 1 RUNNING None cycle_
  queued 21 1 PENDING Dependency
  queued 22 2 RUNNING None cycle_
  queued 23 2 PENDING Dependency
  run -0 command_of --name long
  shown long ' 2 running, 2 cancelled '
  run -0 command_of why 23_2
  [[ $output == 'job 23_2 (long, task 4): running: '* ]]
}

@test "a job whose id was not recorded, and a folder under another path" {
  made_run lost_id 7 1
  rm -- "$run/job_id"
  touch --date='2026-01-01' -- "$run"
  queued 7 N/A PENDING Priority
  run -0 command_of
  shown lost_id '^7 +lost_id +2 +enqueued '
  ln -s -- "$SCRATCH" "$BATS_TEST_TMPDIR/link"
  SCRATCH=$BATS_TEST_TMPDIR/link run -0 command_of
  shown lost_id '^7 +lost_id +2 +enqueued '
  sed -i "s|$run|/elsewhere/${run##*/}|" "$STUB/queue"
  run -0 command_of
  shown lost_id '^- +lost_id +2 +cancelled '
}

@test "a suspended job has its own state" {
  made_run asleep 1 1
  state 1 running
  attempt 1 0 ''
  queued 1 N/A SUSPENDED None
  made_run awake 2 1
  run -0 command_of list --state suspended
  shown asleep '^1 +asleep +2 +suspended +1 '
  ((${#lines[@]} == 2))
}

@test "a batch script that ended before its first attempt has failed; a job that was cancelled at its start has not" {
  made_run broken 1 1
  echo '/var/spool/slurm/job1/slurm_script: line 30: /run/facts: No such file or directory' >"$run/task_1/log.txt"
  made_run silent 2 1
  : >"$run/task_1/log.txt"
  made_run half_begun 3 1
  mkdir -- "$run/task_1/attempt_0"
  made_run stopped 4 1
  echo 'slurmstepd: error: *** JOB 4 ON node1 CANCELLED AT 2026-01-01T00:00:00 ***' >"$run/task_1/log.txt"
  made_run stopped_too 6 1
  echo '[2026-11-28T19:08:52.427] error: *** JOB 6 CANCELLED AT 2026-11-28T19:08:52 DUE to SIGNAL Terminated ***' >"$run/task_1/log.txt"
  made_run too_long_too 7 1
  echo '[2026-11-28T19:08:52.427] error: *** JOB 7 CANCELLED AT 2026-11-28T19:08:52 DUE TO TIME LIMIT ***' >"$run/task_1/log.txt"
  made_run too_long 5 1
  echo 'slurmstepd: error: *** JOB 5 ON node1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***' >"$run/task_1/log.txt"
  run -0 command_of
  shown broken ' failed +0 '
  shown silent ' failed +0 '
  shown half_begun ' failed +1 '
  shown stopped ' cancelled +0 '
  shown stopped_too ' cancelled +0 '
  shown too_long ' failed +0 '
  shown too_long_too ' failed +0 '
}

@test "facts that were written with LANG=C" {
  LC_ALL=C
  made_run münster 1 1
  unset LC_ALL
  grep -qF 'm\303\274nster' "$run/facts"
  mkdir -p -- "${outputs%/*}/münster/checkpoints/task_1"
  run -0 command_of
  shown münster cancelled
  run -0 command_of open münster
  [[ $output == *"  checkpoints ${outputs%/*}/münster/checkpoints/task_1"* && $output == *"sources       $run/source" ]]
  LC_ALL=C run -0 command_of open münster
  [[ $output == *"  checkpoints ${outputs%/*}/münster/checkpoints/task_1"* ]]
  : >"$run/source.tar" # of a run that has ended: the unpacked sources have gone
  LC_ALL=C run -0 command_of open münster
  [[ $output == *"sources       $run/source.tar" ]]
}

@test "a reader that closes the pipe ends it without a message" {
  local way into name
  local -a words
  made_run one 1 1
  mkfifo -- "$BATS_TEST_TMPDIR/pipe"
  exec {way}<>"$BATS_TEST_TMPDIR/pipe"
  exec {into}>"$BATS_TEST_TMPDIR/pipe"
  exec {way}<&-
  for name in '' 'why one' 'open one' 'report one'; do
    IFS=' ' read -ra words <<<"$name"
    command_of "${words[@]}" 1>&"$into" 2>"$BATS_TEST_TMPDIR/said" || true
    printf '%s: %s\n' "$name" "$(<"$BATS_TEST_TMPDIR/said")"
    [[ ! -s $BATS_TEST_TMPDIR/said ]]
  done
}

@test "a cycle's job runs while the long job waits" {
  made_run cycles 4 1 cycles=5
  state 1 paused
  queued 4 N/A PENDING Dependency
  queued 3 N/A RUNNING None cycle_
  run -0 command_of
  shown cycles ' paused '
}

@test "--name, --state, --last, --json" {
  local name
  for name in apple apricot pear; do made_run "$name" "$((made + 1))" 1; done
  state 1 completed
  run -0 command_of list --name 'ap*'
  ((${#lines[@]} == 3))
  run -0 command_of --state completed
  [[ ${#lines[@]} == 2 && ${lines[1]} == *pear* ]]
  run -0 command_of --last 1 --json
  [[ $(python3 -c 'import json, sys; [run] = json.load(sys.stdin); print(run["name"], run["state"], run["nodes"], run["output_path"])' <<<"$output") == "pear completed 2 $run" ]]
  run -2 command_of list --state lost
  [[ $output == *"invalid choice: 'lost'"* ]]
}

@test "without Slurm the files give the states, and the table says so" {
  made_run going 2 1
  state 1 running
  made_run waiting 3 1
  rm -- "$STUB/queue"
  run -0 --separate-stderr command_of
  shown going ' running '
  shown waiting ' enqueued '
  [[ $stderr == 'Slurm does not answer (slurm_load_jobs error: no controller): this is what the runs'* ]]
  PATH=${PATH#*:} run -0 --separate-stderr command_of
  [[ $stderr == 'Slurm does not answer ('* ]]
}

@test "truncated files and files with nonsense do no harm" {
  made_run odd 1 1 exp_name=$'two\nlines and \'quotes\''
  state 1 completed
  printf '{"loss": 1.5}\n{"loss": NaN}\nnull\n[1]\n{"loss": 1' >"$run/task_1/output/metrics.jsonl"
  printf '\377\376' >"$run/task_1/output/result.json"
  mkdir -- "$outputs/x_20260101-000000_1"
  touch -- "$outputs/.lock" "$outputs/x.partial"
  run -0 --separate-stderr command_of --json
  [[ -z $stderr ]]
  [[ $(python3 -c 'import json, sys; [run] = json.load(sys.stdin); print([run["name"], run["last"]])' <<<"$output") == *"two\\nlines and 'quotes'"*'1.5]' ]]
}

@test "SCRATCH from the project's .env, and from the site's profile" {
  made_run one 1 1
  printf 'SCRATCH=%q\n' "$SCRATCH" >"$project/.env"
  unset SCRATCH
  run -0 command_of
  shown one cancelled
  mv -- "$project/.env" "$BATS_TEST_TMPDIR/profile"
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf "site[scratch]='%s'\n" "$BATS_TEST_TMPDIR/scratch" >"$XDG_CONFIG_HOME/hpc_kit/clusters/mine.sh"
  HPC_CLUSTER=mine run -0 command_of
  shown one cancelled
  fails_with 1 'SCRATCH is not set' command_of
  run -0 command_of why "$run"
}

@test "logs: of all, a rank, a node; of one task of an array" {
  made_run one 5 1
  state 1 failed
  attempt 1 0 'failed 1 1 node2' 'all of it'
  failed_rank 1 0 1 node2 1 'of one'
  failed_rank 1 0 0 node1 1 'of zero'
  run -0 command_of logs 5
  [[ $output == *'all of it' ]]
  run -0 command_of logs one --rank 1
  [[ $output == *'of one' && $output != *zero* ]]
  run -0 command_of logs "$run" --node node1
  [[ $output == *'of zero' && $output != *'of one'* ]]
  run -0 command_of logs "$run/task_1" --follow
  [[ $output == *'all of it' ]]
  run -1 command_of logs one --rank 7
  [[ $output == *"no log of rank 7 in $run/task_1: it is failed"* ]]
  made_run two 6 2
  run -1 command_of logs two
  [[ $output == *'has 2 tasks: say which by --task N'* ]]
}

@test "cancel: jobs, a task of an array, the newest run of a name" {
  made_run one 5 1
  queued 5 N/A RUNNING None
  made_run many 6 3
  queued 6 1 RUNNING None
  queued 6 2 PENDING Priority
  run -0 command_of cancel one 6_2
  [[ $(<"$STUB/cancelled") == $'5\n6_2' ]]
  rm -- "$STUB/cancelled"
  run -0 command_of cancel many
  [[ $(<"$STUB/cancelled") == 6 ]]
  : >"$STUB/queue"
  run -0 command_of cancel one
  [[ $output == *'has ended: nothing to cancel'* ]]
  run -1 command_of cancel none
  rm -- "$STUB/queue"
  run -1 command_of cancel one
  [[ $output == *'nothing was cancelled' ]]
}

@test "resubmit --mem where memory is requested per CPU" {
  stub_slurm
  printf '#!/bin/sh\n' >"$stub/squeue"
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  echo 'site[memory_request]=mem_per_cpu' >"$XDG_CONFIG_HOME/hpc_kit/clusters/stub.sh"
  submitter --gpus 0 --cpus 4 --mem 1G --exp-name again 2>/dev/null
  [[ $(tr '\0' '\n' <"$RECORD") == *'--mem-per-cpu=256M'* ]]
  : >"$RECORD"
  run -0 --separate-stderr command_of resubmit "$(echo "$outputs"/again_*)" --mem 3G
  [[ $(tr '\0' '\n' <"$RECORD" | grep '^--mem') == --mem-per-cpu=768M ]]
}

@test "resubmit: the same content in a new folder, with the requested changes" {
  local new
  stub_slurm
  printf '#!/bin/sh\n' >"$stub/squeue"
  experiments 'true {seed}'
  submitter --gpus 0 --exp-name again --repeat 3 --dependency afterok:1 --begin now+1hour 2>/dev/null
  run=$(echo "$outputs"/again_*)
  : >"$RECORD"
  run -0 --separate-stderr command_of resubmit "$run" --mem 3G --time 2:00:00
  [[ $output == 4711 && $stderr == *"as ${run##*/}; "* ]]
  new=${stderr##*; }
  [[ $new != "$run" && $(<"$new/job_id") == 4711 && $(<"$new/task_3/state") == enqueued ]]
  cmp "$new/source.tar" "$run/source.tar"
  cmp "$new/task_2/command" "$run/task_2/command"
  cmp "$new/task_2/environment" "$run/task_2/environment"
  cmp <(tr '\0' '\n' <"$RECORD") <(tr '\0' '\n' <"$run/sbatch_argv" | grep -v -e '^--dependency=' -e '^--begin=' |
    sed -E -e "s|^--time=.*|--time=0-02:00:00|" -e "s|^--mem=.*|--mem=3072M|" | python3 -c 'import sys; sys.stdout.write(sys.stdin.read().replace(*sys.argv[1:]))' "$run" "$new")
  cmp "$new/sbatch_argv" "$RECORD"
  # shellcheck source=/dev/null
  (declare -A fact && source "$new/facts" && [[ ${fact[source_dir]} == "$new/source" && ${fact[exp_name]} == again && ${fact[mem_megabytes]} == 3072 ]])
  [[ $(tail -n 1 "${outputs%/*}/again/runs") == "${new##*/}" ]]

  : >"$RECORD"
  run -0 command_of resubmit 4711_2
  grep -zqx -- --array=2 "$RECORD"
  fails_with 2 "takes one job" command_of resubmit one two
  fails_with 2 "is not an amount of memory" command_of resubmit one --mem much
  run -1 command_of resubmit nothing
}

@test "why prints the whole command to submit a run again: its name, its options, its checkpoints" {
  stub_slurm
  printf '#!/bin/sh\n' >"$stub/squeue"
  fails() { # RUN
    echo 'failed 1 0 node1' >"$1/task_1/attempt_0/cause"
    echo 'ValueError: x' >"$1/task_1/log.txt"
    echo failed >"$1/task_1/state"
  }
  cd -- "$project"
  mkdir -p -- "${outputs%/*}"/{d,e}
  HPC_TIME=10 submitter --gpus 2 --num-nodes 2 -C experiment_configurations.txt --data d e --sbatch-arg=--nice --begin now+1hour --offline --pack-in-job 2>/dev/null
  run=$(echo "$outputs"/*_2*)
  mkdir -- "$run/task_1/attempt_0"
  fails "$run"
  run -0 --separate-stderr command_of why "$run"
  [[ $output == *$'\nto do: mend the program, then submit again\nto submit again: bash hpc/job_submitter.sh --exp-name '* ]]
  # The shell reads the same words.
  local -a words=() expected=(bash hpc/job_submitter.sh --exp-name "${run##*/}" --resume --gpus 2 --num-nodes 2 --time 10
    --configs "$project/experiment_configurations.txt" --offline --data d --data e --pack-in-job --sbatch-arg=--nice)
  mapfile -d '' words < <(xargs printf '%s\0' <<<"${output##*to submit again: }")
  diff <(printf '%s\n' "${expected[@]}") <(printf '%s\n' "${words[@]}")
  : >"$RECORD"
  run -0 --separate-stderr "${words[@]}"
  [[ -n $(find "$outputs" -maxdepth 1 -name "${run##*/}_*") ]]
  # A run that was submitted again with another time; an array; a run of an older kit.
  run -0 --separate-stderr command_of resubmit "$run" --time 20 --mem 5G
  mkdir -p -- "${stderr##*; }/task_1/attempt_0"
  fails "${stderr##*; }"
  run -0 --separate-stderr command_of why "${stderr##*; }"
  [[ $output == *' --resume --gpus 2 --num-nodes 2 --configs '*' --sbatch-arg=--nice --mem 5G --time 20' ]]
  sed -i "s/^fact\[tasks\]=.*/fact[tasks]='2'/" "$run/facts"
  rm -- "$run/options"
  run -0 --separate-stderr command_of why "$run" --task 1
  [[ $output == *' --only-missing  and the options of the run' ]]
}

@test "wrong arguments" {
  fails_with 2 "unknown command 'lst'" command_of lst
  run -0 command_of --help
  [[ $output == *'experiments.sh why JOB'* ]]
  run -2 command_of logs
  run -2 command_of list --last many
}

@test "if python3 is older than 3.9 or missing, the environment's is used; without one a message says what to do" {
  local -r old=$BATS_TEST_TMPDIR/old
  made_run well 1 1
  state 1 completed
  mkdir -p -- "$old"
  printf '#!/bin/sh\nexit 1\n' >"$old/python3" # as an old one answers when it is asked for its version
  chmod +x -- "$old/python3"
  rm -- "$project/.venv"
  mkdir -- "$project/.venv"
  PATH=$old:$PATH fails_with 1 'error: no python3 of 3\.9 or later, neither on this machine nor in an environment' command_of list
  PATH=$(path_without python3) fails_with 1 'error: no python3 of 3\.9 or later' command_of why well

  local environment
  use_libraries common environment
  environment=$(environment::path "$project" cpu)
  mkdir -p -- "$environment/bin"
  ln -s -- "$(type -P python3)" "$environment/bin/python"
  PATH=$old:$PATH run -0 command_of list
  shown well completed
  PATH=$(path_without python3) run -0 command_of list
  shown well completed
}

@test "stop creates the stop file of running jobs, for good; it says which jobs wait or have ended; open shows the file" {
  made_run going 2 1 keep_folders=out,runs/x/
  state 1 running
  attempt 1 0 preempted
  attempt 1 1 ''
  queued 2 N/A RUNNING None
  local -r stop=$run/task_1/attempt_1/stop
  run -0 --separate-stderr command_of open going
  [[ $output == *"  STOP_FILE   $stop"*"kept          ${outputs%/*}/going/checkpoints/out"$'\n'"kept          "*"/checkpoints/runs/x"* ]]
  made_run waiting 3 1
  queued 3 N/A PENDING Priority
  made_run over 4 1
  state 1 completed
  attempt 1 0 finished
  run -0 --separate-stderr command_of stop 2 waiting over
  [[ -s $stop && ! -e ${stop%_1/stop}_0/stop && -z $output ]]
  [[ $stderr == "2: task 1 is asked to save and stop, by $stop"*'is not started again; to go on from there:  bash hpc/experiments.sh resubmit 2'* ]]
  [[ $stderr == *'waiting: waits in the queue, and nothing runs that could save: end it by  cancel waiting'*'over: has ended: nothing to stop' ]]
  # When it has saved, the user has ended it, and nothing has failed.
  echo 'notice request' >"${stop%/stop}/cause"
  made=0
  echo failed >"$outputs/going_20260101-000001_1/task_1/state"
  : >"$STUB/queue"
  run -0 --separate-stderr command_of list --name going
  [[ $output == *' stopped '* ]]
  run -0 --separate-stderr command_of why 2
  [[ $output == *'stopped: it has saved and stopped, as experiments.sh stop asked'*'experiments.sh resubmit 2'* ]]
  : >"$stop"
  run -0 --separate-stderr command_of list --name going
  [[ $output == *' failed '* ]]
  fails_with 1 'is neither a job' command_of stop 99
}

@test "a task that was stopped for good is not restarted" {
  use_libraries common slurm restart
  interruption::id() { echo 1; }
  printf '#!/bin/sh\necho JobState=RUNNING\n' >"$STUB/scontrol"
  declare -A fact=([max_restarts]=5)
  made_run going 2 1
  export ATTEMPT=0 SLURM_JOB_ID=2
  attempt 1 0 'notice request'
  : >"$run/task_1/attempt_0/stop"
  restart::is_due "$run/task_1" 'notice request'
  echo 'for good' >"$run/task_1/attempt_0/stop"
  run -1 restart::is_due "$run/task_1" 'notice request'
  [[ $output == *'not started again, as it was stopped by'* ]]
}

@test "without SCRATCH, the profile for Slurm's name of this cluster says where the runs are" {
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config SITES_WORK=$SCRATCH
  made_run well 1 1
  state 1 completed
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf "site[scratch]='\$SITES_WORK'\n" >"$XDG_CONFIG_HOME/hpc_kit/clusters/harbour.sh"
  printf 'ClusterName             = harbour\n' >"$STUB/job"
  printf '#!/bin/sh\n' >"$STUB/sbatch"
  chmod +x -- "$STUB/sbatch"
  unset SCRATCH
  run -0 command_of list
  shown well completed
  # Slurm is not asked if the place is known.
  SCRATCH=$SITES_WORK run -0 command_of list
  : >"$STUB/job"
  fails_with 1 'SCRATCH is not set' command_of list
}

@test "a reader that has ended causes no traceback" {
  local word
  local -a words
  made_run one 1 1
  state 1 failed
  attempt 1 0 'failed 1 - -'
  for word in list 'why one' 'report one'; do
    read -ra words <<<"$word"
    command_of "${words[@]}" 2>"$BATS_TEST_TMPDIR/errors" | true
    [[ ! -s $BATS_TEST_TMPDIR/errors ]] || { cat -- "$BATS_TEST_TMPDIR/errors" >&2 && return 1; }
  done
}
