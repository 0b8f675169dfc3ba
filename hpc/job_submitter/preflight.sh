# shellcheck shell=bash
# Compares a request with what the live cluster has, before anything is queued. Each refusal (status 1)
# says what the site offers. Needs common.sh, checks.sh, options.sh, run_directory.sh, site.sh and findings.sh.

declare -gA options_value fact slurm

readonly preflight_format='%P|%D|%c|%m|%G|%l|%a'

# preflight::begin   Asks for the partitions; the answer comes while other things are looked at.
preflight::begin() {
  if [[ -n ${options_value[no_preflight]:-} ]]; then return; fi
  exec {preflight_answer}< <(timeout 15 sinfo --noheader --exact --format="$preflight_format" 2>/dev/null)
}

# preflight::check   After begin. Corrects the case of the GPU type, nothing else.
preflight::check() {
  local -a groups=() # PARTITION|NODES|CPUS|MEGABYTES|GRES|TIME_LIMIT|AVAIL, as sinfo groups equal nodes
  local partition=${options_value[partition]}
  mapfile -t groups <&"$preflight_answer"
  exec {preflight_answer}<&-
  if ((${#groups[@]} == 0)); then
    common::note "note: sinfo shows no partition: the request is not compared with the cluster"
    return
  fi
  preflight::choose_partition
  preflight::check_gpu_type
  preflight::check_nodes
  preflight::check_time
  preflight::check_account
  findings::warn "${slurm[ClusterName]:-}" "$partition"
}

# Leaves in groups those of the partition. Several may be named: Slurm then takes whichever starts first,
# and nothing more is compared here.
preflight::choose_partition() {
  local group name
  local -a mine=() names=() wanted=()
  local -A known=()
  for group in "${groups[@]}"; do
    name=${group%%|*}
    if [[ -z ${known[${name%\*}]:-} ]]; then names+=("${name%\*}"); fi
    known[${name%\*}]=1
    if [[ $name == *\* && -z $partition ]]; then partition=${name%\*}; fi
  done
  [[ -n $partition ]] || common::die "this cluster has no default partition: give --partition, one of: ${names[*]}"
  IFS=, read -ra wanted <<<"$partition"
  for name in "${wanted[@]}"; do
    [[ -n $name && -n ${known[$name]:-} ]] || common::die "--partition ${name@Q}: this cluster has ${names[*]}"
  done
  name=${options_value[cycle_partition]}
  [[ -z $name || -z ${fact[cycles]:-} || -n ${known[$name]:-} ]] || common::die "--cycle-partition ${name@Q}: this cluster has ${names[*]}"
  for group in "${groups[@]}"; do
    name=${group%%|*}
    if [[ ,$partition, == *",${name%\*},"* ]]; then mine+=("$group"); fi
  done
  groups=("${mine[@]}")
  if [[ $partition != *,* && ${groups[0]##*|} != up ]]; then
    common::warn "partition $partition is ${groups[0]##*|}: the job will wait until it is up"
  fi
}

# preflight::count_gpus GRES [TYPE]   Leaves in gpus how many (of TYPE) a node with these generic resources has.
preflight::count_gpus() {
  local -r type=${2:-}
  local -i number=0
  local gres
  for gres in ${1//,/ }; do
    gres=${gres%%(*}
    if [[ $gres == gpu:* && ($gres == gpu:"$type":* || -z $type) ]]; then number+=${gres##*:}; fi
  done
  gpus=$number
}

preflight::check_gpu_type() {
  local -r asked=${options_value[gpu_type]}
  local group gres
  local -A types=()
  if [[ -z $asked ]] || ((fact[gpus] == 0)); then return; fi
  for group in "${groups[@]}"; do
    IFS='|' read -r _ _ _ _ gres _ <<<"$group"
    for gres in ${gres//,/ }; do
      if [[ $gres == gpu:*:* ]]; then
        gres=${gres#gpu:}
        types[${gres%%:*}]=1
      fi
    done
  done
  for gres in "${!types[@]}"; do
    if [[ ${gres,,} == "${asked,,}" ]]; then
      options_value[gpu_type]=$gres
      return
    fi
  done
  local known=${!types[*]}
  common::die "--gpu-type $asked: partition $partition has ${known:-no types of GPU: leave the option out}"
}

preflight::check_nodes() {
  local group nodes cpus memory gres gpus
  local -i fitting=0
  local offers=''
  for group in "${groups[@]}"; do
    IFS='|' read -r _ nodes cpus memory gres _ <<<"$group"
    preflight::count_gpus "$gres"
    if ((gpus == 0)); then gpus=none; else gpus=${gres//gpu:/}; fi
    offers+="${offers:+; }$nodes nodes with $cpus CPUs, $memory MB, GPUs: $gpus"
    preflight::count_gpus "$gres" "${options_value[gpu_type]}"
    if ((${cpus%+} >= fact[cpus] && ${memory%+} >= fact[mem_megabytes] && gpus >= fact[gpus])); then
      fitting+=$nodes
    fi
  done
  if ((fitting < fact[nodes])); then
    common::die "partition $partition has $fitting nodes with ${fact[cpus]} CPUs, ${fact[mem_megabytes]} MB and ${fact[gpus]} GPUs${options_value[gpu_type]:+ of type ${options_value[gpu_type]}}, and ${fact[nodes]} are asked for; it offers $offers"
  fi
}

preflight::check_time() {
  local limit
  IFS='|' read -r _ _ _ _ _ limit _ <<<"${groups[0]}"
  if [[ $partition == *,* || $limit == infinite || $limit == n/a ]]; then return; fi
  if (($(checks::seconds "${fact[time]}") > $(checks::seconds "$limit"))); then
    common::die "--time ${fact[time]}: partition $partition allows $limit at most"
  fi
}

preflight::check_account() {
  local accounts
  if [[ ${slurm[AccountingStorageType]:-} != */slurmdbd || -z ${options_value[account]} ]]; then return; fi
  accounts=$(timeout 15 sacctmgr --noheader --parsable2 show associations where "user=$(id -un)" format=account 2>/dev/null | sort -u) || return 0
  if [[ -n $accounts && $'\n'${accounts,,}$'\n' != *$'\n'"${options_value[account],,}"$'\n'* ]]; then
    common::die "--account ${options_value[account]}: you have ${accounts//$'\n'/, }"
  fi
}

# preflight::ask_slurm ARGV...   Slurm's own last word. It does not read what follows the script.
preflight::ask_slurm() {
  local answer
  answer=$(timeout 60 "$1" --test-only "${@:2}" 2>&1) || common::die "Slurm would refuse the job: $(preflight::tidy "$answer")"
}

preflight::tidy() {
  local answer=${1//sbatch: error: /}
  printf '%s' "${answer//$'\n'/; }"
}
