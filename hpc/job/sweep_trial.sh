#!/usr/bin/env bash
# sweep_trial.sh WORD...
#
# W&B's agent starts it in place of the sweep's program, by one of its names in hpc/job/shims: as `sweep_trial`, with the
# program's command, or as `python`, with the program as argument. It writes the command and its point of the sweep into
# the task's folder, for batch.sh to run (lib/sweep.sh), waits for the end, and exits with that status.
set -euo pipefail
shopt -s inherit_errexit

kit=${RUN_DIRECTORY:?is not set: sweep_trial.sh belongs to W&B\'s agent, inside a job of the kit}/kit
source "$kit/hpc/lib/common.sh"
source "$kit/hpc/lib/command.sh"
source "$kit/hpc/lib/launchers.sh"
source "$kit/hpc/lib/line.sh"

attempt_directory=${STOP_FILE%/*}
task_directory=${attempt_directory%/*}
signalled=''

main() {
  trap 'signalled=$SECONDS' TERM INT HUP
  trap : USR1 USR2
  case ${0##*/} in
    python*) set -- "${0##*/}" "$@" ;;
  esac
  sweep_trial::record "$@"
  batch=$(<"$task_directory/agent/batch")
  while [[ ! -e $attempt_directory/trial_over ]]; do
    # The agent or batch.sh was killed.
    if [[ ! -d /proc/$PPID || ! -d /proc/$batch ]]; then exit 1; fi
    sweep_trial::handle_signal
    sleep 0.2
  done
  exit "$(<"$attempt_directory/trial_over")"
}

# The command is written last: it marks the trial as complete.
sweep_trial::record() {
  local name word escaped=''
  local -a words=() environment=(WANDB_RESUME=allow)
  for name in WANDB_RUN_ID WANDB_SWEEP_ID WANDB_ENTITY WANDB_PROJECT; do
    if [[ -n ${!name:-} ]]; then environment+=("$name=${!name}"); fi
  done
  for word in "$@"; do
    command::escape escaped "$word"
    words+=("$escaped")
  done
  sweep_trial::understand
  common::write_atomically "$task_directory/parameters.yaml" <"$WANDB_SWEEP_PARAM_PATH"
  printf '%s\0' "${environment[@]}" | common::write_atomically "$task_directory/environment"
  command::write "$task_directory/command.partial" "${words[@]}"
  mv -T -- "$task_directory/command.partial" "$task_directory/command"
}

# Changes `words` of sweep_trial::record. Only now is the server's command known: its launcher is removed; if it must stay, each rank
# fails with the reason.
sweep_trial::understand() {
  local -A fact=()
  # shellcheck source=/dev/null
  source "$RUN_DIRECTORY/facts"
  line::read "${fact[launcher]}" "${fact[nodes]}" '' "${words[@]}"
  if [[ -n $line_refusal ]]; then
    words=(bash "$RUN_DIRECTORY/kit/hpc/job/sweep_refused.sh" "$line_refusal")
    words=("${words[@]//\$/\$\$}") # literally, not as a variable of the job
  else
    words=("${line_words[@]}")
  fi
}

# SIGTERM arrives when the job ends, at all of its processes, and from the agent when the server stops the run. At
# the end of the job batch.sh also gets it: then the stop file exists within these seconds, or the trial is over.
sweep_trial::handle_signal() {
  if [[ -z $signalled ]] || ((SECONDS - signalled < 3)); then return; fi
  signalled=''
  if [[ -e $STOP_FILE || -e $attempt_directory/trial_over ]]; then return; fi
  : >"$attempt_directory/stopped"
  : >>"$STOP_FILE"
}

main "$@"
