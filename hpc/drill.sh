#!/usr/bin/env bash
# drill.sh [--tolerance T] [--at STEP] [OPTIONS OF job_submitter.sh]
#
# Checks whether the project's own program survives interruptions. Runs its experiment once without any, and once each with a warning as
# before the time limit, a SIGTERM, a kill -9 of a rank and the loss of a node. Compares the steps and the losses that it logs with
# those of the first run, and prints for each fault what is wrong and how to fix it.
#
# The program must log its steps and finish in a minute or two. Run by people, on a login node. Ctrl-C cancels the jobs of the drill, and
# no others. The options of job_submitter.sh are in its own --help.
#
# Exit status: 0 all passed, 1 one did not, 2 the request is wrong.
#
# See also: job_submitter.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
source "$here/lib/help.sh"
source "$here/job_submitter/option_table.sh"
source "$here/lib/site.sh"
source "$here/lib/slurm.sh"
source "$here/lib/follow.sh"

declare -ga submit_options=()

main() {
  drill::read_options "$@"
  site::leave_enclosing_job
  # The user's environment or .env may set these options, which the drill decides itself.
  export HPC_RESUME=0 HPC_FRESH=0 HPC_DRY_RUN=0 HPC_CONFIRM=0 HPC_FOLLOW=0 HPC_HERE=''
  # The drill reads the log: a step must be in it as soon as it is done.
  export PYTHONUNBUFFERED=1
  printf -v prefix 'drill_%(%Y%m%d-%H%M%S)T_%s' -1 "$$"
  drill::check_request
  work=$(mktemp -d)
  trap 'rm -rf -- "$work"' EXIT
  trap 'drill::cancel 130' INT
  trap 'drill::cancel 143' TERM HUP

  drill::run_all uninterrupted
  read -r uninterrupted <"$work/uninterrupted/runs"
  [[ $(<"$work/uninterrupted/state") == COMPLETED* ]] ||
    common::die "the run that nothing interrupts failed ($(<"$work/uninterrupted/state")): see $uninterrupted/task_1/log.txt"
  drill::remove_checkpoints uninterrupted
  python3 "$here/drill/drill.py" plan "$uninterrupted" ${options_value[at]:+"${options_value[at]}"} >"$work/plan"
  drill::run_all warning sigterm kill node
  drill::judge
}

drill::read_options() {
  options::heading 'Drill'
  options::add tolerance text 0 '--tolerance' 'largest difference of a loss from the uninterrupted run; 0: none'
  options::add at count '' '--at' 'step at which each fault is injected (default: places about a third into the run)'
  option_table::define
  options::show tolerance at
  help::answer "${here%/*}" "${BASH_SOURCE[0]}" "$@"
  options::parse "$@"
  local name
  for name in exp_name resume fresh dry_run confirm follow here json; do
    if [[ -n ${options_source[$name]:-} ]]; then
      common::die_usage "--${name//_/-}: the drill names and follows its experiments itself: leave this option out"
    fi
  done
  [[ ${options_value[tolerance]:=0} =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$ ]] ||
    common::die_usage "--tolerance: ${options_value[tolerance]@Q} is not a number from 0 up, such as 1e-6"
  while (($# > 0)); do
    case $1 in
      --tolerance | --at) shift ;;
      --tolerance=* | --at=*) ;;
      *) submit_options+=("$1") ;;
    esac
    shift
  done
}

# What the submitter itself refuses is said before anything is sent.
drill::check_request() {
  local argv
  # What it says to users, without the tasks that a dry run prints last.
  argv=$({ bash "$here/job_submitter.sh" "${submit_options[@]}" --exp-name "${prefix}_uninterrupted" --dry-run 2>&1 >&3 | sed '/^dry run: /,$d' >&2; } 3>&1)
  [[ $argv != *"'--array="* ]] ||
    common::die_usage "the drill takes one experiment, and the configuration file has several: put the one into a file of its own (--configs)"
  [[ $argv == *"'--requeue'"* ]] || common::die_usage "--max-restarts 0: the drill is about restarts: leave it out"
}

# drill::run_all NAME...   All at the same time, if the cluster has room. A job that cannot be sent ends the drill.
drill::run_all() {
  local name process status=0
  local -a processes=()
  for name in "$@"; do
    mkdir -- "$work/$name"
    drill::run "$name" &
    processes+=("$!")
  done
  for process in "${processes[@]}"; do wait "$process" || status=1; done
  if ((status != 0)); then drill::cancel 1; fi
}

# drill::run NAME   In a process of its own: one run, and the fault of its name.
drill::run() {
  local -r name=$1
  local job run_directory states='' planned='' hit=''
  trap '' INT HUP # drill::cancel tells it to end, by a file
  drill::submit
  # A run without a fault has no line there.
  if [[ -e $work/plan ]]; then planned=$(sed -n "s/^$name //p" "$work/plan"); fi
  if [[ -n $planned ]] && drill::await "$planned" && drill::strike; then
    hit=1
    common::note "$name: brought after step $planned"
  fi
  drill::wait_for_end
  # Crashes are not restarted, and neither is what dies of SIGTERM: as its owner would, go on from the checkpoints.
  if [[ -n $hit && $name != warning && $states != COMPLETED* ]]; then
    drill::submit --resume
    drill::wait_for_end
  fi
  printf '%s\n' "$states" >"$work/$name/state"
  common::note "$name: ended, ${states,,}"
}

# drill::submit [--resume]   Sets job and run_directory.
drill::submit() {
  local -r files=$work/$name
  local submitter answer status=0
  if [[ -e $work/cancelled ]]; then exit 1; fi
  bash "$here/job_submitter.sh" "${submit_options[@]}" --exp-name "${prefix}_$name" "$@" >"$files/job" 2>"$files/messages" &
  submitter=$!
  printf '%s\n' "$submitter" >"$files/submitter"
  wait "$submitter" || status=$?
  rm -f -- "$files/submitter"
  if ((status != 0)); then
    cat -- "$files/messages" >&2
    exit 1
  fi
  job=$(<"$files/job")
  slurm::ask answer 600 scontrol show job "$job" || common::die "Slurm does not say where job $job runs: $answer"
  run_directory=$(sed -n 's/^ *WorkDir=//p' <<<"$answer")
  printf '%s\n' "$run_directory" >>"$files/runs"
  common::note "$name: job $job; $run_directory"
}

# drill::await STEP   Until it is logged; status 1 when the job ends before.
drill::await() {
  until python3 "$here/drill/drill.py" wait "$run_directory" "$1"; do
    if [[ -e $work/cancelled ]] || ! follow::is_live "$(follow::states "$job")"; then return 1; fi
  done
}

# drill::wait_for_end   Sets states.
drill::wait_for_end() {
  while :; do
    if [[ -e $work/cancelled ]]; then exit 1; fi
    states=$(follow::states "$job")
    if ! follow::is_live "$states"; then
      # Where a site forbids requeueing, another job continues this one (interruption.sh).
      if [[ $(<"$run_directory/job_id") == "$job" ]]; then break; fi
      job=$(<"$run_directory/job_id")
    fi
    sleep "$((SECONDS < 120 ? 1 : 15))" # the job may wait in the queue for hours
  done
  if [[ -z $states && -e $run_directory/task_1/exit_status ]]; then # forgotten by Slurm
    states="exit status $(<"$run_directory/task_1/exit_status")"
    if [[ $states == *' 0' ]]; then states=COMPLETED; fi
  fi
}

# drill::strike   Brings the fault, and writes down in the run directory (drill) when, in which attempt, and whether
# there was a checkpoint. Status 1 when it cannot, as when the job is over.
drill::strike() {
  local -a attempts=("$run_directory"/task_1/attempt_*)
  local -r attempt=$((${#attempts[@]} - 1))
  local -r checkpoints=${run_directory%/hpc_outputs/*}/${prefix}_$name/checkpoints
  local had_saved=0
  if [[ -n $(find "$checkpoints" ! -type d -print -quit) ]]; then had_saved=1; fi
  printf '%s %s\n' "$attempt" "$had_saved" | common::write_atomically "$run_directory/drill"
  case $name in
    warning) scancel --batch --signal=USR1 "$job" ;; # as Slurm does before the time limit (--grace-seconds)
    sigterm) drill::signal_ranks ;;
    kill) drill::kill_rank ;;
    node) drill::kill_node ;;
  esac || {
    common::note "$name: the fault could not be brought to job $job: see above"
    rm -f -- "$run_directory/drill"
    return 1
  }
}

# What the ranks get first when a job is preempted.
drill::signal_ranks() {
  local step
  step=$(drill::step_of_ranks)
  [[ -n $step ]] && scancel --signal=TERM "$step"
}

# The last rank: many programs have one that does more than the others, the first.
drill::kill_rank() {
  local ranks
  ranks=$(sed -nE 's/^.*rank [0-9]+ of ([0-9]+): node .*/\1/p' "$run_directory/task_1/log.txt" | sed -n '$p')
  drill::on_nodes "$(<"$run_directory/task_1/attempt_$attempt/nodes")" rank "$run_directory/task_1/attempt_$attempt" "$((ranks - 1))"
}

# As near as one comes to it without being the site: of the job's last node (that of the batch script, where there is
# one only) all processes of the ranks' step, and what Slurm then does, a requeue.
drill::kill_node() {
  local node step
  local -r deadline=$((SECONDS + 60))
  node=$(scontrol show hostnames "$(<"$run_directory/task_1/attempt_$attempt/nodes")" | sed -n '$p')
  step=$(drill::step_of_ranks)
  drill::on_nodes "$node" node "$job" "${step##*.}" || return 1
  # Refused for the moment in which Slurm clears up what has failed of it.
  until scontrol requeue "$job" 2>"$work/$name/messages"; do
    if ((SECONDS >= deadline)); then
      common::note "$name: scontrol requeue: $(<"$work/$name/messages")"
      return
    fi
    sleep 1
  done
}

# drill::on_nodes NODES WORD...   drill_kill.py WORD... there. Its own status tells nothing: the job may end before it.
drill::on_nodes() {
  local killed
  local -a each
  mapfile -t each < <(scontrol show hostnames "$1")
  killed=$(timeout 120 srun --jobid="$job" --overlap --mem=0 --cpus-per-task=1 --gres=none --nodelist="$1" \
    --nodes="${#each[@]}" --ntasks="${#each[@]}" --ntasks-per-node=1 python3 - "${@:2}" <"$here/drill/drill_kill.py") || true
  [[ -n $killed ]] || return 1
  common::note "$name: ${killed//$'\n'/; }"
}

drill::step_of_ranks() {
  local id found answer
  slurm::ask answer 60 squeue --all --steps --noheader --jobs="$job" --format='%i %j' || return 0
  while read -r id found; do
    if [[ $found == ranks ]]; then printf '%s\n' "$id"; fi
  done <<<"$answer"
}

# When a loss differs, a second uninterrupted run tells whether the program does so by itself.
drill::judge() {
  local status=0
  local -r report=${uninterrupted%/*}/$prefix.txt
  python3 "$here/drill/drill.py" judge "$work" "${options_value[tolerance]}" >"$report" || status=$?
  if ((status == 3)); then
    common::note 'a loss differs: without a fault once more, to see whether the program itself is deterministic'
    drill::run_all uninterrupted_again
    drill::remove_checkpoints uninterrupted_again
    status=0
    python3 "$here/drill/drill.py" judge "$work" "${options_value[tolerance]}" >"$report" || status=$?
  fi
  cat -- "$report"
  local -a passed
  mapfile -t passed <"$work/passed"
  drill::remove_checkpoints "${passed[@]}"
  if ((status != 0)); then
    common::note "the checkpoints of what did not pass, to be looked at and removed: ${uninterrupted%/hpc_outputs/*}/${prefix}_*"
  fi
  common::note "this report, and the logs: $report  ${report%.txt}_*"
  exit "$status"
}

# drill::remove_checkpoints NAME...   Of runs that are of no more use.
drill::remove_checkpoints() {
  local -r scratch=${uninterrupted%/hpc_outputs/*}
  local name
  for name in "$@"; do
    rm -rf -- "${scratch:?}/${prefix:?}_$name" "$scratch/hpc_outputs/.${prefix}_$name.lock"
  done
}

# drill::cancel STATUS   What is being sent is let go, or is cancelled when it has been.
drill::cancel() {
  local name kind said="the drill's jobs are cancelled; "
  trap '' INT TERM HUP
  : >"$work/cancelled"
  while [[ -n $(jobs -pr) ]]; do
    cat -- "$work"/*/submitter 2>/dev/null | xargs --no-run-if-empty kill -s TERM 2>/dev/null || true
    sleep 0.2
  done
  for name in uninterrupted uninterrupted_again warning sigterm kill node; do
    for kind in '' pack_; do slurm::cancel 10 --user="$(id -un)" --name="$kind${prefix}_$name" || said=''; done
  done
  common::note "${said}what it has left lies in ${SCRATCH:-SCRATCH}: folders of the name ${prefix}_*"
  exit "$1"
}

main "$@"
