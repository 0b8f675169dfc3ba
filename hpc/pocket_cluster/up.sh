# shellcheck shell=bash
# pocket_cluster.sh up

declare -gA cluster

# up::run OPTION...   The names of the options are also the names of the facts.
up::run() {
  local since restarted
  cluster::make_folder
  cluster::lock
  # Read it again: another `up` may have written it before this one got the lock.
  cluster::locate
  if cluster::exists && processes::any_lives; then
    up::refuse_other_options "$@"
  else
    up::plan "$@"
  fi
  cluster::make_folders
  since=$(date +%FT%T)
  restarted=$(daemons::start_missing)
  up::wait_until_ready "$since" "$restarted"
  common::note "pocket cluster is up: $(cluster::summary), network ${cluster[network]}, in ${cluster[dir]}"
}

up::refuse_other_options() {
  local key value
  for key in "$@"; do
    value=${options_value[$key]:-${cluster[$key]:-}}
    [[ $key:$value != network:auto && $value != "${cluster[$key]:-}" ]] || continue
    common::die "the cluster in ${cluster[dir]} runs with --${key//_/-} ${cluster[$key]:-(none)}, not $value: take it down first"
  done
}

# Decides all facts of a cluster. A cluster whose processes a reboot ended starts as it was.
up::plan() {
  local key
  # The state of the controller belongs to its nodes.
  if cluster::exists && [[ ${options_value[shape]:-${cluster[shape]:-}} != "${cluster[shape]:-}" ]]; then up::refuse_other_options shape; fi
  for key in "$@"; do
    cluster[$key]=${options_value[$key]:-${cluster[$key]:-${options_default[$key]}}}
  done
  if [[ -n ${cluster[shape]} ]]; then shape::take_facts; fi
  up::install_missing
  cluster[network]=$(network::possible_form "${cluster[network]}")
  cluster["port"]=$(network::free_port)
  if [[ ${cluster[network]} == hosts ]]; then
    cluster[subnet]=$(network::free_subnet)
    # The name of an interface has at most 15 characters.
    printf -v "cluster[interface]" 'pocket%08x' "$(cluster::hash)"
  fi
  cluster[slurm_dir]=${cluster[slurm_dir]:-$(cluster::new_slurm_dir)}
  cluster::record
  cluster::make_folders
  configuration::write
}

up::install_missing() {
  local -A package=([slurmctld]=slurm-wlm [slurmd]=slurm-wlm [sbatch]=slurm-wlm [munged]=munge [munge]=munge)
  local -A missing=()
  local command
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
  # A daemon that a package starts would hold the lock forever.
  cluster::without_lock packages::install "${!missing[@]}"
}

# up::wait_until_ready SINCE RESTARTED   The arguments are those of up::is_ready.
up::wait_until_ready() {
  local -r deadline=$((SECONDS + 60 + cluster[nodes] / 2))
  local name
  trap - INT
  until up::is_ready "$@"; do
    for name in $(daemons::names); do
      processes::live "$name" || processes::die_with_log "$name" "$name ended"
    done
    ((SECONDS < deadline)) || processes::die_with_log slurmctld "the nodes were not ready in time"
    sleep 0.1
  done
}

# up::is_ready SINCE RESTARTED   Whether every node takes jobs, and the nodes in the lines RESTARTED have registered after
# SINCE, a time in Slurm's format.
up::is_ready() {
  local -r since=$1 restarted=$2
  local name state started good=0
  while read -r name state started; do
    if [[ $started == @(None|Unknown) || ($'\n'$restarted$'\n' == *$'\n'"$name"$'\n'* && $started < $since) ]]; then
      continue
    elif cluster::state_is_good "$state"; then
      good=$((good + 1))
    else
      cluster::slurm scontrol update "nodename=$name" state=resume 2>/dev/null || true
    fi
  done < <(cluster::node_states)
  ((good == cluster[nodes])) || cluster::is_elastic
}
