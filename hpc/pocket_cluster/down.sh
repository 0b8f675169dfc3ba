# shellcheck shell=bash
# pocket_cluster.sh down

declare -gA cluster

down::run() {
  local -r dir=${cluster[dir]}
  if ! cluster::exists; then
    common::note "no pocket cluster is up in $dir"
    return
  fi
  [[ -O $dir/cluster ]] || common::die "the cluster in $dir belongs to $(stat -c %U -- "$dir/cluster"), and only" \
    "$(stat -c %U -- "$dir/cluster") can take it down"
  cluster::lock
  # Another `up` or `down` may have run in the meantime.
  cluster::locate
  cluster::exists || return 0
  down::keep_job_id
  processes::end
  down::remove_files
  common::note "pocket cluster is down; results and logs stay in $dir"
}

# Prints what the controller knows, while it lives.
down::keep_job_id() {
  local settings
  processes::live slurmctld || return 0
  SLURM_CONF=${cluster[slurm_dir]}/etc/slurm.conf slurm::ask settings 20 scontrol show config || return 0
  if [[ $settings =~ NEXT_JOB_ID\ *=\ ([0-9]+) ]]; then
    printf '%s\n' "${BASH_REMATCH[1]}" >"${cluster[dir]}/next_job_id"
  fi
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
  # Remove it last, so that an interrupted `down` can be repeated.
  rm -f -- "$dir/cluster"
}
