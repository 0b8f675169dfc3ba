# shellcheck shell=bash
# The start of a step. If the controller does not answer, srun gives up at once. Nothing of the program has run then, so the step
# is started again. The first task of a step creates attempt_K/begun (the ranks) or attempt_K/kept (keep_node.sh).

# step::note_begin ATTEMPT_DIRECTORY MARK   MARK: begun or kept.
step::note_begin() {
  : >>"$1/$2" || true # a full disk is not the end of the job
}

# step::is_missing ATTEMPT_DIRECTORY MARK   Whether srun reported that it could not start, and no task has started.
step::is_missing() {
  [[ ! -e $1/$2 ]] && interruption::log_has "$1" '^srun: error: (Unable to confirm allocation|Unable to create step)'
}

# step::wait_for_slurm PAUSE   Waits PAUSE seconds, then until the controller answers, for at most ten minutes.
step::wait_for_slurm() {
  local _answer # not used: if Slurm refuses, srun reports it
  common::note "job $SLURM_JOB_ID: the step did not begin: to be started again when Slurm answers"
  sleep "$1"
  slurm::ask _answer 600 scontrol --oneliner show job "$(interruption::id)" || true
}

# step::run ATTEMPT_DIRECTORY MARK COMMAND...   Runs COMMAND by srun, in a background process; again if it could not start.
step::run() {
  local pause ending='' status=0
  trap 'ending=1' TERM INT HUP
  "${@:3}" || status=$?
  for pause in 1 5 15; do
    if ((status == 0)) || [[ -n $ending ]] || ! step::is_missing "$1" "$2"; then break; fi
    step::wait_for_slurm "$pause"
    status=0
    "${@:3}" || status=$?
  done
  return "$status"
}
