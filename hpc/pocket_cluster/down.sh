# shellcheck shell=bash disable=SC2154 # pocket_cluster.sh and cluster.sh set the globals
# pocket_cluster.sh down

down::run() {
  local -r dir=${cluster[dir]}
  if ! cluster::exists; then
    common::note "no pocket cluster is up in $dir"
    return
  fi
  [[ -O $dir/cluster ]] || common::die "the cluster in $dir belongs to $(stat -c %U -- "$dir/cluster"), and only" \
    "$(stat -c %U -- "$dir/cluster") can take it down"
  cluster::lock
  # Another `up` or `down` may have been at work.
  cluster::locate
  cluster::exists || return 0
  down::keep_job_id
  down::end_processes
  down::remove_files
  common::note "pocket cluster is down; results and logs stay in $dir"
}

# The controller tells it while it lives.
down::keep_job_id() {
  local line
  daemons::pid slurmctld >/dev/null || return 0
  while read -r line; do
    if [[ $line =~ ^NEXT_JOB_ID\ *=\ ([0-9]+)$ ]]; then
      printf '%s\n' "${BASH_REMATCH[1]}" >"${cluster[dir]}/next_job_id"
    fi
  done < <(cluster::slurm scontrol show config 2>/dev/null)
}

# Also used by `up`, to start anew. Returns when all are gone.
down::end_processes() {
  local try pid
  local -a pids
  local -A ended=()
  for ((try = 0; try < 200; try++)); do
    # From the twentieth time on also what should have ended by itself.
    mapfile -t pids < <(down::processes $((try >= 20)) && down::job_processes)
    ((${#pids[@]})) || break
    for pid in "${pids[@]}"; do
      ended[$pid]=1
    done
    kill -KILL -- "${pids[@]}" 2>/dev/null || true
    sleep 0.05
  done
  ((${#pids[@]} == 0)) || common::die "these processes do not end: ${pids[*]}"
  # Some machines' process 1 takes a while to bury the dead, and `pgrep` still finds them.
  for ((try = 0; try < 60; try++)); do
    for pid in "${!ended[@]}"; do
      [[ -e /proc/$pid ]] || unset -v "ended[$pid]"
    done
    ((${#ended[@]})) || break
    sleep 0.05
  done
}

down::processes() {
  local -r all=$1
  local file name pid
  local -a children
  for file in "${cluster[dir]}"/pids/*; do
    name=${file##*/}
    pid=$(daemons::pid "$name") || continue
    children=()
    { read -r -a children <"/proc/$pid/task/$pid/children"; } 2>/dev/null || true
    # The process behind a node of the form `hosts` ends when the last process inside the node has, so by waiting
    # for it we wait for those. Its child is their process 1.
    if [[ ${cluster[network]} != hosts || $name != node* || $all == 1 ]] || ((${#children[@]} == 0)); then
      children+=("$pid")
    fi
    printf '%s\n' "${children[@]}"
  done
}

# In the form `loopback` a job's processes are this machine's, and those that it detached are nobody's children.
# slurmstepd has overwritten its environment, but holds its node's log open; all below it carry a mark from task_prolog.
down::job_processes() {
  local folder open
  [[ ${cluster[network]} == loopback ]] || return 0
  for folder in /proc/[0-9]*; do
    if [[ ! -O $folder ]] || ! grep -qs '^slurmstepd' "$folder/comm"; then
      continue
    fi
    for open in "$folder"/fd/*; do
      if [[ $(readlink -- "$open") == "${cluster[dir]}"/log/* ]]; then
        printf '%s\n' "${folder#/proc/}"
        break
      fi
    done
  done
  grep -lszxF -- "POCKET_CLUSTER_JOB=${cluster[dir]}" /proc/[0-9]*/environ | sed -E 's|/proc/([0-9]+)/.*|\1|' || true
}

down::remove_files() {
  local -r dir=${cluster[dir]}
  if [[ -n ${cluster[interface]:-} ]]; then
    ip link delete dev "${cluster[interface]}" 2>/dev/null || true
  fi
  # A job may have left folders on a node's disk that even their owner cannot write.
  chmod -R u+rwX -- "$dir"/{disks,localscratch} 2>/dev/null || true
  rm -rf --one-file-system -- "${dir:?}"/{etc,munge,pids,spool,state,database,disks,localscratch}
  if [[ ${cluster[slurm_dir]:-$dir} != "$dir" ]]; then
    rm -rf -- "${cluster[slurm_dir]%/*}"
  fi
  # Last, so that an interrupted `down` can be repeated.
  rm -f -- "$dir/cluster"
}
