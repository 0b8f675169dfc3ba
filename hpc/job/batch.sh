#!/usr/bin/env bash
# batch.sh RUN_DIRECTORY [offset=N] [rapid_cycle|here] [continues=ATTEMPT]
#
# The batch script. Slurm runs it on the job's head node, once for each attempt. It chooses where the ranks
# meet, prepares each node's disk (keep_node.sh), starts node.sh on all nodes in one step, and waits. It
# exits with the status of the first rank that failed, or restarts the job (restart.sh).
# Task T of the run is index T of the array, or T - N. The job of --rapid-cycle makes several attempts, and interrupts each.
# With --here it runs in a step on the first node of an allocation that the user holds (lib/allocation.sh), and restarts the job itself.
# Slurm runs a copy of this file; it finds the rest of the kit through the run directory.
set -euo pipefail
shopt -s inherit_errexit

run_directory=$1 offset=0 purpose='' continues=''
for word in "${@:2}"; do
  case $word in
    offset=*) offset=${word#offset=} ;;
    continues=*) continues=${word#continues=} ;;
    here)
      purpose=here
      unset "${!SLURM_ARRAY_@}" # these belong to the allocation
      ;;
    *) purpose=$word ;;
  esac
done
task_directory=$run_directory/task_$((${SLURM_ARRAY_TASK_ID:-1} + offset))
# Slurm cannot open a log if its path has one of these characters (request.sh).
if [[ $purpose != here && $run_directory == *[%\\]* ]]; then
  exec >>"$task_directory/log.txt" 2>&1
fi
declare -A fact
# shellcheck source=/dev/null
source "$run_directory/facts"
kit=$run_directory/kit
source "$kit/hpc/lib/common.sh"
source "$kit/hpc/lib/files.sh"
source "$kit/hpc/lib/slurm.sh"
source "$kit/hpc/lib/site.sh"
source "$kit/hpc/lib/sending.sh"
source "$kit/hpc/lib/node_environment.sh"
source "$kit/hpc/lib/bad_nodes.sh"
source "$kit/hpc/job/lib/sources.sh"
source "$kit/hpc/job/lib/address.sh"
source "$kit/hpc/job/lib/rendezvous.sh"
source "$kit/hpc/job/lib/interruption.sh"
source "$kit/hpc/job/lib/restart.sh"
source "$kit/hpc/job/lib/step.sh"
source "$kit/hpc/job/lib/allocation.sh"
source "$kit/hpc/job/lib/keeper.sh"
source "$kit/hpc/job/lib/meeting.sh"
source "$kit/hpc/job/lib/sweep.sh"

attempt_directory='' status=0 cause='' ending='' step='' watcher='' timer='' limiter='' guard=''

main() {
  if [[ $purpose == here ]]; then allocation::enter "$task_directory"; fi
  # The cycles may have completed the task. Also, some versions of Slurm start a job once more if it ended within its grace time.
  if [[ $(<"$task_directory/state") == completed ]]; then
    common::note "job $SLURM_JOB_ID: this task has completed before: nothing is left to do"
    return
  fi
  if [[ -n $continues ]] && ! restart::take_over "$run_directory" "$task_directory" "$continues"; then return; fi
  trap batch::break_off EXIT
  sources::unpack "$run_directory"
  if [[ $purpose == rapid_cycle ]]; then
    batch::cycle
  elif [[ $purpose == here ]]; then
    batch::repeat
  else
    batch::attempt
    if restart::is_due "$task_directory" "$cause"; then
      interruption::set_state "$task_directory" paused
      batch::leave
      restart::again "$run_directory" "$task_directory" "$offset" || true # it has printed the reason
      return "$status"
    fi
  fi
  interruption::set_state "$task_directory" "$(interruption::state_after "$cause")"
  batch::leave
  return "$status"
}

# Runs one attempt, from the choice of a port to the record of the cause; sets `status` and `cause`.
batch::attempt() {
  local rendezvous verdict='' pause
  status=0 cause='' ending='' step=''
  ATTEMPT=$(interruption::next_attempt "$task_directory")
  export ATTEMPT
  attempt_directory=$task_directory/attempt_$ATTEMPT
  interruption::begin "$attempt_directory"
  printf '== job %s, attempt %s, on %s, %s\n' "$SLURM_JOB_ID" "$ATTEMPT" "$SLURM_JOB_NODELIST" "$(date '+%F %T %Z')"
  ((${SLURM_JOB_NUM_NODES:?} == fact[nodes])) ||
    common::die "Slurm gave $SLURM_JOB_NUM_NODES nodes; the run asked for ${fact[nodes]}"
  rendezvous=$(rendezvous::choose "$ATTEMPT")
  export MASTER_ADDR=${rendezvous% *} MASTER_PORT=${rendezvous#* }

  trap batch::handle_end TERM INT HUP
  trap batch::handle_warning USR1
  trap batch::end_hung_step USR2
  trap batch::handle_timer RTMIN+1 # not HUP: a daemon that nohup started passes on that HUP is ignored
  trap batch::end_here RTMIN+2
  if [[ $purpose == here ]]; then
    allocation::watch "$$" "$task_directory" &
    guard=$!
  fi
  keeper::start "$kit" "$run_directory" "$attempt_directory"
  sweep::take_trial verdict "$kit" "$run_directory" "$attempt_directory"
  if [[ -n $verdict ]]; then
    status=${verdict%% *} cause=${verdict#* }
    batch::conclude
    return
  fi
  meeting::begin "$attempt_directory"
  batch::start_step
  if ((fact[hang_seconds] > 0)); then
    interruption::watch "$$" "$attempt_directory" &
    watcher=$!
  fi
  if [[ $purpose == rapid_cycle ]]; then
    batch::time_cycle &
    timer=$!
  fi
  batch::wait_for_step
  for pause in 1 5 15; do
    if ((status == 0)) || [[ -n $ending ]] || ! step::is_missing "$attempt_directory" begun; then break; fi
    step::wait_for_slurm "$pause"
    batch::start_step
    batch::wait_for_step
  done
  batch::stop_watching

  batch::take_failed_rank
  cause=$(interruption::cause "$attempt_directory" "$status" "$ending")
  verdict=$(sweep::judge "$attempt_directory" "$cause")
  if [[ -n $verdict ]]; then status=${verdict%% *} cause=${verdict#* }; fi
  batch::conclude
  interruption::blame_node "$attempt_directory" "$cause"
}

# Sets `status` to that of the rank that failed first, which neither torchrun nor srun passes on.
batch::take_failed_rank() {
  local rank host recorded
  rm -f -- "$attempt_directory"/failed_rank.partial.* # of ranks that were killed while they wrote it
  if [[ ! -r $attempt_directory/failed_rank ]]; then return; fi
  if read -r rank host recorded <"$attempt_directory/failed_rank" && [[ $recorded =~ ^[1-9][0-9]*$ ]]; then status=$recorded; fi
  if ((status != interruption_not_finished)); then
    common::note "the first rank that failed: rank $rank on $host, exit status $status"
  fi
}

# Passes --cpus-per-task again, because since Slurm 22.05 a step does not inherit it. One failure ends the step. A rank that exits
# with 0 does not, because other ranks may work longer. SLURM_OVERLAP: if srun gave up on a step because the controller did not
# answer, that step may hold the CPUs forever. (It is a variable because an srun that is not Slurm's own may refuse the option
# --overlap, and ignore --cpus-per-task; unknown variables do no harm.)
batch::start_step() {
  local -r cpus=$((fact[cpus] / fact[tasks_per_node]))
  SLURM_OVERLAP=1 SRUN_CPUS_PER_TASK=$cpus srun --job-name=ranks "${allocation_nodes[@]}" "${allocation_gpus[@]}" --nodes="${fact[nodes]}" --ntasks="$((fact[nodes] * fact[tasks_per_node]))" \
    --ntasks-per-node="${fact[tasks_per_node]}" --cpus-per-task="$cpus" \
    --export=ALL --kill-on-bad-exit=1 --wait=0 \
    bash "$kit/hpc/job/node.sh" "$run_directory" "$attempt_directory" &
  step=$!
}

# The job of --here restarts in the same allocation.
batch::repeat() {
  batch::attempt
  while restart::is_due "$task_directory" "$cause"; do
    interruption::set_state "$task_directory" paused
    common::note "job $SLURM_JOB_ID: to be started again, in the same allocation"
    batch::attempt
  done
}

# The job of --rapid-cycle makes attempts and interrupts them, one after the other. It succeeds if the program has
# saved and stopped each time, or has finished.
batch::cycle() {
  local -i cycle
  for ((cycle = 1; cycle <= fact[cycles]; cycle++)); do
    common::note "job $SLURM_JOB_ID: cycle $cycle of ${fact[cycles]}, of ${fact[cycle_seconds]} s"
    batch::attempt
    if [[ $cause != 'notice cycle' ]]; then return; fi
    interruption::set_state "$task_directory" paused
    if [[ -z ${CHECKPOINT_URL:-} ]] && node_environment::has_no_checkpoint "$task_directory"; then
      common::warn "the program has ended with status 75, and CHECKPOINT_DIRECTORY is empty: does it save?"
    fi
  done
  common::note "job $SLURM_JOB_ID: the program has saved and stopped in all of the ${fact[cycles]} cycles"
  status=0
}

# Signals this script when the cycle is over, and again when the program should have stopped.
batch::time_cycle() {
  trap - EXIT
  common::sleep "${fact[cycle_seconds]}"
  kill -s RTMIN+1 "$$"
  common::sleep "${fact[cycle_grace]}"
  kill -s RTMIN+1 "$$"
}

# Handles RTMIN+1. The first means that the cycle is over. The second, or the first after a warning, means that the program did not stop
# in time. (No `return` here: in a trap it returns the status of the command that the signal interrupted.)
batch::handle_timer() {
  if [[ $ending != @(cycle|warned) ]]; then
    ending=cycle
    interruption::ask "$attempt_directory"
  elif [[ ${fact[interrupt]} == kill ]]; then
    common::note "job $SLURM_JOB_ID: the program did not stop: killing it (--interrupt kill); it restarts from its last checkpoint"
    interruption::signal_ranks KILL
    batch::limit_wait 15
  else
    common::note "job $SLURM_JOB_ID: asked to save and stop by STOP_FILE, the program has not done so within ${fact[cycle_grace]} s: see \"Programs that can be interrupted\" in hpc/job/README.md. The stacks of all ranks:"
    ending=ignored_stop
    batch::kill_step
  fi
}

batch::conclude() {
  sources::note_written "$run_directory" || true # its failure must never fail the job
  meeting::judge "$kit" "$attempt_directory" "$cause" || true
  interruption::record "$attempt_directory" "$cause"
  printf '%s\n' "$status" | common::write_atomically "$task_directory/exit_status"
  printf '== job %s, attempt %s: exit status %s, %s\n' "$SLURM_JOB_ID" "$ATTEMPT" "$status" "$cause"
}

# Like common::wait, but only until ALRM arrives.
batch::wait_for_step() {
  local late=''
  trap 'late=1' ALRM
  while [[ -z $late ]] && kill -0 "$step" 2>/dev/null; do wait "$step" || true; done
  status=142
  # At the end of the job srun kills the remaining ranks. keep_node.sh waits a little longer than that, then removes the data.
  if [[ -n $late && $ending == asked_to_end ]]; then kill -s TERM "$step" 2>/dev/null || true; fi
  if ! kill -0 "$step" 2>/dev/null; then
    status=0
    common::wait "$step" || status=$?
  fi
}

# Handles Slurm's warning before the time limit (--grace-seconds).
batch::handle_warning() {
  ending=warned
  if [[ -n $step && ! -e $attempt_directory/begun ]]; then
    # srun retries only every minute or two, so a controller that was away can cost all of the job's time.
    common::note "job $SLURM_JOB_ID: the time limit is near, and Slurm has not started the ranks: nothing to save"
    kill -s TERM "$step" 2>/dev/null || true
    return 0
  fi
  common::note "job $SLURM_JOB_ID: the time limit is near: asking the program to save and stop"
  interruption::ask "$attempt_directory"
  if [[ ${fact[interrupt]} == kill ]]; then
    (trap - EXIT && common::sleep "$((fact[grace_seconds] / 2))" && kill -s RTMIN+1 "$$") &
    timer=$!
  fi
}

# Handles the signal with which Slurm ends the job, or that a user sends. The ranks get time to save.
batch::handle_end() {
  common::note "job $SLURM_JOB_ID: asked to end"
  ending=asked_to_end
  if [[ -z $step ]]; then exit 143; fi
  # Do not signal srun: it would kill the ranks at once. Slurm signals them itself when it ends the job.
  interruption::ask "$attempt_directory"
  batch::limit_wait "$((fact[kill_wait] / 2))" # after KillWait Slurm kills this script and all ranks
}

# Ends a job with --here: at the second Ctrl-C, at experiments.sh cancel, or at the end of the time. The allocation stays.
batch::end_here() {
  ending=time_limit
  if [[ -e $task_directory/cancel ]]; then ending=cancelled; fi
  common::note "job $SLURM_JOB_ID: the ranks are ended: $ending"
  if [[ -z $step ]]; then exit 143; fi
  kill -s TERM "$step" 2>/dev/null || true # srun then kills the ranks
  batch::limit_wait 15
}

batch::end_hung_step() {
  common::note "job $SLURM_JOB_ID: no progress for ${fact[hang_seconds]} s: the stacks of all ranks, then the end"
  ending=hung
  batch::kill_step
}

batch::kill_step() {
  interruption::signal_ranks ABRT
  (sleep 5 && kill -s KILL "$step") 2>/dev/null &
  batch::limit_wait 15
}

batch::limit_wait() {
  (trap - EXIT && common::sleep "$1" && kill -s ALRM "$$") 2>/dev/null &
  limiter=$!
}

batch::stop_watching() {
  local process
  for process in $watcher $timer $limiter $guard; do kill "$process" 2>/dev/null || true; done
}

# Runs if this script ends before it has recorded the cause: the nodes could not be prepared, or Slurm ends the job.
batch::break_off() {
  local status=$?
  if ((status == 0)); then status=143; fi # a signal ended this script
  if [[ -z $attempt_directory ]]; then
    # No attempt has begun; the log has the reason.
    interruption::set_state "$task_directory" failed
  elif [[ ! -e $attempt_directory/cause ]]; then
    cause=$(interruption::cause "$attempt_directory" "$status" "$ending")
    interruption::record "$attempt_directory" "$cause"
    interruption::set_state "$task_directory" "$(interruption::state_after "$cause")"
  fi
  batch::leave
}

batch::leave() {
  trap - EXIT
  batch::stop_watching
  sweep::leave "$attempt_directory"
  keeper::leave
  allocation::leave
}

main
