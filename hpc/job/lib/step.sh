# shellcheck shell=bash
# The beginning of a step. srun gives up at once when the controller does not answer it: nothing of the program has run then, and
# the step is started again. The first task of a step makes attempt_K/begun (the ranks), attempt_K/kept (keep_node.sh).

# step::note_begin ATTEMPT_DIRECTORY MARK
step::note_begin() {
  : >>"$1/$2" || true # a full disk is not the end of the job
}

# step::is_missing ATTEMPT_DIRECTORY MARK   Whether srun has said that it could not begin, and no task has begun.
step::is_missing() {
  [[ ! -e $1/$2 ]] && interruption::log_has "$1" '^srun: error: (Unable to confirm allocation|Unable to create step)'
}

# step::wait_for_slurm PAUSE
step::wait_for_slurm() {
  local _answer # srun will see
  common::note "job $SLURM_JOB_ID: the step did not begin: to be started again when Slurm answers"
  sleep "$1"
  slurm::ask _answer 600 scontrol --oneliner show job "$(interruption::id)" || true
}

# step::run ATTEMPT_DIRECTORY MARK COMMAND...   COMMAND, by srun, in a process of its own; again where it could not begin.
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
