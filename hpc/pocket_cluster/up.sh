# shellcheck shell=bash disable=SC2154 # pocket_cluster.sh and cluster.sh set the globals
# pocket_cluster.sh up

up::run() {
  local since
  cluster::make_folder
  cluster::lock
  # Again, as another `up` may have written it before the lock was ours.
  cluster::locate
  if cluster::exists && daemons::any_lives; then
    up::refuse_other_options
  else
    up::plan
  fi
  cluster::make_slurm_dir
  cluster::make_subfolders
  since=$(date +%FT%T)
  daemons::start_missing
  up::wait_until_ready
  common::note "pocket cluster is up: ${cluster[nodes]} nodes of ${cluster[gpus_per_node]} GPUs," \
    "network ${cluster[network]}, in ${cluster[dir]}"
}

up::refuse_other_options() {
  local key
  for key in "${!asked[@]}"; do
    [[ $key:${asked[$key]} != network:auto && ${asked[$key]} != "${cluster[$key]}" ]] || continue
    common::die "the cluster in ${cluster[dir]} runs with --${key//_/-} ${cluster[$key]}, not ${asked[$key]}:" \
      "take it down first"
  done
}

# Decides all that a cluster is made of. One whose processes a reboot ended starts as it was.
up::plan() {
  local key
  for key in "${!default[@]}"; do
    cluster["$key"]=${asked[$key]:-${cluster[$key]:-${default[$key]}}}
  done
  up::install_missing
  network::choose
  network::choose_port
  if [[ ${cluster[network]} == hosts ]]; then
    network::choose_subnet
  fi
  [[ -n ${cluster[slurm_dir]:-} ]] || cluster::choose_slurm_dir
  cluster::record
  cluster::make_slurm_dir
  cluster::make_subfolders
  configuration::write
}

up::install_missing() {
  local -A package=([slurmctld]=slurm-wlm [slurmd]=slurm-wlm [sbatch]=slurm-wlm [munged]=munge [munge]=munge)
  local command
  local -A missing=()
  if ((EUID == 0)) && [[ ${cluster[network]} != loopback ]]; then
    package[ip]=iproute2
  fi
  if [[ ${cluster[accounting]} == yes ]]; then
    package[slurmdbd]=slurmdbd package[mariadbd]=mariadb-server
  fi
  for command in "${!package[@]}"; do
    common::has_command "$command" || missing[${package[$command]}]=1
  done
  ((${#missing[@]})) || return 0
  # Without the lock: a daemon that a package starts would hold it for ever.
  (
    trap - INT
    lock=${cluster[lock]}
    exec {lock}<&-
    packages::install "${!missing[@]}"
  )
}

up::wait_until_ready() {
  local -r deadline=$((SECONDS + 20 + cluster[nodes] / 2))
  local name
  trap - INT
  until up::is_ready; do
    for name in $(daemons::names); do
      daemons::pid "$name" >/dev/null || daemons::die_with_log "$name ended" "$name"
    done
    ((SECONDS < deadline)) || daemons::die_with_log "the nodes were not ready in time" slurmctld
    sleep 0.1
  done
}

# Every node takes jobs, and has registered after `since` (of up::run) if this `up` started it.
up::is_ready() {
  local name state started good=0
  while read -r name state started; do
    if [[ $started == None || $started == Unknown || (${daemons_restarted[$name]:-} && $started < $since) ]]; then
      continue
    elif cluster::state_is_good "$state"; then
      good=$((good + 1))
    else
      cluster::slurm scontrol update "nodename=$name" state=resume 2>/dev/null || true
    fi
  done < <(cluster::node_states)
  ((good == cluster[nodes]))
}
