# shellcheck shell=bash
# Owns the files in etc/ and munge/: the settings of Slurm and munge.

declare -gA cluster

configuration::write() {
  local -r etc=${cluster[dir]}/etc
  local hook
  configuration::munge_key
  if [[ -n ${cluster[shape]:-} ]]; then shape::install; fi
  configuration::hosts | common::write_atomically "$etc/hosts"
  configuration::gres | common::write_atomically "$etc/gres.conf"
  configuration::cgroup | common::write_atomically "$etc/cgroup.conf"
  for hook in prolog task_prolog epilog; do
    # Copy them, because a job's user may not be able to read this checkout.
    install -m 755 -- "${BASH_SOURCE[0]%/*}/job_hook.sh" "$etc/$hook"
  done
  if [[ -n ${cluster[shape]:-} ]]; then
    configuration::shaped | common::write_atomically "$etc/slurm.conf"
  else
    configuration::slurm | common::write_atomically "$etc/slurm.conf"
  fi
  if [[ ${cluster[accounting]} == yes ]]; then accounting::configure; fi
}

configuration::munge_key() {
  local -r key=${cluster[dir]}/munge/munge.key
  [[ ! -s $key ]] || return 0
  (
    umask 077
    head -c 1024 /dev/urandom >"$key.partial"
  )
  mv -f -- "$key.partial" "$key"
}

# Each IPv4 address is listed again in its IPv6 form: torch looks up the names of its peers by that form, and warns
# about each name that has none.
configuration::hosts() {
  local name address
  printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n'
  printf '%s %s\n' "$(network::address login)" "$(cluster::host_name)"
  if cluster::is_elastic; then return; fi # elastic.sh adds a node when it starts
  for name in $(cluster::nodes); do
    address=$(network::address "$name")
    printf '%s %s\n::ffff:%s %s\n' "$address" "$name" "$address" "$name"
  done
}

# Links to /dev/null stand for GPUs: Slurm requires a device file for each, and never opens it.
configuration::gres() {
  local -r gpus=${cluster[gpus_per_node]}
  local i
  printf 'AutoDetect=off\n'
  if [[ -n ${cluster[shape]:-} ]]; then
    configuration::shaped_gres
    return
  fi
  ((gpus > 0)) || return 0
  for ((i = 0; i < gpus; i++)); do
    ln -sfn /dev/null "${cluster[dir]}/etc/gpu$i"
  done
  printf 'NodeName=node[1-%d] Name=gpu Type=%s File=%s/etc/gpu[0-%d]\n' \
    "${cluster[nodes]}" "${cluster[gpu_type]}" "${cluster[slurm_dir]}" $((gpus - 1))
}

# Follows the Gres= word of each line of nodes: `gpu:h100:2,tmpfs:3000` is two device files, and a number of tmpfs.
configuration::shaped_gres() {
  local line name gres first
  local -a words
  while IFS= read -r line; do
    name=${line%% *} first=0
    [[ $line =~ \ Gres=([^ ]+) ]] || continue
    IFS=, read -ra words <<<"${BASH_REMATCH[1]}"
    for gres in "${words[@]}"; do
      [[ $gres =~ ^([a-z]+)(:(.+))?:([0-9]+)([KMGT]?)$ ]]
      printf 'NodeName=%s Name=%s%s' "$name" "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]:+ Type=${BASH_REMATCH[3]}}"
      if [[ ${BASH_REMATCH[1]} == gpu ]]; then
        configuration::devices "$first" "${BASH_REMATCH[4]}"
        first=$((first + BASH_REMATCH[4]))
      else
        printf ' Count=%s%s Flags=CountOnly\n' "${BASH_REMATCH[@]:4}"
      fi
    done
  done < <(shape::node_lines)
}

# configuration::devices FIRST COUNT   Prints the end of a line of gres.conf.
configuration::devices() {
  local -r first=$1 last=$(($1 + $2 - 1))
  local i
  for ((i = first; i <= last; i++)); do
    ln -sfn /dev/null "${cluster[dir]}/etc/gpu$i"
  done
  printf ' File=%s/etc/gpu[%d-%d]%s\n' "${cluster[slurm_dir]}" "$first" "$last" \
    "${cluster[gpu_flags]:+ Flags=${cluster[gpu_flags]}}"
}

# Nothing here uses cgroups, but by default slurmd requires them to be mounted. Old versions do not know `disabled`, and new ones
# will not know `cgroup/v1`, which checks for nothing unless it is used.
configuration::cgroup() {
  if [[ $(slurmd -V) =~ ([0-9]+)\. ]] && ((BASH_REMATCH[1] >= 24)); then
    printf 'CgroupPlugin=disabled\n'
  else
    printf 'CgroupPlugin=cgroup/v1\n'
  fi
}

configuration::nodes() {
  local -r nodes=${cluster[nodes]} gpus=${cluster[gpus_per_node]}
  local -r cpus=$((gpus > 1 ? 4 * gpus : 4))
  printf 'NodeName=node[1-%d] CPUs=%d Boards=1 SocketsPerBoard=1 CoresPerSocket=%d ThreadsPerCore=1 RealMemory=64000' \
    "$nodes" "$cpus" "$cpus"
  if ((gpus > 0)); then
    printf ' Gres=gpu:%s:%d' "${cluster[gpu_type]}" "$gpus"
  fi
  configuration::addresses 1 "$nodes"
  printf ' State=UNKNOWN\n'
}

# configuration::addresses FIRST LAST   Prints the addresses in a line of nodes.
configuration::addresses() {
  local -r port=${cluster[port]}
  case ${cluster[network]} in
    hosts)
      printf ' NodeAddr=%s.[%d-%d] Port=%d' "${cluster[subnet]}" "$1" "$2" $((port + 1))
      ;;
    loopback)
      printf ' NodeHostname=%s NodeAddr=127.0.0.1 Port=[%d-%d]' "$(cluster::host_name)" $((port + $1)) $((port + $2))
      ;;
  esac
}

# Prints the lines of a shape's nodes, with their addresses.
configuration::shaped_nodes() {
  local line first=1 last
  while IFS= read -r line; do
    last=$((first + $(shape::expand <<<"$line" | wc -l) - 1))
    printf 'NodeName=%s' "$line"
    if cluster::is_elastic; then
      printf ' Port=%d' "$((cluster["port"] + 1))" # elastic.sh sets the addresses
    else
      configuration::addresses "$first" "$last"
    fi
    if [[ $line != *' State='* ]]; then printf ' State=UNKNOWN'; fi
    printf '\n'
    first=$((last + 1))
  done < <(shape::node_lines)
}

# Prints the plain cluster's settings, except those that the shape replaces.
configuration::shaped() {
  local shape
  shape=$(shape::slurm)
  configuration::slurm | awk -F= -v shape="$shape" '
    BEGIN {
      lines = split(shape, line, "\n")
      for (i = 1; i <= lines; i++) { sub(/=.*/, "", line[i]); other[tolower(line[i])] = 1 }
      other["nodename"] = other["partitionname"] = 1
    }
    !(tolower($1) in other)'
  # `KEY=` removes a line.
  printf '%s\n' "$shape" | grep -Ev '^PartitionName=|=$' || true
  configuration::shaped_nodes
  # Must come after the nodes that they name.
  printf '%s\n' "$shape" | grep '^PartitionName='
}

configuration::hooks() {
  local -r etc=${cluster[slurm_dir]}/etc
  printf 'TaskProlog=%s\n' "$etc/task_prolog"
  if [[ ${cluster[tmpdir]} == site ]]; then
    # Alloc: runs before the job starts, on each of its nodes, not only on nodes where a step runs.
    printf 'PrologFlags=Alloc\nProlog=%s\nEpilog=%s\n' "$etc/prolog" "$etc/epilog"
  fi
}

configuration::slurm() {
  local -r base=${cluster[slurm_dir]}
  local first_job_id=1
  # A job id is used once, also after `down`, because people store results under it.
  [[ ! -s ${cluster[dir]}/next_job_id ]] || first_job_id=$(<"${cluster[dir]}/next_job_id")
  cat <<CONF
# Written by pocket_cluster.sh up.
ClusterName=pocket
SlurmctldHost=$(cluster::host_name)($(network::address login))
SlurmctldPort=${cluster[port]}
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# cred_expire: a requeued job starts again after this many seconds, not after two minutes.
AuthInfo=socket=$base/munge/socket,cred_expire=5

StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool/%n
SlurmctldPidFile=$base/state/slurmctld.pid
SlurmdPidFile=$base/spool/%n/slurmd.pid
SlurmctldLogFile=$base/log/slurmctld.log
SlurmdLogFile=$base/log/%n.log
MailProg=/bin/true
$(configuration::hooks)

# The machine is smaller than its nodes claim, and cgroups may be missing.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# Memory limits are enforced, as on a real cluster, because Slurm itself samples the processes each second.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
$(if [[ ${cluster[accounting]} == yes ]]; then accounting::of_slurm; fi)
MpiDefault=none

SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
# A dead node is noticed after SlurmdTimeout seconds, and returns to service when it registers again.
SlurmdTimeout=20
ReturnToService=2
FirstJobId=$first_job_id
# scontrol shows ended jobs for a day.
MinJobAge=86400
MaxJobCount=100000

GresTypes=gpu
$(configuration::nodes)
PartitionName=DEFAULT Nodes=ALL State=UP DefaultTime=60 MaxTime=INFINITE
PartitionName=main Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=15
PartitionName=urgent PriorityTier=2 PreemptMode=OFF
CONF
}
