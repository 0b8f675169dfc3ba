# shellcheck shell=bash
# Small jobs that each write a report into a folder that all nodes share: the login side of doctor.sh and clean_nodes.sh.

declare -gA options_value site
declare -g node_job_folder
declare -gA node_job_id+=()    # report -> its job, for the jobs that are not done
declare -gA node_job_ended+=() # report -> when its job was first seen to have ended

# node_job::open FOLDER SCRATCH NAME   Sets FOLDER to the folder of the reports. Status 1 if it cannot be created. From here to
# node_job::close, signals end the script, whose EXIT trap calls it.
node_job::open() {
  node_job_folder=$(mktemp -d -- "$2/.$3.XXXXXX" 2>/dev/null) || return
  printf -v "$1" '%s' "$node_job_folder"
  trap node_job::close EXIT
  common::end_on_signals
}

# node_job::close   Cancels the jobs that are not done, and removes the reports.
node_job::close() {
  trap '' HUP INT TERM
  if ((${#node_job_id[@]} > 0)); then slurm::cancel 10 "${node_job_id[@]}" || true; fi
  rm -rf -- "$node_job_folder"
  node_job_id=()
  trap - EXIT HUP INT TERM
}

# node_job::gpu_option VARIABLE TYPE   Sets VARIABLE to the option by which such a job asks for GPUs: one GPU of this type (which may be
# empty), or the fewest that the site accepts. VARIABLE becomes empty if the site has no option for their number.
node_job::gpu_option() {
  local node_job_word
  local -i node_job_gpus=0
  for node_job_word in ${site[gpu_counts]:-}; do
    if [[ $node_job_word == *:* && -n $2 && ${node_job_word%:*} != "${2,,}" ]]; then continue; fi
    if ((node_job_gpus == 0 || ${node_job_word##*:} < node_job_gpus)); then node_job_gpus=${node_job_word##*:}; fi
  done
  site::gpu_option "$1" "$((node_job_gpus > 0 ? node_job_gpus : 1))" "$2"
}

# node_job::send JOB REPORT GPU_OPTION OPTION... SCRIPT ARGUMENT...   Submits the job to one node, with the partition, account, QOS,
# constraint and reservation of the options. If Slurm refuses, tries again with GPU_OPTION (node_job::gpu_option) unless it is empty: some partitions
# accept only jobs with GPUs. Sets JOB to the job id, or to the reason for failure. Statuses are those of sending::send.
node_job::send() {
  local node_job_first node_job_status=0
  node_job::try "$1" "$2" '' "${@:4}" || node_job_status=$?
  # Status 2: Slurm did not answer and may have the job.
  if ((node_job_status == 1)) && [[ -n $3 ]]; then
    node_job_first=${!1} node_job_status=0
    node_job::try "$1" "$2" "$3" "${@:4}" || node_job_status=$?
    if ((node_job_status == 1)) && [[ ${!1} != "$node_job_first" ]]; then
      printf -v "$1" '%s' "${!1} (with $3; without GPUs: $node_job_first)"
    fi
  fi
  return "$node_job_status"
}

# node_job::try JOB REPORT GPU_OPTION OPTION...   Like node_job::send, but once.
node_job::try() {
  local -a argv=(sbatch --parsable --nodes=1 --ntasks=1 --cpus-per-task=1 --propagate=NONE --chdir="$node_job_folder" --output=/dev/null)
  local name memory=${site[memory_request]:-mem} gpus=0 status=0
  if [[ -n $3 ]]; then
    argv+=("$3")
    gpus=${3##*[:=]}
  fi
  if [[ " ${site[ignored]:-} " == *' mem_per_gpu '* ]]; then memory=none; fi # as for any other job that gives no memory
  site::add_memory argv "$memory" 256 1 "$gpus"
  for name in partition account qos constraint reservation; do
    if [[ -n ${options_value[$name]:-} ]]; then argv+=("--$name=${options_value[$name]}"); fi
  done
  sending::hold_signals # until the job id is known
  sending::send "$1" "$node_job_folder" "$2" "${argv[@]}" "${@:4}" || status=$?
  if ((status == 0)); then node_job_id[$2]=${!1}; fi
  common::end_on_signals
  if sending::was_interrupted; then exit 130; fi
  return "$status"
}

# node_job::poll STATES   Waits a moment, then fills the associative array: for each missing report, STATE|REASON of its job. STATE is
# unknown while Slurm does not answer. It is `gone` ten seconds after the job has ended, because a network file system may show the
# report late. Status 1 when all jobs are done.
node_job::poll() {
  local -n node_job_states=$1
  local answer report ids state silent=''
  node_job_states=()
  if ((${#node_job_id[@]} == 0)); then return 1; fi
  sleep "$((SECONDS < 15 ? 0 : SECONDS < 120 ? 2 : 15)).3" # a busy node may answer hours later
  printf -v ids '%s,' "${node_job_id[@]}"
  if ! slurm::ask answer 0 squeue --all --noheader --jobs="${ids%,}" --format='%A|%T|%r' && [[ $answer != *'Invalid job id'* ]]; then silent=1; fi
  for report in "${!node_job_id[@]}"; do
    state='ended|'
    if [[ -n $silent ]]; then
      state='unknown|'
    elif [[ $'\n'$answer =~ $'\n'"${node_job_id[$report]}|"([^$'\n']*) ]]; then
      state=${BASH_REMATCH[1]}
      unset "node_job_ended[$report]"
    else
      node_job_ended[$report]=${node_job_ended[$report]:-$SECONDS}
      if ((SECONDS - node_job_ended[$report] >= 10)); then state='gone|'; fi
    fi
    if [[ -e $node_job_folder/$report || $state == 'gone|' ]]; then unset "node_job_id[$report]"; fi
    if [[ ! -e $node_job_folder/$report ]]; then node_job_states["$report"]=$state; fi
  done
  ((${#node_job_states[@]} > 0))
}
