# shellcheck shell=bash
# batch.sh's side of a W&B sweep (fact[sweep]). The agent asks the server for one point and starts sweep_trial.sh in place of
# the program. sweep_trial.sh writes the point as the task's command, environment and parameters.yaml. The task then runs like
# any other, with any launcher. After a restart it has the same point and the same run of W&B.
#
#   task_N/agent             the agent's WANDB_DIR, its log.txt, and the process id of batch.sh
#   task_N/spare             the server had no point left: the task has nothing to do
#   attempt_K/stopped        the server has stopped the trial
#   attempt_K/trial_over     the program's status, for which sweep_trial.sh waits

declare -gA fact+=()
declare -g sweep_agent='' # its process

# sweep::take_trial VARIABLE KIT RUN_DIRECTORY ATTEMPT_DIRECTORY   Asks the server for a point, unless the task has a command. If
# it gets none, sets VARIABLE to "STATUS CAUSE", the end of the attempt.
sweep::take_trial() {
  local -r kit=$2 task_directory=${4%/*}
  local -r log=$task_directory/agent/log.txt
  local -i waited=0
  if [[ -z ${fact[sweep]:-} || -e $task_directory/command ]]; then return; fi
  mkdir -p -- "$task_directory/agent"
  : >>"$log" # it is read before the agent has started
  # sweep_trial.sh exits when this process is gone.
  printf '%s\n' "$$" >"$task_directory/agent/batch"
  set -m # a process group, so that it can be ended with all that it has started
  bash "$kit/hpc/job/node.sh" "$3" "$4" bash "$kit/hpc/job/sweep_agent.sh" "${fact[sweep]}" >>"$log" 2>&1 </dev/null &
  sweep_agent=$!
  set +m
  while [[ ! -e $task_directory/command ]] && kill -0 "$sweep_agent" 2>/dev/null; do
    # The agent prints this a moment before it starts what must be sweep_trial.sh.
    if grep -q 'About to run command' "$log" && sleep 3 && [[ ! -e $task_directory/command ]]; then
      sweep::refuse "$1" "$log" 'its command does not start by sweep_trial: make the sweep by hpc/sweep.sh'
      return
    fi
    # After an error the agent exits; but it has been seen to wait forever for its own process.
    if grep -qE '^(wandb: ERROR|Error:) ' "$log" && ((++waited > 50)); then break; fi
    sleep 0.2
  done
  if [[ -e $task_directory/command ]]; then
    common::note "sweep ${fact[sweep]}: run $(sweep::run_id "$task_directory")"
    return
  fi
  if grep -q 'Agent received command: exit' "$log"; then
    : >"$task_directory/spare"
    common::note "sweep ${fact[sweep]}: no run was left to hand out: this task is spare"
    printf -v "$1" '0 finished'
  else
    sweep::refuse "$1" "$log" "$(grep -E '[Ee]rror' "$log" | grep -v 'error logs at' | tail -n 1)"
  fi
}

# sweep::refuse VARIABLE LOG REASON
sweep::refuse() {
  common::note "sweep ${fact[sweep]}: W&B's agent got no run: $3; its log: $2"
  printf -v "$1" '1 failed 1 - -'
}

# sweep::run_id TASK_DIRECTORY   WANDB_RUN_ID of the task.
sweep::run_id() {
  local word
  while LC_ALL=C IFS= read -r -d '' word; do
    if [[ $word == WANDB_RUN_ID=* ]]; then printf '%s\n' "${word#*=}"; fi
  done <"$1/environment"
}

# sweep::judge ATTEMPT_DIRECTORY CAUSE   Call it when the step has ended: prints "STATUS CAUSE" if the sweep knows them better.
sweep::judge() {
  local -r task_directory=${1%/*} cause=$2
  local run
  if [[ -z ${fact[sweep]:-} ]]; then return; fi
  if [[ -e $1/stopped && $cause == @(notice|failed)* ]]; then
    common::note "sweep ${fact[sweep]}: the server has stopped this trial"
    echo 0 finished
  elif [[ $cause == failed* ]]; then
    run=$(sweep::run_id "$task_directory")
    if [[ -z $(find "${WANDB_DIR:-$task_directory}/wandb" -maxdepth 1 -name "*run-*-$run" -print -quit 2>/dev/null) ]]; then
      common::note "sweep ${fact[sweep]}: the program failed before it reported run $run to W&B"
    fi
  fi
}

# sweep::leave ATTEMPT_DIRECTORY   However the attempt ends, the agent is ended before it.
sweep::leave() {
  local over=143
  local -i tries
  if [[ -z $sweep_agent ]]; then return; fi
  if [[ -e $1/cause && -e ${1%/*}/exit_status ]]; then over=$(<"${1%/*}/exit_status"); fi
  printf '%s\n' "$over" | common::write_atomically "$1/trial_over"
  # Kill it at once: it checks only every five seconds, and has nothing left to report to the server.
  kill -s TERM -- "-$sweep_agent" 2>/dev/null || true
  for ((tries = 0; tries < 50; tries++)); do
    if ! kill -0 -- "-$sweep_agent" 2>/dev/null; then return; fi
    sleep 0.1
  done
  kill -s KILL -- "-$sweep_agent" 2>/dev/null || true
}
