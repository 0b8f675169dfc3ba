# shellcheck shell=bash
# batch.sh's side of keep_node.sh: one task on each node, in a step beside the ranks' step. The tasks end when
# their input ends, also if this script is killed.

declare -gA fact+=()
declare -ga allocation_nodes+=()
declare -g keeper_process='' keeper_answers='' keeper_orders='' keeper_step_PID # the last is set by coproc

# keeper::start KIT RUN_DIRECTORY ATTEMPT_DIRECTORY   Returns when every node has its folder and its data; status 1
# if one node fails.
keeper::start() {
  local -r kit=$1 run_directory=$2 attempt_directory=$3
  local answer way
  local -i missing=0 node
  local -A folders=()
  if [[ -n $keeper_process ]]; then return; fi # started by an earlier attempt of the same job
  # If the site makes the folder, and there is nothing to bring or collect, no task is needed.
  if [[ -n ${SLURM_TMPDIR:-} && -z ${fact[here]:-} && ! -e $run_directory/staging && ! -e $run_directory/collect ]]; then return; fi
  way=$(keeper::way)
  coproc keeper_step {
    # Beside the ranks' step: it may use all of the job's CPUs before the ranks start. (SLURM_OVERLAP: see batch.sh)
    SLURM_OVERLAP=1 step::run "$attempt_directory" kept \
      srun --job-name=keeper "${allocation_nodes[@]}" --nodes="${fact[nodes]}" --ntasks="${fact[nodes]}" --ntasks-per-node=1 --cpus-per-task="${fact[cpus]}" \
      --mem=0 --export=ALL --kill-on-bad-exit=0 --wait=0 \
      bash "$kit/hpc/job/keep_node.sh" "$run_directory" "$attempt_directory" "$way"
  }
  keeper_process=$keeper_step_PID
  # Copy the descriptors, because bash unsets the array when the step has ended. The input must stay as coproc made it, closed for
  # the programs that this script starts: the nodes wait for its end.
  exec {keeper_answers}<&"${keeper_step[0]}"
  keeper_orders=${keeper_step[1]}
  # With --here the task cleans the nodes at the end. If it has nothing to bring, the ranks need not wait for it (node.sh).
  if [[ -n ${fact[here]:-} && ! -e $run_directory/staging ]]; then return; fi

  for ((node = 0; node < fact[nodes]; node++)); do
    keeper::read_answer answer prepared
    missing+=${answer%% *}
    folders[${answer#* }]=1
  done
  if ((missing > 0)) && [[ $way == sbcast ]]; then
    ((${#folders[@]} == 1)) || common::die "the nodes name their local folders differently: submit with --broadcast read"
    keeper::broadcast "$run_directory" "${!folders[@]}"
  fi
  printf 'unpack\n' >&"$keeper_orders"
  for ((node = 0; node < fact[nodes]; node++)); do keeper::read_answer answer ready; done
}

# keeper::read_answer VARIABLE WORD   Reads the next answer, which must begin with WORD, and sets VARIABLE to the rest of it.
keeper::read_answer() {
  local line
  while read -r line <&"$keeper_answers" || line='keep_node: the step has ended'; do
    if [[ $line == *'keep_node: '* ]]; then break; fi
    printf '%s\n' "$line" # output of a prolog
  done
  line=${line##*keep_node: }
  [[ $line == "$2"* ]] || common::die "the nodes could not be made ready ($line): see above"
  line=${line#"$2"}
  printf -v "$1" '%s' "${line# }"
}

# Chooses whether each node reads the archives from the shared file system, or one node reads and Slurm distributes them. This is the
# only place that decides. Reading was three times as fast on 4 nodes (tests/benchmarks/README.md). But a shared file system
# must serve all nodes at once, and many are slow at that.
keeper::way() {
  case ${fact[broadcast]} in
    auto) if ((fact[nodes] > 8)); then echo sbcast; else echo read; fi ;;
    *) printf '%s\n' "${fact[broadcast]}" ;;
  esac
}

# keeper::broadcast RUN_DIRECTORY FOLDER   Sends all archives at the same time: sbcast is limited by the one CPU that hashes
# each message, and waits until the nodes have the message before it sends the next.
keeper::broadcast() {
  local kind key format path part process
  local -A sending=() # process -> the file that it sends
  while LC_ALL=C IFS= read -r -d '' kind && LC_ALL=C IFS= read -r -d '' key && LC_ALL=C IFS= read -r -d '' format && LC_ALL=C IFS= read -r -d '' path; do
    if [[ $kind == image ]]; then
      keeper::send "$path" "$2/.hpc_kit/archives/$key.$format"
      continue
    fi
    for part in "${fact[scratch_dir]}/.staging/$key.$format"{,.[2-9]}; do
      if [[ -e $part ]]; then keeper::send "$part" "$2/.hpc_kit/archives/${part##*/}"; fi
    done
  done <"$1/staging"
  for process in "${!sending[@]}"; do
    common::wait "$process" || common::die "sbcast of ${sending[$process]@Q} failed: submit with --broadcast read"
  done
}

# keeper::send FILE TARGET   Runs sbcast in the background, because a trap waits for a foreground command, and adds its process to
# `sending` of keeper::broadcast. Retries if the controller does not answer.
keeper::send() {
  (
    trap - EXIT
    for pause in 5 15 45 60 0; do
      status=0
      words=$(sbcast --force -- "$1" "$2" 2>&1) || status=$?
      if ((status == 0 || pause == 0)) || ! slurm::is_silence "$status" "$words"; then break; fi
      common::sleep "$pause"
    done
    if [[ -n $words ]]; then common::note "$words"; fi
    exit "$status"
  ) &
  sending[$!]=$1
}

# keeper::leave   Makes the nodes collect and remove; returns when they are done.
keeper::leave() {
  if [[ -z $keeper_process ]]; then return; fi
  exec {keeper_orders}>&-
  common::wait "$keeper_process" || true
  keeper_process=''
}
