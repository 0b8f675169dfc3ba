# shellcheck shell=bash
# Compares a request with the live cluster before anything is queued. `sbatch --test-only` decides, as only it knows the
# site's plugins; sinfo says what a refusal does not.

declare -gA options_value fact slurm
declare -ga preflight_groups+=()                # the groups of the partition
declare -g preflight_answer preflight_partition # its name, or why there is none

# preflight::begin   Asks for the partitions; the answer comes while other things are looked at.
preflight::begin() {
  if [[ -n ${options_value[no_preflight]:-} ]]; then return; fi
  exec {preflight_answer}< <(
    partitions::read groups || true
    printf '%s\n' "${groups[@]}"
  )
}

# preflight::check   After begin. Corrects the case of the GPU type, nothing else.
preflight::check() {
  local -a groups=() all=()
  local -A gpus=()
  local partition=${options_value[partition]} cycle=${options_value[cycle_partition]} type limit
  mapfile -t groups <&"$preflight_answer"
  exec {preflight_answer}<&-
  # shellcheck disable=SC2034 # partitions::choose reads it
  all=("${groups[@]}")
  if [[ ${groups[0]} != *'|'* ]]; then
    common::note "note: sinfo shows no partition${groups[0]:+ (${groups[0]})}: the request is not compared with the cluster"
  elif [[ -n $cycle && -n ${fact[cycles]:-} ]] && ! partitions::choose cycle all; then
    common::die "${cycle/#--partition/--cycle-partition}"
  elif partitions::choose partition groups; then
    preflight_groups=("${groups[@]}")
    partitions::gpus gpus "${groups[@]}"
    for type in "${!gpus[@]}"; do
      if [[ ${type,,} == "${options_value[gpu_type],,}" ]]; then options_value[gpu_type]=$type; fi
    done
    # Of several partitions Slurm takes whichever starts first.
    IFS='|' read -r _ _ _ _ _ limit _ <<<"${groups[0]}"
    if [[ $partition != *,* && ${groups[0]##*|} != up ]]; then
      common::warn "partition $partition is ${groups[0]##*|}: the job will wait until it is up"
    elif [[ $partition != *,* && $limit == [0-9]* ]] && limit=$(checks::seconds "$limit") && (($(checks::seconds "${fact[time]}") > limit)); then
      common::warn "--time ${fact[time]}: partition $partition allows $(checks::duration "$limit") at most: unless the site moves the job to another, it will wait for ever"
    fi
  elif [[ -n ${options_value[partition]} ]]; then
    common::die "$partition"
  fi
  preflight_partition=$partition
  findings::warn "${slurm[ClusterName]:-}" "${partition%% *}"
}

# preflight::ask_slurm ARGV...   Slurm's own last word. It does not read what follows the script.
preflight::ask_slurm() {
  local answer accounts status=0
  answer=$(timeout 60 "$1" --test-only "${@:2}" 2>&1) || status=$?
  if ((status == 0)); then return; fi
  answer=${answer//sbatch: error: /}
  answer=${answer//$'\n'/; }
  if slurm::is_silence "$status" "$answer"; then common::die "Slurm does not answer: $answer"; fi
  if ((${#preflight_groups[@]} > 0)); then
    answer+="; partition $preflight_partition has $(partitions::offers "${preflight_groups[@]}")"
  elif [[ -n ${preflight_partition:-} ]]; then
    answer+="; $preflight_partition"
  fi
  if [[ ${answer,,} == *account* ]] && slurm::ask_accounts accounts; then answer+="; your accounts: $accounts"; fi
  common::die "Slurm would refuse the job: $answer"
}
