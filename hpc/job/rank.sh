#!/usr/bin/env bash
# rank.sh KIT ATTEMPT_DIRECTORY
#
# The launcher starts it, once for each rank. It prints which rank it is, runs the experiment's command, and records
# the status of the first rank that fails, which neither torchrun nor srun passes on. The rank's output goes to
# the launcher, and so to log.txt, and also to its own file, task_N/rank_RANK.txt.
set -euo pipefail
shopt -s inherit_errexit

kit=$1 attempt_directory=$2
source "$kit/hpc/lib/common.sh"
source "$kit/hpc/lib/files.sh"
source "$kit/hpc/lib/command.sh"

main() {
  local -a words
  local status=0 writer='' launchers='' node
  node=$(common::node)
  rank::choose_slice
  rank::keep_log "${attempt_directory%/*}/rank_${RANK:?}.txt"
  common::note "rank ${RANK:?} of ${WORLD_SIZE:?}: node $NODE_RANK, $node (${NODE_ADDRESS:?}), local rank ${LOCAL_RANK:?}, $(rank::cpus) CPUs, GPUs ${CUDA_VISIBLE_DEVICES:-${ROCR_VISIBLE_DEVICES:-${HIP_VISIBLE_DEVICES:-none}}}"
  if command::read "${attempt_directory%/*}/command" words; then
    # Signals reach the command directly (torchrun and Slurm send them to all processes of a rank); this shell stays to
    # take its status. ABRT makes the program print its stacks (interruption.sh). PIPE arrives if the writer of the log was
    # killed with the program.
    trap : TERM INT HUP USR1 USR2 ABRT PIPE
    export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}${source_dir:?} # for a program in a subfolder of the project
    rank::hook_python
    rank::keep_path
    "${words[@]}" {launchers}>&- || status=$?
  else
    status=2
  fi
  rank::close_log
  # Status 75: the program has saved, and continues later. Return 0 to the launcher, because at a failure it would kill
  # the ranks that are still saving. Without a record, that would count as success.
  if ((status != 0)) && rank::record_failure "$status" && ((status == 75)); then status=0; fi
  exit "$status"
}

# hook/sitecustomize.py: Python with torch starts faster, and records whether the ranks know each other if they must (meeting.sh).
rank::hook_python() {
  export PYTHONPATH=$kit/hpc/job/hook:$PYTHONPATH
  if [[ -d $attempt_directory/ranks ]]; then export RANK_RECORD=$attempt_directory/ranks/$RANK; fi
}

# Changes `words` of main: a line that sets PYTHONPATH itself (env PYTHONPATH=src python …) adds to it instead of replacing it.
rank::keep_path() {
  local -i i
  if [[ ${words[0]##*/} != env ]]; then return; fi
  for ((i = 1; i < ${#words[@]}; i++)); do
    case ${words[i]} in
      PYTHONPATH=*) words[i]+=:$PYTHONPATH ;;
      -* | [A-Za-z_]*=*) ;;
      *) break ;;
    esac
  done
}

# rank::keep_log FILE   The writer ends with its input, not by the signals that are sent to the program.
rank::keep_log() {
  exec {launchers}>&1
  if ! { printf '== attempt %s\n' "${attempt_directory##*_}" >>"$1"; } 2>/dev/null || ! common::has_command tee; then return; fi
  exec > >(trap '' TERM INT HUP QUIT ABRT ALRM USR1 USR2 && exec tee -a -- "$1") 2>&1
  writer=$!
}

# After this shell has gone, Slurm kills the remaining processes, with output that they have not written yet. A process that the program
# left behind still holds the writer's input, so do not wait for it for long. Messages after this point bypass the writer.
rank::close_log() {
  local -i try
  exec >&"$launchers" 2>&1
  if [[ -z $writer ]]; then return; fi
  for ((try = 0; try < 200; try++)); do
    if ! kill -0 "$writer" 2>/dev/null; then return; fi
    sleep 0.01
  done
}

# CUDA shows a process only one MIG slice, the first of its list. So each rank of a node gets its own slice, as device 0.
rank::choose_slice() {
  local -a slices
  IFS=, read -ra slices <<<"${CUDA_VISIBLE_DEVICES:-}"
  if [[ ${slices[0]:-} == MIG-* ]] && ((${LOCAL_WORLD_SIZE:-1} > 1)); then
    export CUDA_VISIBLE_DEVICES=${slices[LOCAL_RANK % ${#slices[@]}]}
  fi
}

# Prints the number of CPUs that this process may use; plain nproc would print OMP_NUM_THREADS.
rank::cpus() {
  env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc
}

# rank::record_failure STATUS   The first rank to fail is the cause; other ranks fail later because of it. `node` is that of main. Status
# 1 if nothing can be written. Signals at the end of a job must not interrupt a command in between.
rank::record_failure() {
  local recorded=0
  trap '' TERM INT HUP USR1 USR2
  files::create_once "$attempt_directory/failed_rank" <<<"$RANK $node $1" || recorded=$?
  case $recorded in
    0) if (($1 != 75)); then common::note "rank $RANK on $node failed first: exit status $1"; fi ;;
    2)
      common::warn "rank $RANK on $node: its exit status $1 cannot be written into $attempt_directory (is the disk or the quota full?)"
      return 1
      ;;
  esac
}

main
