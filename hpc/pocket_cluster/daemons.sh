# shellcheck shell=bash
# Defines the daemons of a cluster, and how each starts: munged, switch (form `hosts`), database and slurmdbd (with
# accounting), slurmctld, and one for each node.

declare -gA cluster

# Prints all daemons that must run, in the order of starting.
daemons::names() {
  printf 'munged\n'
  if [[ ${cluster[network]} == hosts ]]; then printf 'switch\n'; fi
  if [[ ${cluster[accounting]:-no} == yes ]]; then printf 'database\nslurmdbd\n'; fi
  printf 'slurmctld\n'
  if ! cluster::is_elastic; then cluster::nodes; fi
}

# Prints the names of the nodes that it has started.
daemons::start_missing() {
  local name
  local -a dead_nodes=()
  # Without the switch, or this machine's cable to it, the nodes and the controller cannot reach each other.
  if [[ ${cluster[network]} == hosts ]] && ! { processes::live switch && network::is_joined; }; then
    processes::end
  fi
  for name in $(daemons::names); do
    if processes::live "$name"; then
      continue
    elif cluster::is_node "$name"; then
      dead_nodes+=("$name")
    else
      daemons::start "$name"
    fi
  done
  ((${#dead_nodes[@]})) || return 0
  daemons::report_dead_nodes "${dead_nodes[@]}"
  for name in "${dead_nodes[@]}"; do
    daemons::start "$name"
    printf '%s\n' "$name"
  done
}

# A node's jobs died with it: make the controller requeue them now. (In the form `loopback` jobs outlive
# their slurmd, and the next slurmd adopts them.)
daemons::report_dead_nodes() {
  local list
  [[ ${cluster[network]} == hosts && -e ${cluster[dir]}/state/job_state ]] || return 0
  printf -v list '%s,' "$@"
  processes::wait_for slurmctld cluster::slurm scontrol update "nodename=${list%,}" state=down reason='the node ended'
}

daemons::start() {
  local -r name=$1 base=${cluster[slurm_dir]}
  case $name in
    munged)
      # --force: start despite a stale socket, or a group that may write the folder above.
      processes::start munged munged --foreground --force --num-threads=2 --key-file="$base/munge/munge.key" \
        --socket="$base/munge/socket" --pid-file="$base/munge/pid" --seed-file="$base/munge/seed" \
        --log-file="$base/log/munged.log"
      processes::wait_for munged munge --no-input --socket="$base/munge/socket"
      ;;
    switch) network::start_switch ;;
    database) accounting::start_database ;;
    slurmdbd) accounting::start_slurmdbd ;;
    slurmctld) processes::start slurmctld slurmctld -D -f "$base/etc/slurm.conf" ;;
    *) network::start_node "$name" slurmd -D -N "$name" -f "$base/etc/slurm.conf" ;;
  esac
}
