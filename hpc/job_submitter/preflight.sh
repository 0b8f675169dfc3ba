# shellcheck shell=bash
# Compares a request with the live cluster before anything is queued. `sbatch --test-only` decides, because only it knows the
# site's plugins; sinfo adds what a refusal does not say.

declare -gA options_value fact slurm site
declare -ga preflight_all+=()                                  # the groups of all partitions
declare -g request_type_as preflight_answer preflight_waits='' # partitions that the user was warned about, as their nodes take no jobs

# preflight::begin   Asks sinfo for the partitions in the background; preflight::check reads the answer.
preflight::begin() {
  exec {preflight_answer}< <(
    partitions::read groups || true
    printf '%s\n' "${groups[@]}"
  )
}

# preflight::check   Call it after preflight::begin. Warns and never refuses: a plugin of the site may choose another partition.
# Corrects the case of the GPU type, and the time of the job that packs unless --pack-time is given.
preflight::check() {
  local -a groups=()
  local -A gpus=()
  local partition=${options_value[partition]} type
  mapfile -t preflight_all <&"$preflight_answer"
  exec {preflight_answer}<&-
  if [[ ${preflight_all[0]} != *'|'* ]]; then
    common::note "note: sinfo shows no partition${preflight_all[0]:+ (${preflight_all[0]})}: the request is not compared with the cluster"
    preflight_all=()
    return
  fi
  groups=("${preflight_all[@]}")
  if partitions::choose partition groups; then
    partitions::gpus gpus "${groups[@]}"
    for type in "${!gpus[@]}"; do
      if [[ ${type,,} == "${options_value[gpu_type],,}" ]]; then options_value[gpu_type]=$type; fi
    done
    preflight::warn_of_types "${groups[@]}"
    # If several partitions are given, Slurm uses the one that can start first.
    if [[ $partition != *,* && ${groups[0]##*|} != up ]]; then
      common::warn "partition $partition is ${groups[0]##*|}: the job will wait until it is up"
    else
      preflight::warn_of_time --time "${fact[time]}" "$partition" "${groups[0]}"
    fi
  fi
  if [[ -n ${options_value[pack_in_job]:-} ]]; then preflight::fit_pack_time; fi
  findings::warn "${slurm[ClusterName]:-}" "${partition%% *}"
}

# preflight::warn_of_time OPTION TIME PARTITION GROUP   Warns if TIME is above the partition's limit: Slurm may queue such a job.
preflight::warn_of_time() {
  local limit
  IFS='|' read -r _ _ _ _ _ limit _ <<<"$4"
  if [[ $3 != *,* && $limit == [0-9]* ]] && limit=$(checks::seconds "$limit") && (($(checks::seconds "$2") > limit)); then
    common::warn "$1 $2: partition $3 allows $(checks::duration "$limit") at most: unless the site moves the job to another, it will never start"
  fi
}

# preflight::warn_of_types GROUP...   Warns if the nodes of a job may get different GPUs: all ranks run at the speed of the slowest.
preflight::warn_of_types() {
  local group partition names by=--gpu-type
  local -A types=() kinds=()
  if ((fact[gpus] == 0 || fact[nodes] == 1)) || [[ -n ${options_value[gpu_type]}${options_value[constraint]}${options_value[nodelist]} ]]; then return; fi
  if [[ $request_type_as == @(partition|none) ]]; then by=--constraint; fi
  for group in "$@"; do
    partition=${group%%|*}
    kinds=()
    partitions::gpus kinds "$group"
    unset 'kinds[all]'
    for names in "${!kinds[@]}"; do
      if [[ " ${types[$partition]:-} " != *" $names "* ]]; then types[$partition]+=${types[$partition]:+ }$names; fi
    done
  done
  for partition in "${!types[@]}"; do
    if [[ ${types[$partition]} == *' '* ]]; then
      common::warn "partition ${partition%\*} has GPUs of several types: ${types[$partition]}; the ${fact[nodes]} nodes may get different ones: say which by $by"
    fi
  done
}

# preflight::fit_pack_time   Limits the time of the job that packs to what its own partition allows.
preflight::fit_pack_time() {
  local partition=${options_value[pack_partition]:-${options_value[partition]}} limit
  local -a groups=("${preflight_all[@]}")
  if ! partitions::choose partition groups; then return; fi
  if [[ -n ${options_value[pack_time]} ]]; then
    preflight::warn_of_time --pack-time "${fact[pack_time]}" "$partition" "${groups[0]}"
    return
  fi
  IFS='|' read -r _ _ _ _ _ limit _ <<<"${groups[0]}"
  if [[ $limit == [0-9]* ]] && limit=$(checks::seconds "$limit") && (($(checks::seconds "${fact[pack_time]}") > limit)); then
    fact[pack_time]=$(checks::duration "$limit")
    common::note "note: the job that packs gets ${fact[pack_time]}, all that partition $partition allows (--pack-time)"
  fi
}

# preflight::ask VARIABLE ARGV...   Asks Slurm whether it would take the job; the words after the script do not matter. Status 1: it
# would refuse the job; 2: it does not answer. VARIABLE becomes the reason. The run directory does not exist yet, so the project's own
# script stands for its copy.
preflight::ask() {
  local -n preflight_words=$1
  local -ra preflight_argv=("${@:3}")
  local preflight_status=0
  preflight_words=$(timeout 60 "$2" --test-only "${preflight_argv[@]/#"${fact[run_directory]}/kit"/"${fact[project_directory]}"}" 2>&1) || preflight_status=$?
  if ((preflight_status == 0)); then return; fi
  preflight_words=${preflight_words//sbatch: error: /}
  preflight_words=${preflight_words//$'\n'/; }
  if slurm::is_silence "$preflight_status" "$preflight_words"; then return 2; fi
  if [[ $preflight_words == *@(onfiguration is not available|odes are busy|DOWN, DRAINED)* ]] && preflight::may_wait "${@:2}"; then return; fi
  return 1
}

# preflight::ask_slurm ARGV...   Like preflight::ask, but ends with status 1 if Slurm would refuse the job.
preflight::ask_slurm() {
  local answer status=0
  preflight::ask answer "$@" || status=$?
  if ((status > 0)); then preflight::die "$status" "$answer" "$@"; fi
}

# preflight::die STATUS ANSWER ARGV...   STATUS is that of preflight::ask. Adds what sinfo says, and what a profile could set.
preflight::die() {
  if (($1 == 2)); then common::die "Slurm does not answer: $2"; fi
  shift
  local answer=$1 accounts partition group with_gpus=' ' option=--partition name job whose='' instead='' asked_in shown allowed
  local -i asked=${fact[gpus]}
  local -a groups=("${preflight_all[@]}")
  local -r said=${answer,,}
  preflight::option partition partition "${@:2}"
  preflight::option job job-name "${@:2}"
  case $job in
    "pack_${fact[job_name]}") asked=0 whose=' that packs (--pack-in-job)' instead='; another partition for it, one that takes jobs without GPUs: --pack-partition' ;;
    "cycle_${fact[job_name]}") whose=' of the cycles (--rapid-cycle)' instead='; another partition for it: --cycle-partition' ;;
  esac
  for name in cycle_partition pack_partition; do
    if [[ -n $partition && $partition == "${options_value[$name]}" && $partition != "${options_value[partition]}" ]]; then option=--${name/_/-}; fi
  done
  asked_in=$partition
  if ((${#groups[@]} > 0)); then
    if partitions::choose partition groups; then
      asked_in=$partition
      answer+="; partition $partition has $(partitions::offers "${groups[@]}")"
    else
      answer+="; ${partition/#--partition/$option}"
    fi
    for group in "${preflight_all[@]}"; do
      partition=${group%%|*}
      if [[ $group == *'|gpu:'* && $with_gpus != *" ${partition%\*} "* ]]; then with_gpus+="${partition%\*} "; fi
    done
    if ((asked > 0)) && [[ ${site[gpu_request]} == @(gpus_per_node|gres) ]]; then
      if [[ $with_gpus == ' ' ]]; then
        answer+="; no partition shows GPUs: where they come with a partition or a constraint, a profile says so: site[gpu_request]"
      elif [[ -z ${groups[*]} || "${groups[*]}" != *'|gpu:'* ]]; then
        answer+="; GPUs are in:${with_gpus% }"
      fi
    fi
  fi
  if [[ $said == *qos* && $asked_in == [!-]* && $asked_in != *' '* ]] && slurm::ask shown 10 scontrol --oneliner show partition "${asked_in%%,*}"; then
    allowed=$(slurm::field AllowQos "$shown")
    answer+="; partition ${asked_in%%,*} allows the QOS: ${allowed//,/ }: say which by --qos, or in a profile: site[qos]"
  fi
  if [[ $said == *account* ]] && slurm::ask_accounts accounts; then answer+="; your accounts: $accounts"; fi
  if [[ $said == *mem* || ${groups[0]:-} == *'|'*'|'*'|1|'* ]]; then
    answer+="; where memory is asked for otherwise, or not at all, a profile says so: site[memory_request]"
  fi
  if [[ -n $instead && $answer == *"${instead##* }"* ]]; then instead=''; fi # the message names the option already
  common::die "Slurm would refuse the job$whose: $answer$instead"
}

# preflight::option VARIABLE NAME ARGV...   Sets VARIABLE to the value of --NAME=VALUE, or to nothing.
preflight::option() {
  local preflight_word
  printf -v "$1" '%s' ''
  for preflight_word in "${@:3}"; do
    if [[ $preflight_word == "--$2="* ]]; then printf -v "$1" '%s' "${preflight_word#*=}"; fi
  done
}

# preflight::may_wait ARGV...   Whether the job may only have to wait because nodes are down or drained: then sbatch queues it, and
# still refuses a request that no node could ever meet. (It would also queue a job of more nodes than exist; that never starts.)
preflight::may_wait() {
  local partition nodes group shown number state
  local -i all=0 away=0
  local -a groups=("${preflight_all[@]}")
  preflight::option partition partition "$@"
  preflight::option nodes nodes "$@"
  if ((${#groups[@]} == 0)) || ! partitions::choose partition groups; then return 1; fi
  for group in "${groups[@]}"; do
    IFS='|' read -r _ number _ <<<"$group"
    all+=number
  done
  ((all >= nodes)) || return 1
  slurm::ask shown 15 sinfo --noheader --exact --partition="$partition" --format='%D|%T' || return 1
  while IFS='|' read -r number state; do
    if ! partitions::takes_jobs "$state"; then away+=$number; fi
  done <<<"$shown"
  ((away > 0)) || return 1
  if [[ $preflight_waits == *" $partition "* ]]; then return; fi # also asked for the job that packs; one warning is enough
  preflight_waits+=" $partition "
  common::warn "Slurm cannot start the job now: $away of $all nodes of partition $partition take no jobs; it waits in the queue until enough are back (sinfo -R)"
}

# preflight::room VARIABLE ANSWER COUNT JOBS_EACH MORE   Sets VARIABLE to the number of tasks, of COUNT, that the limits on the user's
# jobs allow now. Each task is JOBS_EACH jobs; MORE jobs come on top. ANSWER becomes the reason. If not even one task fits, the
# status is that of preflight::ask for one task.
preflight::room() {
  local room_most=${slurm[MaxArraySize]:-}
  room_most=$((10#0${room_most//[!0-9]/} - 1)) # below 1: not known
  local -i room_low=0 room_high=$3+1 room_try=$3 room_jobs room_status=0
  local -a room_argv=()
  local room_answer
  while ((room_high - room_low > 1)); do
    room_jobs=$((room_try * $4 + $5))
    if ((room_most > 0 && room_jobs > room_most)); then room_jobs=room_most; fi
    request::sbatch_argv room_argv "1-$room_jobs" 0
    room_status=0
    preflight::ask room_answer "${room_argv[@]}" || room_status=$?
    if ((room_status == 0)); then
      room_low=$room_try
    else
      printf -v "$2" '%s' "$room_answer"
      room_high=$room_try
      if ((room_status == 2)) || [[ $room_answer != *@(SubmitJob|ubmit limit)* ]]; then break; fi
    fi
    room_try=$(((room_low + room_high) / 2))
  done
  printf -v "$1" '%s' "$room_low"
  ((room_low > 0)) || return "$room_status"
}
