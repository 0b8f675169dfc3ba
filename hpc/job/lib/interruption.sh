# shellcheck shell=bash
# batch.sh's side of the interruption protocol: each attempt of a task ends for a cause that is written down (restart.sh
# decides what follows from it).
#
#   attempt_K/stop    STOP_FILE: who makes it asks the program to save and to end with status 75; with a word in it, for good
#   attempt_K/times   lines `began EPOCH` and `ended EPOCH`, the last where the batch script could write it
#   attempt_K/cause   how the attempt ended: one of
#       finished
#       notice time_limit|signal|request|cycle   the program saved, and shall go on: Slurm's warning, a signal, a
#                                                stop file, the end of a cycle (--rapid-cycle)
#       preempted | cancelled | time_limit | node_failed | hung
#       ignored_stop      the program ignored STOP_FILE and was killed at the end of a cycle
#       out_of_memory | failed STATUS RANK NODE
#   attempt_K/doubt   Slurm did not answer: the cause is what the batch script saw itself
#   state             of the task, as system 000 named them: enqueued, running, paused, completed, failed
#
# With --interrupt kill any end that comes of the warning or of the end of a cycle is taken for a 75 (EX_TEMPFAIL).

declare -gA fact+=()
declare -g interruption_again=75

# interruption::next_attempt TASK_DIRECTORY   Its number. Slurm's own count is not used: a job that continues another begins
# to count anew.
interruption::next_attempt() {
  local -i attempt=0
  while [[ -d $1/attempt_$attempt ]]; do attempt+=1; done
  printf '%s\n' "$attempt"
}

# interruption::begin ATTEMPT_DIRECTORY   Makes it, and settles how the attempt before ended when that is not known.
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
    # What a user cancels does not come back.
    interruption::cause_of_slurm "$before" "$(sed 's/^cancelled$/preempted/' -- "$before/cause")" | common::write_atomically "$before/cause"
    rm -f -- "$before/doubt"
  fi
}

# interruption::blame_dead_node ATTEMPT_DIRECTORY   Only one that is down still.
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

# interruption::node_states ARRAY NODES   ARRAY gets the state of each. Not of a cloud's nodes: each time they are other machines.
interruption::node_states() {
  local -n node_states=$1
  local answer line state
  slurm::ask answer 60 scontrol --oneliner show node "$2" || return 0
  while read -r line; do
    state=$(slurm::field State "$line")
    if [[ $state != *CLOUD* ]]; then node_states+=(["$(slurm::field NodeName "$line")"]=$state); fi
  done <<<"$answer"
}

# interruption::blame_node ATTEMPT_DIRECTORY CAUSE   For failures that the program's own code does not explain.
interruption::blame_node() {
  local kind status node job=$SLURM_JOB_ID
  local -A states=()
  read -r kind status _ node <<<"$2"
  if [[ $kind == hung ]] && ((fact[nodes] == 1)); then
    # One program: tasks of an array that hang, and jobs that continue each other, count once.
    node=$SLURM_JOB_NODELIST
    { read -r job _ <"${1%/task_*}/jobs"; } 2>/dev/null || job=$SLURM_JOB_ID
  elif [[ $kind != failed || $node == - ]]; then
    return
  # 135: SIGBUS. The rest is what CUDA and the kernel say of broken hardware and lost file systems.
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

# interruption::state_after CAUSE   Of an attempt that this script does not start again: Slurm may.
interruption::state_after() {
  case $1 in
    finished) echo completed ;;
    preempted | node_failed | 'notice cycle') echo paused ;;
    *) echo failed ;;
  esac
}

# interruption::ask ATTEMPT_DIRECTORY   Makes the stop file: the program ends with status 75 at its next step.
interruption::ask() {
  : >>"$1/stop"
}

# interruption::watch PROCESS ATTEMPT_DIRECTORY   Sends USR2 to PROCESS when the ranks have made no progress for --hang-minutes. The
# heartbeat counts from its first beat: nobody knows how long a start may take. The time is counted by the turns of this loop:
# while Slurm suspends the job it stands still, too. Ends with PROCESS, which may have been killed.
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

# interruption::signal_ranks SIGNAL   ABRT shows the stack of each rank that is a Python program: faulthandler prints them
# (node_environment.sh). Only ranks are in the step of this name.
interruption::signal_ranks() {
  local steps id name answer
  slurm::ask steps 20 squeue --all --steps --noheader --jobs="$SLURM_JOB_ID" --format='%i %j' || return 0
  while read -r id name; do
    if [[ $name == ranks ]]; then slurm::ask answer 20 scancel --signal="$1" "$id" || true; fi
  done <<<"$steps"
}

# interruption::cause ATTEMPT_DIRECTORY STATUS ENDING   Prints the cause. ENDING: what batch.sh was told, if anything: warned,
# asked_to_end, hung, cycle, ignored_stop; with --here also cancelled, time_limit. What was seen here is written down before Slurm is asked: nothing is lost when this
# script is killed in between. Where Slurm does not answer it counts, and `doubt` says so.
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
  # With KillWait Slurm kills this script; half of it was for the ranks. What has saved is to be started again, and waits.
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
    # Something else than Slurm has sent the signal.
    if [[ $own == cancelled && -z ${fact[here]:-} ]]; then own="failed $2 - -"; fi
    printf '%s\n' "$own"
  elif [[ $shown == *' Reason=TimeLimit '* ]]; then
    echo time_limit
  else
    interruption::cause_of_slurm "$directory" cancelled
  fi
}

# interruption::own_cause ATTEMPT_DIRECTORY STATUS ENDING   As far as it is seen without Slurm.
interruption::own_cause() {
  local -r directory=$1 status=$2 ending=$3
  local rank=- node=- own
  if ((status == 0)); then
    echo finished
  elif [[ $ending == @(hung|ignored_stop|cancelled|time_limit) ]]; then
    printf '%s\n' "$ending"
  elif [[ $ending == warned && ! -e $directory/begun ]]; then
    echo notice time_limit # nothing has run that could have failed
  elif ((status == interruption_again)) || [[ ${fact[interrupt]} == kill && $ending == @(warned|cycle) ]]; then
    case $ending in
      warned) echo notice time_limit ;;
      cycle) echo notice cycle ;;
      asked_to_end)
        # It has saved, and that does not make it go on: whoever ended the job decides.
        own='notice request'
        if interruption::log_has "$directory" '[*][*][*] JOB .* CANCELLED AT [^ ]+ [*][*][*]'; then own=cancelled; fi
        interruption::cause_of_slurm "$directory" "$own"
        ;;
      *) if [[ -e $directory/stop ]]; then echo notice request; else echo notice signal; fi ;;
    esac
  elif [[ $ending == asked_to_end ]]; then
    interruption::cause_of_slurm "$directory" cancelled
  elif interruption::log_has "$directory" 'oom.kill|Out Of Memory|Exceeded job memory limit|exceeded memory limit'; then
    echo out_of_memory # Slurm tells it in two ways: of cgroups, and of its own accounting
  else
    if [[ -r $directory/failed_rank ]]; then read -r rank node _ <"$directory/failed_rank"; fi
    echo "failed $status $rank $node"
  fi
}

# interruption::cause_of_slurm ATTEMPT_DIRECTORY OTHERWISE   Why Slurm ends a job stands in its log, in words that have not changed
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

# interruption::log_has ATTEMPT_DIRECTORY PATTERN   In this attempt's part of the log. (No pipe into grep -q: it would end the
# writer by SIGPIPE, and under pipefail a match would be none.)
interruption::log_has() {
  LC_ALL=C awk -v attempt="${1##*_}" -v pattern="$2" '
    $1 == "==" && $2 == "job" && $4 == "attempt" { mine = $5 == attempt "," }
    mine && $0 ~ pattern { found = 1; exit }
    END { exit !found }' "${1%/*}/log.txt" 2>/dev/null
}

# Of a task of an array by its number: the job id of one of the tasks is also that of them all.
interruption::id() {
  local -r task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
  printf '%s\n' "${task:-$SLURM_JOB_ID}"
}
