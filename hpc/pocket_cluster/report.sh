# shellcheck shell=bash
# pocket_cluster.sh env and status: the two commands that write to standard output.

declare -gA cluster

report::require_cluster() {
  cluster::exists || common::die "no pocket cluster is up in ${cluster[dir]}: start one with 'up'"
}

report::environment() {
  local scratch
  report::require_cluster
  processes::live slurmctld ||
    common::die "the pocket cluster in ${cluster[dir]} has no living slurmctld: repair it with 'up'"
  scratch=${cluster[dir]}/scratch/$(id -un)
  mkdir -p -- "$scratch"
  report::export SLURM_CONF "${cluster[slurm_dir]}/etc/slurm.conf"
  report::export POCKET_CLUSTER_DIR "${cluster[dir]}"
  report::export SCRATCH "$scratch"
  [[ -n ${cluster[shape]:-} ]] || return 0
  local name value bin
  bin=$(shape::bin)
  if [[ -n $bin ]]; then printf "export PATH='%s':\"\$PATH\"\n" "$bin"; fi
  while IFS='=' read -r name value; do
    report::export "$name" "$value"
  done < <(shape::read login)
}

report::export() {
  local -r name=$1 value=$2
  printf "export %s='%s'\n" "$name" "${value//\'/\'\\\'\'}"
}

report::status() {
  local name word pid address wrong=0
  report::require_cluster
  local -A state=()
  while read -r name word _; do
    state[$name]=$word
  done < <(! processes::live slurmctld || cluster::node_states)
  printf '%s: %s, network %s, tmpdir %s\n' "${cluster[dir]}" \
    "$(cluster::summary)${cluster[gpu_type]:+ (${cluster[gpu_type]})}" "${cluster[network]}" "${cluster[tmpdir]}"
  printf '%-10s %-8s %-15s %s\n' NAME PROCESS ADDRESS STATE
  for name in $(daemons::names); do
    address=-
    if cluster::is_node "$name"; then
      address=$(network::address "$name")
      cluster::state_is_good "${state[$name]:-}" || wrong=1
    fi
    pid=$(processes::pid "$name") || {
      pid=dead
      wrong=1
    }
    printf '%-10s %-8s %-15s %s\n' "$name" "$pid" "$address" "${state[$name]:--}"
  done
  ((wrong == 0)) || common::die "some parts of the cluster do not work: repair it with 'up'"
}
