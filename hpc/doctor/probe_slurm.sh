# shellcheck shell=bash
# The checks of doctor.sh on Slurm: each function checks one thing and reports what it found.

declare -gA options_value options_source site slurm
declare -g probe_slurm_kill_wait=10 # seconds that ranks need to leave, or to save a small model

# probe_slurm::all PARTITION GPU_OPTION   Sets the variables to the partition that was checked and to the way to ask for one of its
# GPUs. They are empty if there is no partition, or no GPU.
probe_slurm::all() {
  local -a groups=()
  local shown=''
  probe_slurm::limits
  probe_slurm::accounting
  probe_slurm::partition "$1" groups shown || return 0
  findings::about "${!1}"
  probe_slurm::gpus "$2" "${!1}" "${groups[@]}"
  probe_slurm::nodes "${!1}"
  probe_slurm::preemption "$shown"
}

# Checks the version, MaxArraySize and KillWait.
probe_slurm::limits() {
  local -r version=${slurm[SLURM_VERSION]:-unknown} most=${slurm[MaxArraySize]:-unknown} wait=${slurm[KillWait]:-unknown}
  local -r limit=${most//[!0-9]/} seconds=${wait//[!0-9]/}
  local old=ok small=ok
  if [[ $version =~ ^([0-9]+)\. ]] && ((BASH_REMATCH[1] < 22)); then old=note; fi
  if ((${limit:-1001} <= 100)); then small=note; fi
  findings::add "$old" slurm "$version, cluster ${slurm[ClusterName]:-unknown}, profile ${site[name]}" \
    'the kit is tested with 22.05 and later: try  bash hpc/drill.sh  first'
  findings::add "$small" arrays "MaxArraySize=$most, MaxJobCount=${slurm[MaxJobCount]:-unknown}" \
    "more than $((limit > 1 ? limit - 1 : 1)) tasks become several arrays, or jobs; for longer ones ask the site for MaxArraySize=1001"
  findings::judge "$((${seconds:-$probe_slurm_kill_wait} >= probe_slurm_kill_wait))" kill_wait "${seconds:-unknown} s between SIGTERM and SIGKILL" \
    problem "KillWait=$seconds s, the time between SIGTERM and SIGKILL: too short to save, or to leave a node clean" \
    'ask the site for KillWait=30; until then let the program save every few minutes, and use --grace-seconds'
}

# probe_slurm::requeue 0|1|quick   Judges whether a job that asked for --requeue got it. (JobRequeue holds for jobs that do not ask.)
probe_slurm::requeue() {
  local -r default="JobRequeue=${slurm[JobRequeue]:-unknown}"
  case $1:${slurm[JobRequeue]:-} in
    quick:1) findings::add ok requeue_default "$default" ;;
    quick:*) findings::add note requeue_default "$default" 'jobs come back after an interruption only if the site grants --requeue: without --quick a job tries it' ;;
    0:*) findings::add problem requeue "$default, and a job that asked for --requeue did not get it: jobs cannot be put back into the queue" \
      'ask the site to allow it; until then a new job, which queues again, continues each interrupted one, except after a node failure: then  bash hpc/experiments.sh resubmit JOB' ;;
    1:1) findings::add ok requeue "$default" ;;
    *) findings::add note requeue "$default, but a job that asks for --requeue gets it, and the kit's jobs ask" 'jobs that you send without the kit need  sbatch --requeue' ;;
  esac
}

probe_slurm::accounting() {
  local accounts level=ok
  if [[ ${slurm[AccountingStorageType]:-} != */slurmdbd ]]; then
    findings::add ok accounting 'none: sacct shows nothing, and the kit does not need it'
  elif ! slurm::ask_accounts accounts; then
    findings::add note accounting "slurmdbd; sacctmgr does not list your accounts: $accounts" 'later: jobs need it only where an account must be named'
  else
    if [[ $accounts == *' '* && -z ${options_value[account]} ]]; then level=note; fi
    findings::add "$level" accounting "slurmdbd${accounts:+, your accounts: $accounts}" 'say which one pays:  export HPC_ACCOUNT=…  in ~/.bashrc, or --account'
  fi
}

# probe_slurm::partition PARTITION GROUPS SHOWN   Sets the variables to the partition that is checked, its groups (partitions.sh), and
# scontrol's output about it. Status 1: there is no partition, and PARTITION is empty.
probe_slurm::partition() {
  local -n partition_looked_at=$1 partition_groups=$2 partition_shown=$3
  local value level=ok wrong=''
  partition_looked_at=${options_value[partition]}
  if ! partitions::read "$2"; then
    wrong="sinfo: ${partition_groups[0]}"
  elif ! partitions::choose "$1" "$2"; then
    wrong=$partition_looked_at
  fi
  if [[ -n $wrong ]]; then
    partition_looked_at=''
    findings::add problem partition "$wrong" 'set site[partition] in the profile, HPC_PARTITION, or give --partition'
    return 1
  fi
  slurm::ask "$3" 10 scontrol --oneliner show partition "${partition_looked_at%%,*}" || partition_shown=''
  findings::about "$partition_looked_at"
  value="$partition_looked_at: $(partitions::offers "${partition_groups[@]}"), $(slurm::field MaxMemPerNode "$partition_shown") MB a job and node"
  if [[ ${partition_groups[-1]##*|} != up ]]; then level=problem value+="; it is ${partition_groups[-1]##*|}"; fi
  findings::add "$level" partition "${value//UNLIMITED MB a job and node/any memory of it}" 'jobs wait until it is up: take another by --partition'
}

# probe_slurm::gpus GPU_OPTION PARTITION GROUP...   Sets the variable GPU_OPTION to the way to ask for one GPU; empty without GPUs.
probe_slurm::gpus() {
  local -r asked=${options_value[gpu_type]}
  local -A gpus=()
  local known name type fix='leave site[gpu_type] empty'
  local -rA whose=([option]='--gpu-type says' [environment]='HPC_GPU_TYPE says' [site]="the profile ${site[name]} says")
  partitions::gpus gpus "${@:3}"
  local -r most=${gpus[all]}
  unset 'gpus[all]'
  known=$(printf '%s\n' "${!gpus[@]}" | LC_ALL=C sort | paste -sd ' ')
  type=${known%% *}
  for name in $known; do
    if [[ ${name,,} == "${asked,,}" ]]; then type=$name; fi
  done
  if ((most > 0)); then node_job::gpu_option "$1" "$type"; fi
  if [[ -n $known ]]; then fix="set site[gpu_type]=${known%% *}"; fi
  if ((most == 0)); then
    findings::add note gpus "none in partition $2" 'for jobs without GPUs give --gpus 0; for others another --partition'
  elif [[ -n $asked && " ${known,,} " != *" ${asked,,} "* ]]; then
    findings::add problem gpus "${whose[${options_source[gpu_type]}]} $asked, and partition $2 has ${known:-GPUs without a type}" \
      "$fix in ~/.config/hpc_kit/clusters/${site[name]}.sh, or HPC_GPU_TYPE"
  else
    findings::add ok gpus "$most a node${known:+, of type $known}"
  fi
}

# probe_slurm::nodes PARTITION   Checks how many of its nodes take jobs.
probe_slurm::nodes() {
  local shown node state reason bad='' level=note number fix
  local -i all=0 bads=0
  if ! slurm::ask shown 15 sinfo --noheader --Node --partition="$1" --format='%N|%T|%E'; then
    findings::add note nodes "sinfo: $shown" 'try again later'
    return
  fi
  fix='jobs wait for the others; ask the site when they come back (on a cluster of your own:  scontrol update nodename=… state=resume)'
  while IFS='|' read -r node state reason; do
    all+=1
    if partitions::takes_jobs "$state"; then continue; fi
    bads+=1
    if ((bads <= 5)); then bad+="${bad:+, }$node $state ($reason)"; fi
  done < <(sort -u <<<"$shown")
  if ((bads > 5)); then bad+=', …'; fi
  number="$bads of $all take no"
  if ((bads == all)); then level=problem number="none of $all takes" fix='take another --partition, or ask the site'; fi
  findings::judge "$((bads == 0))" nodes "all $all take jobs" "$level" "$number jobs: $bad" "$fix"
}

# probe_slurm::preemption SHOWN   Judges the preemption mode. SHOWN is scontrol's output about the partition.
probe_slurm::preemption() {
  local -r type=${slurm[PreemptType]:-preempt/none}
  local mode grace
  mode=$(slurm::field PreemptMode "$1")
  grace=$(slurm::field GraceTime "$1")
  case $type:$mode in
    preempt/none:*) findings::add ok preemption none ;;
    preempt/partition_prio:CANCEL) findings::add note preemption "PreemptMode=CANCEL, GraceTime=$grace s: preempted jobs do not come back" 'bash hpc/experiments.sh resubmit JOB  when one was preempted, or take a partition that requeues' ;;
    preempt/partition_prio:REQUEUE)
      findings::judge "$((grace >= probe_slurm_kill_wait))" preemption "PreemptMode=REQUEUE, GraceTime=$grace s" \
        note "PreemptMode=REQUEUE, GraceTime=$grace s: preempted jobs come back, and have no time to save" 'let the program save every few minutes'
      ;;
    preempt/partition_prio:*) findings::add ok preemption "PreemptMode=$mode" ;;
    *) findings::add ok preemption "$type: by the quality of service (--qos)" ;;
  esac
}
