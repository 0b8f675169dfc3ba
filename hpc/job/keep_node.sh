#!/usr/bin/env bash
# keep_node.sh RUN_DIRECTORY ATTEMPT_DIRECTORY read|sbcast
#
# Keeps the job's folder on one node's own disk. batch.sh starts it in a separate step, once for each node, before the
# ranks, and it stays as long as they do. It makes the folder and brings the data. At the end, after success or failure,
# it collects results and removes the folder. It reads orders from standard input and writes answers to standard output
# (lib/keeper.sh), where the site's prolog may also print:
#
#   keep_node: prepared N FOLDER     the folder exists, N entries are missing       next order: unpack
#   keep_node: ready                 all data have arrived, as they were packed     end of input: the job is over
#   keep_node: failed                it failed; the log has the reason
set -euo pipefail
shopt -s inherit_errexit

exec {answers}>&1 1>&2 # output of modules and the like is not an answer
run_directory=$1 attempt_directory=$2 way=$3
declare -A fact
# shellcheck source=/dev/null
source "$run_directory/facts"
kit=$run_directory/kit
source "$kit/hpc/lib/common.sh"
source "$kit/hpc/lib/slurm.sh"
source "$kit/hpc/lib/site.sh"
source "$kit/hpc/job/lib/step.sh"
source "$kit/hpc/job/lib/node_setup.sh"
source "$kit/hpc/job/lib/local_disk.sh"
source "$kit/hpc/job/lib/leftovers.sh"
source "$kit/hpc/lib/packing.sh"
source "$kit/hpc/job/lib/plan.sh"
source "$kit/hpc/job/lib/unpacking.sh"
source "$kit/hpc/job/lib/container_image.sh"
source "$kit/hpc/job/lib/collecting.sh"

ours='' leaving='' bringing=''

main() {
  local order
  step::note_begin "$attempt_directory" kept
  node_setup::run "$kit/hpc" "$run_directory"
  plan::read "$run_directory/staging"
  trap 'keep_node::answer failed; keep_node::leave' EXIT
  trap keep_node::handle_end TERM
  trap 'exit 143' USR1 # with --here, if batch.sh was killed: the step and the job continue without it
  keep_node::make_folder
  keep_node::look
  unpacking::check_space "$way"
  keep_node::answer "prepared $((${#plan_kinds[@]} - ${#plan_there[@]})) $SLURM_TMPDIR"
  if read -r order && [[ $order == unpack ]]; then
    # Run it in the background, because a trap waits for a foreground command; and in a process group, so that it can be
    # ended with all that it has started.
    set -m
    keep_node::bring &
    bringing=$!
    set +m
    common::wait "$bringing"
    bringing=''
    keep_node::answer ready
    while read -r _; do :; done
  fi
  trap - EXIT
  keep_node::leave
}

keep_node::answer() {
  printf 'keep_node: %s\n' "$1" >&"$answers"
}

keep_node::make_folder() {
  local leftover reason=''
  local -a leftovers=()
  if local_disk::choose; then
    ours=1
    local_disk::make
    leftovers::find leftovers reason "${SLURM_TMPDIR%/*}" || common::note "$(common::node): $reason"
    if [[ -n ${fact[here]:-} ]]; then leftovers::add_earlier leftovers; fi
    for leftover in "${leftovers[@]}"; do
      common::note "$(common::node): removing $leftover, which a job of yours has left"
      if [[ -e $leftover/.hpc_kit/began ]]; then leftovers::remove_shared_memory "$leftover/.hpc_kit/began"; fi
      local_disk::erase "$leftover" || true
    done
  fi
  mkdir -p -- "$SLURM_TMPDIR/.hpc_kit/archives"
  if [[ -z ${fact[here]:-} ]]; then : >"$SLURM_TMPDIR/.hpc_kit/began"; fi # else local_disk::make has created it, because the ranks may have started
}

keep_node::look() {
  local -i entry
  rm -f -- "$SLURM_TMPDIR/.hpc_kit/images"
  for ((entry = 0; entry < ${#plan_kinds[@]}; entry++)); do
    if keep_node::is_there "$entry"; then
      plan_there[entry]=1
      if [[ ${plan_kinds[entry]} != image ]]; then common::note "$(common::node): ${plan_paths[entry]@Q} is there from an earlier attempt"; fi
    fi
  done
}

keep_node::is_there() {
  if [[ ${plan_kinds[$1]} == image ]]; then container_image::is_settled "$1"; else unpacking::is_there "$1"; fi
}

keep_node::bring() {
  local -i entry
  trap - EXIT
  trap '' TERM # also for tar and similar: keep_node::handle_end decides
  for ((entry = 0; entry < ${#plan_kinds[@]}; entry++)); do
    if [[ -z ${plan_there[entry]:-} && ${plan_kinds[entry]} == image ]]; then
      container_image::bring "$entry" "$way"
    elif [[ -z ${plan_there[entry]:-} ]]; then
      unpacking::bring "$entry" "$way"
    elif [[ ${plan_formats[entry]} == squashfs ]]; then
      plan::load "$entry"
      unpacking::mount "$entry" || common::die "$(common::node): cannot mount ${plan_image@Q} again"
    fi
    if [[ ${plan_kinds[entry]} == environment ]]; then unpacking::make_environment; fi
  done
}

# Slurm's signal comes at the end of the job, but also when a job gets some time before it is preempted. Then the job is
# still running, and the ranks need their data until they end. The same holds if Slurm does not answer. batch.sh closes the
# input of this script when the ranks have ended.
keep_node::handle_end() {
  local state status=0
  trap '' TERM # both Slurm and srun send it
  slurm::ask state 5 squeue --all --noheader --jobs="$SLURM_JOB_ID" --format=%T || status=$?
  if [[ -z $leaving && $state != RUNNING ]] && ((status != 2)); then exit 143; fi
  if [[ -z $leaving ]]; then trap keep_node::handle_end TERM; fi
}

# Slurm kills the remaining processes after KillWait. Half of that time is for the ranks, and a moment for their end.
keep_node::leave() {
  local IFS=$' \t\n' # the command that the signal interrupted may have set another IFS
  leaving=1
  trap '' TERM
  if [[ -n $bringing ]]; then
    kill -s KILL -- "-$bringing" 2>/dev/null || true
    wait "$bringing" || true
  fi
  if [[ ! -d $SLURM_TMPDIR/.hpc_kit ]]; then return; fi
  local_disk::wait_until_free "$((fact[kill_wait] * 2 / 3))"
  leftovers::remove_shared_memory "$SLURM_TMPDIR/.hpc_kit/began"
  (collecting::collect "$run_directory" "$attempt_directory") || common::warn "$(common::node): --collect failed"
  if [[ -n $ours ]]; then
    cd /
    local_disk::erase "$SLURM_TMPDIR" || common::warn "$(common::node): could not remove all of $SLURM_TMPDIR; your next job here does, or hpc/clean_nodes.sh"
  else
    local_disk::unmount_below "$SLURM_TMPDIR"
  fi
}

main
