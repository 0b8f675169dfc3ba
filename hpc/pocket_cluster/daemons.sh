# shellcheck shell=bash disable=SC2154 # pocket_cluster.sh and cluster.sh set the globals
# Owns the processes of a cluster: munged, switch (form `hosts`), database and slurmdbd (with accounting), slurmctld, and
# one for each node.
# pids/NAME holds a process id and its start time, by which a process that later gets the same id is told apart.

# What this `up` has started.
declare -A daemons_restarted=()

# All that should run, in the order of starting.
daemons::names() {
  printf 'munged\n'
  if [[ ${cluster[network]} == hosts ]]; then
    printf 'switch\n'
  fi
  if [[ ${cluster[accounting]:-no} == yes ]]; then
    printf 'database\nslurmdbd\n'
  fi
  printf 'slurmctld\n'
  cluster::nodes
}

# When the process began, in clock ticks since the machine started; nothing if there is no such process.
daemons::start_time() {
  local -r pid=$1
  local stat
  local -a fields
  { stat=$(<"/proc/$pid/stat"); } 2>/dev/null || return 0
  # Behind the command's name, which may hold anything: state, …, start time (field 22 of proc(5)).
  read -r -a fields <<<"${stat##*) }"
  [[ ${fields[0]} == Z ]] || printf '%s\n' "${fields[19]}"
}

# Prints the process id of a daemon that lives; fails for one that does not.
daemons::pid() {
  local -r name=$1
  local pid started
  { read -r pid started <"${cluster[dir]}/pids/$name"; } 2>/dev/null || return 1
  [[ -n $started && $(daemons::start_time "$pid") == "$started" ]] || return 1
  printf '%s\n' "$pid"
}

daemons::any_lives() {
  local file
  for file in "${cluster[dir]}"/pids/*; do
    ! daemons::pid "${file##*/}" >/dev/null || return 0
  done
  return 1
}

# Starts a command that outlives this script and its terminal and holds nothing of the caller's open.
daemons::start() {
  local -r name=$1 record=${cluster[dir]}/pids/$1
  shift
  rm -f -- "$record"
  (
    cd /
    # Recorded before it starts, and before it lets go of the lock: no interruption leaves an unknown process.
    # ($BASHPID inside of $( ) would be that of another process.)
    pid=$BASHPID
    started=$(daemons::start_time "$pid")
    printf '%s %s\n' "$pid" "$started" >"$record"
    for descriptor in /proc/"$pid"/fd/*; do
      descriptor=${descriptor##*/}
      ((descriptor <= 2)) || exec {descriptor}>&-
    done
    exec setsid -- env -i PATH="$PATH" SLURM_CONF="${cluster[slurm_dir]}/etc/slurm.conf" "$@"
  ) </dev/null >"${cluster[dir]}/log/$name.out" 2>&1 &
  until [[ -s $record ]]; do
    sleep 0.01
  done
}

daemons::start_missing() {
  local name
  local -a dead_nodes=()
  # Without the switch, or this machine's cable to it, the nodes and the controller cannot reach each other.
  if [[ ${cluster[network]} == hosts ]] && ! { daemons::pid switch >/dev/null && network::is_joined; }; then
    down::end_processes
  fi
  for name in $(daemons::names); do
    if daemons::pid "$name" >/dev/null; then
      continue
    elif [[ $name == node* ]]; then
      dead_nodes+=("$name")
    else
      daemons::start_one "$name"
    fi
  done
  ((${#dead_nodes[@]})) || return 0
  daemons::tell_of_dead_nodes "${dead_nodes[@]}"
  for name in "${dead_nodes[@]}"; do
    daemons::start_one "$name"
    # shellcheck disable=SC2034 # read by up::is_ready
    daemons_restarted[$name]=1
  done
}

# A node's jobs died with it: the controller puts them back into the queue now. (In the form `loopback` jobs outlive
# their slurmd, and the next one takes them over.)
daemons::tell_of_dead_nodes() {
  local IFS=,
  local try
  [[ ${cluster[network]} == hosts && -e ${cluster[dir]}/state/job_state ]] || return 0
  for ((try = 0; try < 100; try++)); do
    ! cluster::slurm scontrol update "nodename=$*" state=down reason='the node ended' 2>/dev/null || return 0
    sleep 0.1
  done
  daemons::die_with_log "the controller does not answer" slurmctld
}

daemons::start_one() {
  local -r name=$1 base=${cluster[slurm_dir]}
  case $name in
    munged)
      # --force: a stale socket, or a group that may write the folder above, is no reason to stop.
      daemons::start munged munged --foreground --force --num-threads=2 --key-file="$base/munge/munge.key" \
        --socket="$base/munge/socket" --pid-file="$base/munge/pid" --seed-file="$base/munge/seed" \
        --log-file="$base/log/munged.log"
      daemons::wait_for_munged
      ;;
    switch) network::start_switch ;;
    database) accounting::start_database ;;
    slurmdbd) accounting::start_slurmdbd ;;
    slurmctld) daemons::start slurmctld slurmctld -D -f "$base/etc/slurm.conf" ;;
    *) daemons::start_node "$name" slurmd -D -N "$name" -f "$base/etc/slurm.conf" ;;
  esac
}

daemons::start_node() {
  local -r name=$1 number=${1#node}
  shift
  if [[ ${cluster[network]} == loopback ]]; then
    daemons::start "$name" "$@"
    return
  fi
  local switch
  switch=$(daemons::pid switch) || daemons::die_with_log "the switch ended" switch
  daemons::start "$name" unshare --net -- bash "$here/pocket_cluster/machine.sh" node "$name" "$switch" "$number" \
    "$(network::address "$name")" "$(network::address6 "$number")" "${cluster[dir]}" "$@"
}

daemons::wait_for_munged() {
  local try
  for ((try = 0; try < 100; try++)); do
    ! munge --no-input --socket="${cluster[slurm_dir]}/munge/socket" >/dev/null 2>&1 || return 0
    daemons::pid munged >/dev/null || break
    sleep 0.05
  done
  daemons::die_with_log "munged did not start" munged
}

daemons::die_with_log() {
  local -r message=$1 log=${cluster[dir]}/log/$2.out
  tail -n 5 -- "$log" >&2 || true
  common::die "$message: above is how $log ends; 'down' and then 'up' starts anew"
}
