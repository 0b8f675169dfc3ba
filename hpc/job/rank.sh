#!/usr/bin/env bash
# rank.sh KIT ATTEMPT_DIRECTORY
#
# Started by the launcher, once for each rank: says who it is, runs the experiment's command, and keeps
# the status of the first rank that fails, which neither torchrun nor srun hands on. What the rank prints goes on to
# the launcher, and so to log.txt, and into a file of its own, task_N/rank_RANK.txt.
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
    # Signals reach the command by themselves (torchrun and Slurm send them to all processes of a rank);
    # this shell stays to take its status. ABRT: the program shows its stacks (interruption.sh). PIPE: the writer
    # of the log was killed with the program.
    trap : TERM INT HUP USR1 USR2 ABRT PIPE
    export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}${source_dir:?} # for a program in a folder of the project
    rank::note_meetings
    rank::keep_path
    "${words[@]}" {launchers}>&- || status=$?
  else
    status=2
  fi
  rank::close_log
  # 75: it has saved, and shall go on later. To the launcher that is an end like any other: a failure would have
  # it kill the ranks that are still saving. But without a record it would be taken for a success.
  if ((status != 0)) && rank::record_failure "$status" && ((status == 75)); then status=0; fi
  exit "$status"
}

# Where the ranks are to know each other (meeting.sh), Python notes whether they do: hook/sitecustomize.py.
rank::note_meetings() {
  if [[ ! -d $attempt_directory/ranks ]]; then return; fi
  export RANK_RECORD=$attempt_directory/ranks/$RANK PYTHONPATH=$kit/hpc/job/hook:$PYTHONPATH
}

# A line that sets PYTHONPATH itself (env PYTHONPATH=src python …) adds to it.
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

# rank::keep_log FILE   The writer ends with its input, not by the signals that are meant for the program.
rank::keep_log() {
  exec {launchers}>&1
  if ! { printf '== attempt %s\n' "${attempt_directory##*_}" >>"$1"; } 2>/dev/null || ! common::has_command tee; then return; fi
  exec > >(trap '' TERM INT HUP QUIT ABRT ALRM USR1 USR2 && exec tee -a -- "$1") 2>&1
  writer=$!
}

# When this shell has gone Slurm kills what is left, with what it has not written yet. A process that the program has
# left behind still holds the writer's input: it is not waited for long. What is said from here on goes past the writer.
rank::close_log() {
  local -i try
  exec >&"$launchers" 2>&1
  if [[ -z $writer ]]; then return; fi
  for ((try = 0; try < 200; try++)); do
    if ! kill -0 "$writer" 2>/dev/null; then return; fi
    sleep 0.01
  done
}

# CUDA shows a process one MIG slice, the first of its list: each rank of a node gets one of its own, which is its device 0.
rank::choose_slice() {
  local -a slices
  IFS=, read -ra slices <<<"${CUDA_VISIBLE_DEVICES:-}"
  if [[ ${slices[0]:-} == MIG-* ]] && ((${LOCAL_WORLD_SIZE:-1} > 1)); then
    export CUDA_VISIBLE_DEVICES=${slices[LOCAL_RANK % ${#slices[@]}]}
  fi
}

# Those that this process may use; nproc alone would tell OMP_NUM_THREADS.
rank::cpus() {
  env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc
}

# The first rank to fail is the cause; the ranks that it takes along come later. Status 1 when nothing can be written. The
# signals that come at the end of a job must not end a command in between.
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
