# shellcheck shell=bash
# Reads what sinfo reports about partitions. A group is a line PARTITION|NODES|CPUS|MEGABYTES|GRES|TIME_LIMIT|AVAIL for equal
# nodes. A * follows the name of the default partition, and a + follows a number that some of the nodes exceed.

# partitions::read GROUPS   Fills the array. Status 1 if sinfo refuses, 2 if it does not answer; GROUPS then holds its message.
partitions::read() {
  local partitions_answer partitions_status=0
  slurm::ask partitions_answer 15 sinfo --all --noheader --exact --format='%P|%D|%c|%m|%G|%l|%a' || partitions_status=$?
  mapfile -t "$1" <<<"$partitions_answer"
  return "$partitions_status"
}

# partitions::choose PARTITION GROUPS   The variable PARTITION may name several, separated by commas; if empty it becomes the
# cluster's default. Keeps only the groups of these partitions in the array GROUPS. Status 1 if one does not exist; PARTITION then holds
# the message.
partitions::choose() {
  local -n partitions_name=$1 partitions_groups=$2
  local group name default='' names=' '
  local -a mine=() wanted=()
  for group in "${partitions_groups[@]}"; do
    name=${group%%|*}
    if [[ $name == *\* ]]; then default=${name%\*}; fi
    if [[ $names != *" ${name%\*} "* ]]; then names+="${name%\*} "; fi
    if [[ ,${partitions_name:-$default}, == *",${name%\*},"* ]]; then mine+=("$group"); fi
  done
  names=${names% }
  IFS=, read -ra wanted <<<"${partitions_name:-$default}"
  for name in "${wanted[@]}"; do
    if [[ -z $name || $name == *' '* || "$names " != *" $name "* ]]; then
      partitions_name="--partition ${name@Q}: this cluster has$names"
      return 1
    fi
  done
  if ((${#wanted[@]} == 0)); then
    partitions_name="this cluster has no default partition: give --partition, one of:$names"
    return 1
  fi
  partitions_name=${partitions_name:-$default} partitions_groups=("${mine[@]}")
}

# partitions::offers GROUP...   Prints in words what the groups have.
partitions::offers() {
  local group nodes cpus memory gres limit offers=''
  for group in "$@"; do
    IFS='|' read -r _ nodes cpus memory gres limit _ <<<"$group"
    offers+="${offers:+; }$nodes nodes of $cpus CPUs, $memory MB, ${gres//(null)/no GPUs}, at most $limit"
  done
  printf '%s\n' "$offers"
}

# partitions::gpus GPUS GROUP...   Fills the associative array: for each type, and for `all` together, the number that the node with
# the most of them has. (In gpu:a100:4(S:0-1),gpu:2 the parentheses are sockets, and the last GPUs have no type.)
partitions::gpus() {
  local -n partitions_gpus=$1
  local group gres part type
  local -A sum=()
  partitions_gpus=([all]=0)
  for group in "${@:2}"; do
    sum=()
    IFS='|' read -r _ _ _ _ gres _ <<<"$group"
    for part in ${gres//,/ }; do
      part=${part%%(*}
      if [[ $part != gpu:* ]]; then continue; fi
      type=${part#gpu:}
      type=${type%"${part##*:}"}
      for type in all ${type:+"${type%:}"}; do sum[$type]=$((${sum[$type]:-0} + ${part##*:})); done
    done
    for type in "${!sum[@]}"; do
      if ((sum[$type] > ${partitions_gpus[$type]:-0})); then partitions_gpus["$type"]=${sum[$type]}; fi
    done
  done
}

# partitions::takes_jobs STATE   Whether a node in this state (sinfo's %T) accepts jobs.
partitions::takes_jobs() {
  [[ $1 != *[*] && $1 != @(down|drain|fail|reboot|error|unk|inval|maint)* ]]
}
