# shellcheck shell=bash
# Owns the place of a pocket cluster and its recorded facts: the associative array `cluster`.
#
#   POCKET_CLUSTER_DIR/
#     cluster        the facts below, one key=value per line; exists from `up` to `down`
#     etc/ munge/ pids/ spool/ state/    what the daemons need
#     disks/ localscratch/               the nodes' own disks
#     database/                          of --accounting
#     log/ scratch/ next_job_id          these stay after `down`

declare -gA cluster

# Sets cluster[dir], and reads the recorded facts of a cluster that was started there.
cluster::locate() {
  cluster[dir]=$(realpath -m -- "${POCKET_CLUSTER_DIR:-/var/tmp/pocket_cluster_$(id -un)}")
  [[ ${cluster[dir]} != *[[:cntrl:]]* ]] ||
    common::die_usage "POCKET_CLUSTER_DIR: control characters are not possible in its name"
  local key value
  local -r facts=${cluster[dir]}/cluster
  [[ -r $facts ]] || return 0
  [[ -O $facts || $(stat -c %u -- "$facts") == 0 ]] ||
    common::die "the cluster in ${cluster[dir]} belongs to $(stat -c %U -- "$facts"), and only that user can use it"
  while IFS='=' read -r key value; do
    cluster[$key]=$value
  done <"$facts"
}

cluster::exists() {
  [[ -e ${cluster[dir]}/cluster ]]
}

cluster::record() {
  local key
  for key in shape names slurm_dir nodes gpus_per_node gpu_type network tmpdir accounting port subnet interface; do
    printf '%s=%s\n' "$key" "${cluster[$key]:-}"
  done | common::write_atomically "${cluster[dir]}/cluster"
}

# Only one `up` or `down` runs at a time. The lock is the folder itself, so no lock file is left behind. From then on Ctrl-C waits
# until it does no harm: during the installation of packages, and while waiting for nodes.
cluster::lock() {
  local lock status=0
  exec {lock}<"${cluster[dir]}"
  cluster[lock]=$lock
  flock --nonblock "$lock" || status=$?
  if ((status > 1)); then
    common::warn "the file system of ${cluster[dir]} has no locks (flock: status $status): do not run two 'up' or 'down' at the same time"
  elif ((status == 1)); then
    common::note "another 'up' or 'down' of ${cluster[dir]} is at work: waiting for it"
    flock --wait 180 "$lock" || common::die "${cluster[dir]} is still locked by another 'up' or 'down'"
  fi
  trap '' INT
}

cluster::without_lock() (
  trap - INT
  lock=${cluster[lock]}
  exec {lock}<&-
  "$@"
)

# Whoever can write Slurm's files runs commands as their owner, so nobody else may have made the folder. And `down`
# removes by name, so the folder may hold only what an earlier cluster left.
cluster::make_folder() {
  local -r dir=${cluster[dir]}
  local other
  mkdir -p -- "$dir" || common::die "cannot make $dir: set POCKET_CLUSTER_DIR to a folder that you can write"
  [[ -O $dir ]] ||
    common::die "$dir belongs to $(stat -c %U -- "$dir"): set POCKET_CLUSTER_DIR to a folder of your own"
  if ! cluster::exists; then
    other=$(find "$dir" -mindepth 1 -maxdepth 1 ! -name scratch ! -name log ! -name next_job_id \
      ! -name 'cluster.partial.*' -print -quit)
    [[ -z $other ]] || common::die "$other is no part of a pocket cluster: set POCKET_CLUSTER_DIR to a new folder"
  fi
  chmod 755 -- "$dir"
}

# Also restores files that a cleaner of /tmp has removed.
cluster::make_folders() {
  local -r dir=${cluster[dir]} link=${cluster[slurm_dir]}
  if [[ $link != "$dir" ]]; then
    mkdir -p -- "${link%/*}"
    [[ -O ${link%/*} ]] || common::die "${link%/*} belongs to somebody else: take the cluster down and up"
    ln -sfn -- "$dir" "$link"
  fi
  mkdir -p -- "$dir"/{etc,munge,pids,log,spool,state,scratch,localscratch}
  chmod 1777 -- "$dir/scratch"
  chmod 700 -- "$dir/state"
  local name disk
  for name in $(cluster::nodes); do
    disk=$(cluster::disk "$name")
    mkdir -p -- "$disk" "$dir/spool/$name"
    chmod 1777 -- "$disk"
  done
  if [[ ${cluster[network]} == loopback ]]; then
    chmod 1777 -- "$dir/localscratch"
  fi
}

# slurm.conf cannot hold a space, and the path of a socket must be shorter than 108 bytes. Such a folder is reached through
# a short symbolic link, in a folder that nobody else can change. Prints the name of the folder or of the link.
cluster::new_slurm_dir() {
  local -r dir=${cluster[dir]}
  if [[ $dir =~ ^[A-Za-z0-9_./+-]{1,60}$ ]]; then
    printf '%s\n' "$dir"
  else
    # Record the name before creating it, so that an interruption leaves nothing unknown.
    printf '%s/link\n' "$(mktemp --dry-run /tmp/pocket_cluster.XXXXXX)"
  fi
}

# Prints the folder as Slurm's daemons see it.
cluster::host_name() {
  local name
  name=$(uname -n)
  printf '%s\n' "${name%%.*}"
}

# A shape has its own node names.
cluster::nodes() {
  if [[ -n ${cluster[names]:-} ]]; then
    printf '%s\n' "${cluster[names]// /$'\n'}"
  else
    printf 'node%d\n' $(seq "${cluster[nodes]}")
  fi
}

# cluster::number NODE   Prints the number of the node, from 1 up; fails if there is no such node.
cluster::number() {
  local name number=0
  if [[ -z ${cluster[names]:-} && $1 =~ ^node([0-9]+)$ ]]; then
    printf '%s\n' "${BASH_REMATCH[1]}"
    return
  fi
  for name in ${cluster[names]:-}; do
    number=$((number + 1))
    if [[ $name == "$1" ]]; then
      printf '%d\n' "$number"
      return
    fi
  done
  return 1
}

cluster::is_node() {
  cluster::number "$1" >/dev/null
}

# Whether its nodes start when a job needs them.
cluster::is_elastic() {
  [[ -e ${cluster[dir]}/etc/elastic ]]
}

# Prints the summary in words, for people.
cluster::summary() {
  if [[ -n ${cluster[shape]:-} ]]; then
    printf 'shape %s, %d nodes' "${cluster[shape]}" "${cluster[nodes]}"
  else
    printf '%d nodes of %d GPUs' "${cluster[nodes]}" "${cluster[gpus_per_node]}"
  fi
}

# Prints a node's own disk as this machine sees it. In the form `hosts` each node has it mounted on localscratch.
cluster::disk() {
  local -r name=$1
  case ${cluster[network]} in
    hosts) printf '%s\n' "${cluster[dir]}/disks/$name" ;;
    loopback) printf '%s\n' "${cluster[dir]}/localscratch/$name" ;;
  esac
}

# Prints a number that differs between clusters, and is the same each time for one cluster.
cluster::hash() {
  local sum
  sum=$(cksum <<<"${cluster[dir]}")
  printf '%s\n' "${sum%% *}"
}

# Runs a Slurm command for this cluster. A controller that does not answer must not block the caller.
cluster::slurm() {
  SLURM_CONF=${cluster[slurm_dir]}/etc/slurm.conf timeout 10 "$@"
}

# Prints a line for each node: name, state, start time of its slurmd.
cluster::node_states() {
  local line
  while read -r line; do
    if [[ $line =~ ^NodeName=([^ ]+)\ .*\ State=([^ ]+)\ .*\ SlurmdStartTime=([^ ]+) ]]; then
      printf '%s %s %s\n' "${BASH_REMATCH[@]:1}"
    fi
  done < <(cluster::slurm scontrol --oneliner show nodes 2>/dev/null)
}

# Whether Slurm would give this node to a job, now or when its current jobs end.
cluster::state_is_good() {
  local -r state=$1
  [[ $state =~ ^(IDLE|MIXED|ALLOCATED)(\+|$) && ! $state =~ DOWN|DRAIN|FAIL|NOT_RESPONDING|INVAL|REBOOT ]]
}
