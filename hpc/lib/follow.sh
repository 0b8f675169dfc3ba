# shellcheck shell=bash
# Shows the logs of jobs while they run, and returns their exit status. With several tasks, it returns the first status that is
# not 0.

# follow::jobs RUN_DIRECTORY TASKS JOB...   TASKS tasks were submitted. Their files show what they do. The controller is asked from time
# to time whether the jobs still exist (every minute in the long run), and at once when all the files say that they have ended.
follow::jobs() {
  local -r run_directory=$1 tasks=$2
  local -a jobs=("${@:3}") now=()
  local job states='' files shown='' log never
  local -i next=$((SECONDS + 2)) pause=15 over
  local ending=''
  local -A reader=() # log -> process
  trap follow::leave INT TERM
  if sending::was_interrupted; then follow::leave; fi
  exec {never}<> <(:)
  while :; do
    follow::read_states files over "$run_directory"
    if [[ $files != "$shown" ]]; then
      common::note "job ${jobs[*]}: $(follow::summary "$files")"
      shown=$files
    fi
    for log in "$run_directory"/task_*/log.txt; do
      if [[ -e $log && -z ${reader[$log]:-} ]]; then
        tail --follow --lines=+1 --sleep-interval=0.2 --pid="$$" -- "$log" >&2 & # it also ends if this shell is killed
        reader[$log]=$!
      fi
    done
    if ((over < tasks)); then
      ending=''
    elif [[ -z $ending ]]; then
      ending=1 pause=1 next=$((SECONDS + 1))
    fi
    if ((SECONDS >= next)); then
      states=$(for job in "${jobs[@]}"; do follow::states "$job"; done)
      if ! follow::is_live "$states"; then
        # Where a site forbids requeueing, another job continues this one (restart.sh).
        mapfile -t now <"$run_directory/job_id"
        if [[ ${now[*]} == "${jobs[*]}" ]]; then break; fi
        jobs=("${now[@]}")
      fi
      next=$((SECONDS + pause))
      pause=$((pause < 30 ? 2 * pause : 60))
    fi
    follow::pause "$never"
  done
  follow::pause "$never" # so that the readers show the last lines
  exec {never}>&-
  follow::stop_readers
  trap - INT TERM
  follow::exit_status "${jobs[*]}" "$run_directory" "$states"
}

follow::leave() {
  follow::stop_readers
  common::note "job ${jobs[*]} goes on; see $run_directory"
  exit 130
}

# follow::pause DESCRIPTOR   Waits half a second at a pipe that stays empty. Neither this nor follow::read_states starts a process: bash
# may lose the signal of Ctrl-C in the moment in which it starts one.
follow::pause() {
  read -r -t 0.5 -u "$1" || true
}

# follow::read_states STATES OVER RUN_DIRECTORY   Sets STATES to the states of the tasks, one per line, and OVER to the number of tasks
# that have ended.
follow::read_states() {
  local -n read_states=$1 read_over=$2
  local read_file read_state
  read_states='' read_over=0
  for read_file in "$3"/task_*/state; do
    read -r read_state 2>/dev/null <"$read_file" || continue # it is just being written
    if [[ $read_state == enqueued ]]; then read_state=pending; fi
    if [[ $read_state == @(completed|failed) ]]; then read_over+=1; fi
    read_states+=$read_state$'\n'
  done
  read_states=${read_states%$'\n'}
}

follow::stop_readers() {
  local process
  for process in "${reader[@]}"; do
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  reader=()
}

# follow::states JOB   Prints "STATE EXIT:SIGNAL" for each task, one per line; nothing if Slurm no longer knows the job. Retries for ten
# minutes if the controller does not answer.
follow::states() {
  local answer line status=0
  slurm::ask answer 600 scontrol --oneliner show job "$1" || status=$?
  ((status != 2)) || common::die "Slurm does not answer ($answer): job $1 may still run, but its log is no longer shown"
  if ((status != 0)); then return; fi
  while IFS= read -r line; do
    if [[ $line =~ \ JobState=([A-Z_]+)\ .*\ ExitCode=([0-9]+:[0-9]+)\  ]]; then
      printf '%s %s\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    fi
  done <<<"$answer"
}

# The final states are listed in man squeue; a job in any other state goes on.
follow::is_live() {
  local state
  while read -r state _; do
    case $state in
      '' | BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | REVOKED | TIMEOUT) ;;
      PREEMPTED) ;; # a requeued job is PENDING again at once
      *) return 0 ;;
    esac
  done <<<"$1"
  return 1
}

# Prints "running", or for an array "3 completed, 1 running".
follow::summary() {
  local state summary=''
  local -A number=()
  while read -r state _; do
    state=${state,,}
    number[${state:-unknown}]=$((${number[${state:-unknown}]:-0} + 1))
  done <<<"$1"
  for state in "${!number[@]}"; do
    summary+="${summary:+, }$( ((${#number[@]} == 1 && number[$state] == 1)) || printf '%s ' "${number[$state]}")$state"
  done
  printf '%s\n' "$summary"
}

# follow::exit_status JOBS RUN_DIRECTORY STATES   If another job continues a task, Slurm has only the status 75 of the first job.
follow::exit_status() {
  local -r job=$1 run_directory=$2 states=$3
  local state code signal
  if [[ -z $states ]]; then # Slurm has forgotten the job: use what the batch script recorded
    code=$(cat -- "$run_directory"/task_*/exit_status 2>/dev/null | sort -n | tail -n 1)
    return "${code:-1}"
  fi
  while IFS=' :' read -r state code signal; do
    if [[ $state == COMPLETED ]] || { [[ $state == FAILED ]] && ((code == 75)); }; then continue; fi
    common::note "job $job ended: ${state,,}, exit status $code$( ((signal == 0)) || printf ', signal %s' "$signal")"
    if ((code > 0)); then return "$code"; fi
    if ((signal > 0)); then return $((128 + signal)); fi
    return 1
  done <<<"$states"
  # Some tasks of the array may not have been submitted (--only-missing).
  if grep -qxE 'running|paused|failed' -- "$run_directory"/task_*/state; then return 75; fi
}
