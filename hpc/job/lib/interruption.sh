# shellcheck shell=bash
# batch.sh's side of the interruption protocol: each attempt of a task ends for a cause that is written down,
# and one that was interrupted and can go on is started again, under the same job id.
#
#   attempt_K/stop    STOP_FILE: who makes it asks the program to save and to end with status 75
#   attempt_K/times   lines `began EPOCH` and `ended EPOCH`, the last where the batch script could write it
#   attempt_K/cause   how the attempt ended: one of
#       finished
#       notice time_limit|signal|request|cycle   the program saved, and shall go on: Slurm's warning, a signal, a
#                                                stop file, the end of a cycle (--rapid-cycle)
#       preempted | cancelled | time_limit | node_failed | hung | deaf
#       out_of_memory | failed STATUS RANK NODE
#   state             of the task, as system 000 named them: enqueued, running, paused, completed, failed
#
# Only status 75 (EX_TEMPFAIL), a hang, and what Slurm itself restarts begin again, within --max-restarts; with
# --interrupt kill any end that comes of the warning or of the end of a cycle is taken for a 75. Needs
# common.sh, site.sh, bad_nodes.sh, node_environment.sh and run_directory.sh.

declare -gA fact
declare -ga node_environment_names

readonly interruption_again=75

# interruption::begin TASK_DIRECTORY   Sets ATTEMPT and attempt_directory, and says how the attempt before ended
# when it could not do so itself.
interruption::begin() {
  local -r task_directory=$1
  local before
  ATTEMPT=${SLURM_RESTART_COUNT:-0}
  # A job that continues another begins to count anew.
  while [[ -d $task_directory/attempt_$ATTEMPT ]]; do ATTEMPT=$((ATTEMPT + 1)); done
  export ATTEMPT
  attempt_directory=$task_directory/attempt_$ATTEMPT
  mkdir -p -- "$attempt_directory" "$task_directory/output"
  printf '%s\n' "$SLURM_JOB_NODELIST" >"$attempt_directory/nodes"
  printf 'began %s\n' "$EPOCHSECONDS" >"$attempt_directory/times"
  interruption::set_state "$task_directory" running
  before=$task_directory/attempt_$((ATTEMPT - 1))
  if [[ ! -d $before ]]; then return; fi
  if [[ ! -e $before/cause ]]; then
    interruption::record "$before" node_failed
    interruption::blame_dead_node "$before"
  elif [[ $(<"$before/cause") == cancelled ]]; then
    interruption::record "$before" preempted # what a user cancels does not come back
  fi
}

# Of several nodes only one that is down still can be told.
interruption::blame_dead_node() {
  local -r before=$1
  local nodes node state
  nodes=$(cat -- "$before/nodes" 2>/dev/null) || return 0
  while IFS='|' read -r node state; do
    if [[ $state == *[*] || $state == @(down|drain|fail|reboot|error|unk)* || $nodes == "$node" ]]; then
      bad_nodes::record "${fact[cluster]}" "$node" "$SLURM_JOB_ID" node_failed
    fi
  done < <(timeout 20 sinfo --noheader --Node --nodes="$nodes" --format='%N|%T' 2>/dev/null | sort -u)
}

# interruption::blame_node CAUSE   For failures that the program's own code does not explain.
interruption::blame_node() {
  local kind status node
  read -r kind status _ node <<<"$1"
  if [[ $kind == hung ]] && ((fact[nodes] == 1)); then
    bad_nodes::record "${fact[cluster]}" "$SLURM_JOB_NODELIST" "$SLURM_JOB_ID" hung
  elif [[ $kind == failed && $node != - ]]; then
    # 135: SIGBUS. The rest is what CUDA and the kernel say of broken hardware and lost file systems.
    if ((status == 135)) || interruption::log |
      grep -qE 'uncorrectable ECC|fallen off the bus|CUDA error: (unknown error|all CUDA-capable devices are busy|hardware)|Stale file handle|Input/output error'; then
      bad_nodes::record "${fact[cluster]}" "$node" "$SLURM_JOB_ID" "$1"
    fi
  fi
}

# interruption::record ATTEMPT_DIRECTORY CAUSE...   When an attempt before has ended, nobody knows.
interruption::record() {
  if [[ $1 == "$attempt_directory" ]]; then printf 'ended %s\n' "$EPOCHSECONDS" >>"$1/times" || true; fi
  printf '%s\n' "${*:2}" | common::write_atomically "$1/cause"
}

interruption::set_state() {
  printf '%s\n' "$2" | common::write_atomically "$1/state"
}

# interruption::state_after CAUSE   Of an attempt that this script does not start again: Slurm may.
interruption::state_after() {
  case $1 in
    finished) echo completed ;;
    preempted | node_failed | 'notice cycle') echo paused ;;
    *) echo failed ;;
  esac
}

# interruption::ask   Makes the stop file: the program ends with status 75 at its next step.
interruption::ask() {
  : >>"$attempt_directory/stop"
}

# interruption::watch PROCESS   Tells PROCESS by USR2 when the ranks have made no progress for --hang-minutes. The
# heartbeat counts from its first beat: nobody knows how long a start may take.
interruption::watch() {
  local -r process=$1
  local beat
  while sleep "$((fact[hang_seconds] < 50 ? 1 : 10))"; do
    if ! beat=$(stat --format=%Y -- "$attempt_directory/heartbeat" 2>/dev/null); then
      if [[ -z ${fact[watch_log]} ]]; then continue; fi
      beat=$(stat --format=%Y -- "${attempt_directory%/*}/log.txt")
    fi
    if ((EPOCHSECONDS - beat > fact[hang_seconds])); then
      kill -s USR2 "$process"
      return
    fi
  done
}

# interruption::signal_ranks SIGNAL   ABRT shows the stack of each rank that is a Python program: faulthandler prints them
# (node_environment.sh). Only ranks are in the step of this name.
interruption::signal_ranks() {
  local id name
  while read -r id name; do
    if [[ $name == ranks ]]; then timeout 20 scancel --signal="$1" "$id" || true; fi
  done < <(timeout 20 squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='%i %j')
}

# interruption::cause STATUS ENDING   Prints the cause. ENDING: what batch.sh was told, if anything: warned,
# told_to_end, hung, cycle, deaf.
interruption::cause() {
  local -r status=$1 ending=$2
  local shown rank=- node=-
  shown=$(interruption::job)
  if ((status == 0)); then
    echo finished
  elif [[ $ending == @(hung|deaf) ]]; then
    printf '%s\n' "$ending"
  elif [[ $shown == *' PreemptTime='[0-9]* ]]; then
    echo preempted
  elif [[ $shown != *' JobState=RUNNING '* ]]; then
    interruption::cause_of_slurm "$shown"
  elif ((status == interruption_again)) || [[ ${fact[interrupt]} == kill && $ending == @(warned|cycle) ]]; then
    if [[ $ending == warned ]]; then
      echo notice time_limit
    elif [[ $ending == cycle ]]; then
      echo notice cycle
    elif [[ -e $attempt_directory/stop ]]; then
      echo notice request
    else
      echo notice signal
    fi
  elif interruption::log | grep -qE 'oom.kill|Out Of Memory|Exceeded job memory limit|exceeded memory limit'; then
    echo out_of_memory # Slurm tells it in two ways: of cgroups, and of its own accounting
  else
    if [[ -r $attempt_directory/failed_rank ]]; then read -r rank node _ <"$attempt_directory/failed_rank"; fi
    echo "failed $status $rank $node"
  fi
}

# Why Slurm ends a job stands in its log, in words that have not changed for many versions.
interruption::cause_of_slurm() {
  if [[ $1 == *' Reason=TimeLimit '* ]]; then
    echo time_limit
  elif interruption::log | grep -qE '\*\*\* JOB .* DUE TO (PREEMPTION|JOB REQUEUE)'; then
    echo preempted
  elif interruption::log | grep -q '\*\*\* JOB .* DUE TO NODE FAILURE'; then
    echo node_failed
  else
    echo cancelled
  fi
}

# This attempt's part of the log.
interruption::log() {
  sed -n "/^== job [0-9]*, attempt $ATTEMPT,/,\$p" "${attempt_directory%/*}/log.txt"
}

# What Slurm shows of the job, between blanks.
interruption::job() {
  printf ' %s ' "$(timeout 20 scontrol --oneliner show job "$(interruption::id)" 2>/dev/null)"
}

# Of a task of an array by its number: the job id of one of the tasks is also that of them all.
interruption::id() {
  local -r task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
  printf '%s\n' "${task:-$SLURM_JOB_ID}"
}

# interruption::shall_restart CAUSE   Slurm itself restarts what it preempts, unless it was told to cancel it.
interruption::shall_restart() {
  case $1 in
    notice* | hung | preempted) ;;
    *) return 1 ;;
  esac
  # A job that is ending has been taken out of our hands.
  [[ $(interruption::job) == *' JobState=RUNNING '* ]] || return 1
  # What --rapid-cycle interrupted was no restart.
  local -r restarts=$((ATTEMPT - $(cat -- "${attempt_directory%/*}"/attempt_*/cause | grep -cx 'notice cycle' || true)))
  if ((restarts >= fact[max_restarts])); then
    common::note "job $SLURM_JOB_ID: not started again: it was $restarts times, and --max-restarts is ${fact[max_restarts]}"
    return 1
  fi
}

# interruption::restart RUN_DIRECTORY OFFSET   Under the same id; where the site forbids that, as a new job that continues this one.
interruption::restart() {
  local answer
  common::note "job $SLURM_JOB_ID: to be started again"
  if answer=$(timeout 60 scontrol requeue "$(interruption::id)" 2>&1); then
    # Slurm ends this script; not by a failure, until then.
    sleep 60 &
    wait "$!" || true
  elif interruption::is_taken; then
    return # Slurm, which ends all that this script runs, has ended scontrol before its answer
  else
    common::note "scontrol requeue: ${answer##*$'\n'}"
    interruption::continue_in_new_job "$@"
  fi
}

# interruption::is_taken   Slurm has the job in hand: it runs no more, or is about to end.
interruption::is_taken() {
  local shown
  shown=$(interruption::job)
  [[ $shown == *' JobState='* && $shown != *' JobState=RUNNING '* ]]
}

interruption::continue_in_new_job() {
  local -r run_directory=$1 offset=$2
  local -a argv=() words=()
  local word answer
  mapfile -d '' words <"$run_directory/sbatch_argv$( ((offset == 0)) || echo "_$offset")"
  for word in "${words[@]}"; do
    case $word in
      --dependency=* | --begin=*) continue ;;
      --array=*) word=--array=$SLURM_ARRAY_TASK_ID ;;
    esac
    argv+=("$word")
    if [[ $word == sbatch ]]; then argv+=(--dependency="afterany:$SLURM_JOB_ID"); fi
  done
  if answer=$(
    site::leave_enclosing_job
    unset "${node_environment_names[@]}"
    timeout 120 "${argv[@]}" 2>&1
  ); then
    answer=${answer##*$'\n'}
    answer=${answer%%;*}
    common::note "job $SLURM_JOB_ID: job $answer continues it"
    if ((fact[tasks] == 1)); then
      printf '%s\n' "$answer" | common::write_atomically "$run_directory/job_id"
      printf '%s\n' "$answer" >"${fact[checkpoint_directory]%/*}/.job"
    fi
  else
    common::warn "it cannot be continued: ${answer##*$'\n'}; submit again with --resume"
    return 1
  fi
}
