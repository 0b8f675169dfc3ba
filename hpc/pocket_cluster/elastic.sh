#!/usr/bin/env bash
# elastic.sh: nodes that start when jobs wait for them. slurmctld runs it through the links etc/resume NODES and
# etc/suspend NODES. The file etc/elastic, which may be changed while the cluster is up, describes a start:
#   seconds=N       between the request for a node and the start of its slurmd
#   fail_each=N     each Nth start fails without a message; 0: none fails
set -euo pipefail
shopt -s inherit_errexit
umask 022
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

hpc=$(realpath -- "${BASH_SOURCE[0]}")
hpc=${hpc%/pocket_cluster/*}
POCKET_CLUSTER_DIR=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$hpc/lib/common.sh"
source "$hpc/pocket_cluster/cluster.sh"
source "$hpc/pocket_cluster/shape.sh"
source "$hpc/pocket_cluster/processes.sh"
source "$hpc/pocket_cluster/network.sh"

# `down` ends the controller first, so anything later is useless. Holds the lock until the end.
elastic::lock() {
  cluster::lock
  if ! cluster::exists || ! processes::live slurmctld; then exit; fi
}

# elastic::stop NAME
elastic::stop() {
  local -r hosts=${cluster[dir]}/etc/hosts
  local pid rest
  if pid=$(processes::pid "$1"); then kill -KILL -- "$pid" 2>/dev/null || true; fi
  rest=$(awk -v name="$1" '$2 != name' "$hosts")
  printf '%s\n' "$rest" >"$hosts"
}

elastic::resume() {
  local -r etc=${cluster[dir]}/etc starts=${cluster[dir]}/state/starts
  local -A how=()
  local key value name address
  local -i deadline count
  while IFS='=' read -r key value; do how[$key]=$value; done < <(sed '/^#/d' -- "$etc/elastic")
  deadline=SECONDS+${how[seconds]}
  until ((SECONDS >= deadline)); do
    processes::live slurmctld || exit 0
    sleep 0.2
  done
  elastic::lock
  count=$(cat -- "$starts" 2>/dev/null || echo 0)
  while IFS= read -r name; do
    count+=1
    printf '%d\n' "$count" >"$starts"
    if ((how[fail_each] > 0 && count % how[fail_each] == 0)); then continue; fi
    # The process of a node that Slurm gave up may still live.
    elastic::stop "$name"
    address=$(network::address "$name")
    # Change it in place: it is mounted on the nodes' own file.
    printf '%s %s\n' "$address" "$name" >>"$etc/hosts"
    cluster::slurm scontrol update nodename="$name" nodeaddr="$address" nodehostname="$name"
    # -b: like a start of the machine.
    network::start_node "$name" slurmd -D -b -N "$name" -f "${cluster[slurm_dir]}/etc/slurm.conf"
  done < <(cluster::slurm scontrol show hostnames "$1")
}

elastic::suspend() {
  local name
  elastic::lock
  while IFS= read -r name; do
    elastic::stop "$name"
  done < <(cluster::slurm scontrol show hostnames "$1")
}

cluster::locate
"elastic::${BASH_SOURCE[0]##*/}" "${1:?}"
