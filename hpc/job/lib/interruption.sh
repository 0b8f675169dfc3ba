# shellcheck shell=bash
# batch.sh's side of the interruption protocol. Each attempt of a task ends with a recorded cause (restart.sh decides whether
# the task restarts).
#
#   attempt_K/stop    STOP_FILE: asks the program to save and to exit with status 75; if it has content, the job does not restart
#   attempt_K/times   lines `began EPOCH` and `ended EPOCH`; the second is missing if the batch script could not write it
#   attempt_K/cause   how the attempt ended: one of
#       finished
#       notice time_limit|signal|request|cycle   the program saved, and continues later: after Slurm's warning, a signal, a
#                                                stop file, or the end of a cycle (--rapid-cycle)
#       preempted | cancelled | time_limit | node_failed | hung
#       ignored_stop      the program ignored STOP_FILE and was killed at the end of a cycle
#       out_of_memory | failed STATUS RANK NODE
#   attempt_K/doubt   Slurm did not answer: the cause is what the batch script saw itself
#   state             of the task: enqueued, running, paused, completed, failed
#
# With --interrupt kill, any end after the warning or after the end of a cycle counts as status 75 (EX_TEMPFAIL).

declare -gA fact+=()
declare -g interruption_not_finished=75 # the program has saved, and a restart continues it; NOT_FINISHED of train/interruption.py

# interruption::next_attempt TASK_DIRECTORY   Prints the number of the next attempt. Slurm's own count does not work: a job that continues
# another job starts to count at 0.
interruption::next_attempt() {
  local -i attempt=0
  while [[ -d $1/attempt_$attempt ]]; do attempt+=1; done
  printf '%s\n' "$attempt"
}

# interruption::begin ATTEMPT_DIRECTORY   Creates it. If it is not known how the attempt before ended, finds out.
interruption::begin() {
  local -r task_directory=${1%/*}
  local -r before=$task_directory/attempt_$((${1##*_} - 1))
  mkdir -p -- "$1" "$task_directory/output"
  printf '%s\n' "$SLURM_JOB_NODELIST" >"$1/nodes"
  printf 'began %(%s)T\n' -1 >"$1/times"
  interruption::set_state "$task_directory" running
  if [[ ! -d $before ]]; then return; fi
  if [[ ! -e $before/cause ]]; then
    interruption::cause_of_slurm "$before" node_failed | common::write_atomically "$before/cause"
    if [[ $(<"$before/cause") == node_failed ]]; then interruption::blame_dead_node "$before"; fi
  elif [[ -e $before/doubt || $(<"$before/cause") == cancelled ]]; then
    # A task that the user cancelled never restarts.
    interruption::cause_of_slurm "$before" "$(sed 's/^cancelled$/preempted/' -- "$before/cause")" | common::write_atomically "$before/cause"
    rm -f -- "$before/doubt"
  fi
}

# interruption::blame_dead_node ATTEMPT_DIRECTORY   Only if the node is still down.
interruption::blame_dead_node() {
  local nodes node
  local -A states=()
  nodes=$(cat -- "$1/nodes" 2>/dev/null) || return 0
  interruption::node_states states "$nodes"
  for node in "${!states[@]}"; do
    if [[ ${states[$node]} == *[*]* || ${states[$node]} == @(DOWN|DRAIN|FAIL|ERROR|UNKNOWN)* || ${states[$node]} == *+@(DRAIN|FAIL|NOT_RESPONDING)* ]]; then
      bad_nodes::record "${fact[cluster]}" "$node" "$SLURM_JOB_ID" node_failed
    fi
  done
}

# interruption::node_states ARRAY NODES   Sets ARRAY to the state of each node. Not for cloud nodes: each start is another machine.
interruption::node_states() {
  local -n node_states=$1
  local answer line state
  slurm::ask answer 60 scontrol --oneliner show node "$2" || return 0
  while read -r line; do
    state=$(slurm::field State "$line")
    if [[ $state != *CLOUD* ]]; then node_states+=(["$(slurm::field NodeName "$line")"]=$state); fi
  done <<<"$answer"
}

# interruption::blame_node ATTEMPT_DIRECTORY CAUSE   Blames the node for failures that the program's own code does not explain.
interruption::blame_node() {
  local kind status node job=$SLURM_JOB_ID
  local -A states=()
  read -r kind status _ node <<<"$2"
  if [[ $kind == hung ]] && ((fact[nodes] == 1)); then
    # Tasks of an array that hang, and jobs that continue each other, run one program and count once.
    node=$SLURM_JOB_NODELIST
    { read -r job _ <"${1%/task_*}/jobs"; } 2>/dev/null || job=$SLURM_JOB_ID
  elif [[ $kind != failed || $node == - ]]; then
    return
  # 135: SIGBUS. The other patterns are messages of CUDA and the kernel about broken hardware and lost file systems.
  elif ((status != 135)) && ! interruption::log_has "$1" \
    'uncorrectable ECC|fallen off the bus|CUDA error: (unknown error|all CUDA-capable devices are busy|hardware)|Stale file handle|Input/output error'; then
    return
  fi
  interruption::node_states states "$node"
  if [[ -n ${states[$node]:-} ]]; then bad_nodes::record "${fact[cluster]}" "$node" "$job" "$2"; fi
}

# interruption::record ATTEMPT_DIRECTORY CAUSE
interruption::record() {
  printf 'ended %(%s)T\n' -1 >>"$1/times" || true
  printf '%s\n' "$2" | common::write_atomically "$1/cause"
}

interruption::set_state() {
  printf '%s\n' "$2" | common::write_atomically "$1/state"
}

# interruption::state_after CAUSE   Prints the state after an attempt that this script does not restart; Slurm may restart it.
interruption::state_after() {
  case $1 in
    finished) echo completed ;;
    preempted | node_failed | 'notice cycle') echo paused ;;
    *) echo failed ;;
  esac
}

# interruption::ask ATTEMPT_DIRECTORY   Creates the stop file: the program exits with status 75 at its next step.
interruption::ask() {
  : >>"$1/stop"
}

# interruption::watch PROCESS ATTEMPT_DIRECTORY   Sends USR2 to PROCESS if the ranks have made no progress for --hang-minutes. It starts
# to count at the first heartbeat, because a start may take any time. It counts the iterations of this loop, which also stands still
# while Slurm suspends the job. It ends with PROCESS, which may have been killed.
interruption::watch() {
  local -ri interval=$((fact[hang_seconds] < 50 ? 1 : 10))
  local beat last=''
  local -i silent=0
  trap - EXIT
  while common::sleep "$interval"; do
    if ! beat=$(stat --format=%y -- "$2/heartbeat" 2>/dev/null); then
      if [[ -z ${fact[watch_log]} ]]; then continue; fi
      beat=$(stat --format=%y -- "${2%/*}/log.txt" 2>/dev/null) || continue
    fi
    silent+=interval
    if [[ $beat != "$last" ]]; then silent=0 last=$beat; fi
    if ((silent > fact[hang_seconds])); then
      kill -s USR2 "$1"
      return
    fi
  done
}

# interruption::signal_ranks SIGNAL   ABRT makes each rank that is a Python program print its stack, by faulthandler
# (node_environment.sh). The step with this name holds only ranks.
interruption::signal_ranks() {
  local steps id name answer
  slurm::ask steps 20 squeue --all --steps --noheader --jobs="$SLURM_JOB_ID" --format='%i %j' || return 0
  while read -r id name; do
    if [[ $name == ranks ]]; then slurm::ask answer 20 scancel --signal="$1" "$id" || true; fi
  done <<<"$steps"
}

# interruption::cause ATTEMPT_DIRECTORY STATUS ENDING   Prints the cause. ENDING says how batch.sh was asked to end, if at all: warned,
# asked_to_end, hung, cycle, ignored_stop; with --here also cancelled, time_limit. It records what batch.sh saw before it asks Slurm, so
# that nothing is lost if this script is killed in between. If Slurm does not answer, that record counts, and `doubt` says so.
interruption::cause() {
  local -r directory=$1
  local own shown seconds=120 status=0
  own=$(interruption::own_cause "$@")
  if [[ $own == finished || $own == "$3" ]]; then
    printf '%s\n' "$own"
    return
  fi
  printf 'Slurm did not answer how the job ended\n' >"$directory/doubt"
  interruption::record "$directory" "$own"
  # After KillWait Slurm kills this script; half of that time was for the ranks. A program that has saved restarts, and waits.
  if [[ $3 == asked_to_end ]]; then seconds=$((fact[kill_wait] / 3 + 1)); fi
  slurm::ask shown "$seconds" scontrol --oneliner show job "$(interruption::id)" || status=$?
  if ((status != 0)); then
    common::note "Slurm does not say how the job ended ($shown): what was seen here counts, $own"
    printf '%s\n' "$own"
    return
  fi
  rm -f -- "$directory/doubt"
  shown=" $shown "
  if [[ $shown == *' PreemptTime='[0-9]* ]]; then
    echo preempted
  elif [[ $shown == *' JobState=RUNNING '* ]]; then
    # The signal did not come from Slurm.
    if [[ $own == cancelled && -z ${fact[here]:-} ]]; then own="failed $2 - -"; fi
    printf '%s\n' "$own"
  elif [[ $shown == *' Reason=TimeLimit '* ]]; then
    echo time_limit
  else
    interruption::cause_of_slurm "$directory" cancelled
  fi
}

# interruption::own_cause ATTEMPT_DIRECTORY STATUS ENDING   Prints the cause as far as it is known without Slurm.
interruption::own_cause() {
  local -r directory=$1 status=$2 ending=$3
  local rank=- node=- own
  if ((status == 0)); then
    echo finished
  elif [[ $ending == @(hung|ignored_stop|cancelled|time_limit) ]]; then
    printf '%s\n' "$ending"
  elif [[ $ending == warned && ! -e $directory/begun ]]; then
    echo notice time_limit # nothing has run that could have failed
  elif ((status == interruption_not_finished)) || [[ ${fact[interrupt]} == kill && $ending == @(warned|cycle) ]]; then
    case $ending in
      warned) echo notice time_limit ;;
      cycle) echo notice cycle ;;
      asked_to_end)
        # It has saved, but that does not make it continue: whoever ended the job decides.
        own='notice request'
        if interruption::log_has "$directory" '[*][*][*] JOB .* CANCELLED AT [^ ]+ [*][*][*]'; then own=cancelled; fi
        interruption::cause_of_slurm "$directory" "$own"
        ;;
      *) if [[ -e $directory/stop ]]; then echo notice request; else echo notice signal; fi ;;
    esac
  elif [[ $ending == asked_to_end ]]; then
    interruption::cause_of_slurm "$directory" cancelled
  elif interruption::log_has "$directory" 'oom.kill|Out Of Memory|Exceeded job memory limit|exceeded memory limit'; then
    echo out_of_memory # Slurm reports it in two ways: from cgroups, and from its own accounting
  else
    if [[ -r $directory/failed_rank ]]; then read -r rank node _ <"$directory/failed_rank"; fi
    echo "failed $status $rank $node"
  fi
}

# interruption::cause_of_slurm ATTEMPT_DIRECTORY OTHERWISE   The log says why Slurm ended a job, in words that have not changed
# for many versions.
interruption::cause_of_slurm() {
  if interruption::log_has "$1" '[*][*][*] JOB .* DUE TO (PREEMPTION|JOB REQUEUE)'; then
    echo preempted
  elif interruption::log_has "$1" '[*][*][*] JOB .* DUE TO NODE FAILURE'; then
    echo node_failed
  elif interruption::log_has "$1" '[*][*][*] JOB .* DUE TO TIME LIMIT'; then
    echo time_limit
  else
    printf '%s\n' "$2"
  fi
}

# interruption::log_has ATTEMPT_DIRECTORY PATTERN   Searches this attempt's part of the log. (No pipe into grep -q: it would kill the
# writer by SIGPIPE, and under pipefail a match would then count as no match.)
interruption::log_has() {
  LC_ALL=C awk -v attempt="${1##*_}" -v pattern="$2" '
    $1 == "==" && $2 == "job" && $4 == "attempt" { mine = $5 == attempt "," }
    mine && $0 ~ pattern { found = 1; exit }
    END { exit !found }' "${1%/*}/log.txt" 2>/dev/null
}

# Names a task of an array by its number, because the job id of one task also stands for the whole array.
interruption::id() {
  local -r task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
  printf '%s\n' "${task:-$SLURM_JOB_ID}"
}
