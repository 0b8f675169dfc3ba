#!/usr/bin/env bash
# pocket_cluster.sh up [OPTIONS]
# pocket_cluster.sh env | status | down
#
# Runs a real Slurm of several nodes on this one machine, to try and to test jobs on.
#
# Run it on any Linux machine, as root or as an ordinary user. The cluster is in POCKET_CLUSTER_DIR
# (/var/tmp/pocket_cluster_USER); another folder is another cluster. A Slurm that the machine has is not changed.
#
# up: start the cluster, or repair it; wait until all nodes are ready
#
# env: print the exports that send jobs to the cluster
# Use them like this:  eval "$(bash hpc/pocket_cluster.sh env)"
#
# status: show nodes, addresses and daemons
# The exit status is 0 if all are well.
#
# down: end its jobs at once and remove the cluster
# The users' scratch folders and the logs stay.
#
# See also: quickstart.sh; hpc/pocket_cluster/README.md
set -euo pipefail
shopt -s inherit_errexit
umask 022

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly here
# slurmd, slurmctld, munged and ip are in sbin, which the PATH of an ordinary user often lacks.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Settings of a job that this is called from, or of another cluster, must not leak into this one.
unset -v "${!SLURM_@}" "${!SBATCH_@}" "${!SINFO_@}"

source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
source "$here/lib/help.sh"
source "$here/lib/packages.sh"
source "$here/lib/slurm.sh"
source "$here/pocket_cluster/cluster.sh"
source "$here/pocket_cluster/shape.sh"
source "$here/pocket_cluster/processes.sh"
source "$here/pocket_cluster/network.sh"
source "$here/pocket_cluster/accounting.sh"
source "$here/pocket_cluster/configuration.sh"
source "$here/pocket_cluster/daemons.sh"
source "$here/pocket_cluster/up.sh"
source "$here/pocket_cluster/down.sh"
source "$here/pocket_cluster/report.sh"

pocket_cluster::define_options() {
  options::heading up
  options::add shape text '' '--shape' "imitate a real site: what it requires, refuses and lacks;
      hpc/pocket_cluster/README.md has the table. One of: $(shape::names | paste -sd ' ')"
  options::add nodes positive 4 '--nodes' 'number of nodes, 1 to 200'
  options::add gpus_per_node count 4 '--gpus-per-node' "simulated GPUs on each node, 0 to 16. Jobs get a real
      CUDA_VISIBLE_DEVICES, and a program that finds no CUDA uses the processor."
  options::add gpu_type name v100l '--gpu-type' 'their name in Slurm'
  options::add network 'choice auto hosts loopback' auto '--network' "hosts: each node has an address, host name, process table and disk
      of its own (root); loopback: all nodes share this machine's (any user); auto: hosts if possible"
  options::add tmpdir 'choice site none' site '--tmpdir' "site: each job finds a folder of its own in SLURM_TMPDIR on each node's own disk,
      as on Alliance clusters; none: only the disk is there, as on PLAI's"
  options::add accounting 'optional choice no yes' no '--accounting' "with a slurmdbd on a MariaDB of its own, so that sacct knows ended jobs.
      Installs Debian's packages of both; no service of this machine is touched."
  options::show nodes gpus_per_node shape
}

# pocket_cluster::require NAME PATTERN WORDS   Exits with status 2 if option NAME has a value that does not match PATTERN.
pocket_cluster::require() {
  local -r value=${options_value[$1]:-}
  [[ -z $value || $value =~ ^($2)$ ]] || common::die_usage "--${1//_/-}: ${value@Q} is not $3"
}

main() {
  local -r verb=${1:-}
  pocket_cluster::define_options
  help::answer "${here%/*}" "${BASH_SOURCE[0]}" "$@"
  case $verb in
    up)
      options::parse "${@:2}"
      if [[ -n ${options_value[shape]:-} ]]; then shape::require "${options_value[shape]}"; fi
      pocket_cluster::require nodes '[1-9][0-9]?|1[0-9][0-9]|200' 'a whole number from 1 to 200'
      pocket_cluster::require gpus_per_node '[0-9]|1[0-6]' 'a whole number from 0 to 16'
      pocket_cluster::require gpu_type '[A-Za-z][A-Za-z0-9_-]*' 'a name of letters, digits, _ and -'
      ;;
    down | status | env) (($# == 1)) || common::die_usage "$verb takes no options, and got ${2@Q}" ;;
    '') common::die_usage "say what to do: up, down, status or env (see --help)" ;;
    *) common::die_usage "unknown command ${verb@Q}: up, down, status or env (see --help)" ;;
  esac
  cluster::locate
  case $verb in
    up) up::run "${options_order[@]:1}" ;;
    down) down::run ;;
    status) report::status ;;
    env) report::environment ;;
  esac
}

main "$@"
