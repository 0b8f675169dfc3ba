# shellcheck shell=bash
# What doctor.sh asks of Slurm: each function looks at one thing, and says what it found. Needs common.sh, options.sh,
# site.sh, preflight.sh and findings.sh.

declare -gA options_value options_source site slurm
declare -ga groups=()   # what sinfo shows of the partition (preflight.sh)
declare -g partition='' # the one that is looked at; empty when there is none
declare -g one_gpu=''   # how a job asks for one of its GPUs; empty when it has none

readonly probe_slurm_kill_wait=10 # seconds in which ranks can leave, and small models be saved

probe_slurm::all() {
  probe_slurm::version
  probe_slurm::arrays
  probe_slurm::kill_wait
  probe_slurm::accounting
  probe_slurm::partition || return 0
  findings::about "$partition"
  probe_slurm::gpus
  probe_slurm::nodes
  probe_slurm::preemption
}

probe_slurm::version() {
  local -r version=${slurm[SLURM_VERSION]:-unknown} profile="profile ${site[name]}"
  if [[ $version =~ ^([0-9]+)\. ]] && ((BASH_REMATCH[1] < 22)); then
    findings::add note slurm "$version, cluster ${slurm[ClusterName]:-unknown}, $profile" 'the kit is tested with 22.05 and later: try  bash hpc/drill.sh  first'
  else
    findings::add ok slurm "$version, cluster ${slurm[ClusterName]:-unknown}, $profile"
  fi
}

probe_slurm::arrays() {
  local -r most=${slurm[MaxArraySize]:-unknown}
  local -r value="MaxArraySize=$most, MaxJobCount=${slurm[MaxJobCount]:-unknown}"
  if [[ $most =~ ^[0-9]+$ ]] && ((most <= 100)); then
    findings::add note arrays "$value" "more than $((most > 1 ? most - 1 : 1)) tasks become several arrays, or jobs; for longer ones ask the site for MaxArraySize=1001"
  else
    findings::add ok arrays "$value"
  fi
}

probe_slurm::kill_wait() {
  local seconds=${slurm[KillWait]:-}
  seconds=${seconds%% *}
  if [[ $seconds =~ ^[0-9]+$ ]] && ((seconds < probe_slurm_kill_wait)); then
    findings::add problem kill_wait "KillWait=$seconds s, the time between SIGTERM and SIGKILL: too short to save, or to leave a node clean" \
      'ask the site for KillWait=30; until then let the program save every few minutes, and use --grace-seconds'
  else
    findings::add ok kill_wait "${seconds:-unknown} s between SIGTERM and SIGKILL"
  fi
}

# JobRequeue is what jobs get that do not ask, and the kit's ask. What a site grants is seen on a job.
probe_slurm::requeue_default() {
  local -r default="JobRequeue=${slurm[JobRequeue]:-unknown}"
  if [[ $default == *=1 ]]; then
    findings::add ok requeue_default "$default"
  else
    findings::add note requeue_default "$default: jobs come back after an interruption only if the site grants --requeue" 'without --quick a job tries it'
  fi
}

# probe_slurm::requeue 0|1   What a job was granted that asked for it.
probe_slurm::requeue() {
  local -r default="JobRequeue=${slurm[JobRequeue]:-unknown}"
  case $1:${slurm[JobRequeue]:-} in
    0:*) findings::add problem requeue "$default, and a job that asked for --requeue did not get it: jobs cannot be put back into the queue" \
      'ask the site to allow it; until then each interrupted job is continued by a new one, which queues anew, and none after a node failure: submit again with --resume' ;;
    1:1) findings::add ok requeue "$default" ;;
    *) findings::add note requeue "$default, but a job that asks for --requeue gets it, and the kit's jobs ask" 'jobs that you send without the kit need  sbatch --requeue' ;;
  esac
}

probe_slurm::accounting() {
  local accounts
  if [[ ${slurm[AccountingStorageType]:-} != */slurmdbd ]]; then
    findings::add ok accounting 'none: sacct shows nothing, and the kit does not need it'
    return
  fi
  accounts=$(timeout 15 sacctmgr --noheader --parsable2 show associations where "user=$(id -un)" format=account 2>/dev/null | sort -u | paste -sd ' ') || accounts=''
  if [[ $accounts == *' '* && -z ${options_value[account]} ]]; then
    findings::add note accounting "your accounts: $accounts" 'say which one pays:  export HPC_ACCOUNT=…  in ~/.bashrc, or --account'
  else
    findings::add ok accounting "slurmdbd${accounts:+, your accounts: $accounts}"
  fi
}

# Sets partition and groups; status 1 when there is none to speak of.
probe_slurm::partition() {
  local message cpus memory gres limit state nodes group value=''
  mapfile -t groups < <(timeout 15 sinfo --noheader --exact --format='%P|%D|%c|%m|%G|%l|%a' 2>/dev/null)
  partition=${options_value[partition]}
  if ! message=$(preflight::choose_partition 2>&1); then
    findings::add problem partition "${message#*: error: }" 'set site[partition] in the profile, HPC_PARTITION, or give --partition'
    return 1
  fi
  preflight::choose_partition 2>/dev/null
  for group in "${groups[@]}"; do
    IFS='|' read -r _ nodes cpus memory gres limit state <<<"$group"
    value+="${value:+; }$nodes nodes of $cpus CPUs, $memory MB, ${gres//(null)/no GPUs}, at most $limit"
  done
  findings::about "$partition"
  value="$partition: $value, $(probe_slurm::field MaxMemPerNode "$(probe_slurm::show_partition)") MB a job and node"
  value=${value//UNLIMITED MB a job and node/any memory of it}
  if [[ $state == up ]]; then
    findings::add ok partition "$value"
  else
    findings::add problem partition "$value; it is $state" "jobs wait until it is up: take another by --partition ($(timeout 15 sinfo --noheader --format=%R | paste -sd ' '))"
  fi
}

probe_slurm::show_partition() {
  timeout 15 scontrol --oneliner show partition "${partition%%,*}" 2>/dev/null || true
}

# probe_slurm::field NAME TEXT   The value in a line of scontrol's.
probe_slurm::field() {
  if [[ " $2" =~ [[:space:]]$1=([^[:space:]]*) ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; else echo unknown; fi
}

probe_slurm::gpus() {
  local -r asked=${options_value[gpu_type]}
  local group gres gpus known
  local -i most=0
  local -A types=()
  local -rA whose=([option]='--gpu-type says' [environment]='HPC_GPU_TYPE says' [site]="the profile ${site[name]} says")
  for group in "${groups[@]}"; do
    IFS='|' read -r _ _ _ _ gres _ <<<"$group"
    preflight::count_gpus "$gres"
    most=$((gpus > most ? gpus : most))
    for gres in ${gres//,/ }; do
      if [[ $gres == gpu:*:* ]]; then gres=${gres#gpu:} && types[${gres%%:*}]=1; fi
    done
  done
  known=$(printf '%s\n' "${!types[@]}" | sort | paste -sd ' ')
  # shellcheck disable=SC2034 # read by probe_node.sh
  if ((most > 0)); then one_gpu=--gpus-per-node=${known:+${known%% *}:}1; fi
  if ((most == 0)); then
    findings::add note gpus "none in partition $partition" 'for jobs without GPUs give --gpus 0; for others another --partition'
  elif [[ -n $asked && " ${known,,} " != *" ${asked,,} "* ]]; then
    findings::add problem gpus "${whose[${options_source[gpu_type]}]} $asked, and partition $partition has ${known:-GPUs without a type}" \
      "$([[ -n $known ]] && printf 'set site[gpu_type]=%s' "${known%% *}" || printf 'leave site[gpu_type] empty') in ~/.config/hpc_kit/clusters/${site[name]}.sh, or HPC_GPU_TYPE"
  else
    findings::add ok gpus "$most a node${known:+, of type $known}"
  fi
}

probe_slurm::nodes() {
  local node state reason bad=''
  local -i all=0 bads=0
  while IFS='|' read -r node state reason; do
    all+=1
    if [[ $state != *[*] && $state != @(down|drain|fail|reboot|error|unk|inval|maint)* ]]; then continue; fi
    bads+=1
    if ((bads <= 5)); then bad+="${bad:+, }$node $state ($reason)"; fi
  done < <(timeout 15 sinfo --noheader --Node --partition="$partition" --format='%N|%T|%E' | sort -u)
  if ((bads == 0)); then
    findings::add ok nodes "all $all take jobs"
  elif ((bads < all)); then
    findings::add note nodes "$bads of $all take no jobs: $bad$( ((bads <= 5)) || echo ', …')" 'jobs wait for the others; ask the site when they come back (on a cluster of your own:  scontrol update nodename=… state=resume)'
  else
    findings::add problem nodes "none of $all takes jobs: $bad$( ((bads <= 5)) || echo ', …')" 'take another --partition, or ask the site'
  fi
}

probe_slurm::preemption() {
  local shown mode grace
  if [[ ${slurm[PreemptType]:-} != preempt/partition_prio ]]; then
    case ${slurm[PreemptType]:-preempt/none} in
      preempt/none) findings::add ok preemption 'none' ;;
      *) findings::add ok preemption "${slurm[PreemptType]}: by the quality of service (--qos)" ;;
    esac
    return
  fi
  shown=$(probe_slurm::show_partition)
  mode=$(probe_slurm::field PreemptMode "$shown")
  grace=$(probe_slurm::field GraceTime "$shown")
  case $mode in
    CANCEL) findings::add note preemption "PreemptMode=CANCEL, GraceTime=$grace s: preempted jobs do not come back" 'submit again with --resume when one was preempted, or take a partition that requeues' ;;
    REQUEUE)
      if ((grace < probe_slurm_kill_wait)); then
        findings::add note preemption "PreemptMode=REQUEUE, GraceTime=$grace s: preempted jobs come back, and have no time to save" 'let the program save every few minutes'
      else
        findings::add ok preemption "PreemptMode=REQUEUE, GraceTime=$grace s"
      fi
      ;;
    *) findings::add ok preemption "PreemptMode=$mode" ;;
  esac
}
