#!/usr/bin/env bash
# pocket_cluster.sh: a real Slurm of several nodes on this one machine, to try and to test jobs on.
#
# usage: pocket_cluster.sh up [OPTIONS] | env | status | down
#
#   up       starts the cluster, or repairs it; returns when every node is ready for jobs
#   env      prints the exports that send jobs there:  eval "$(bash hpc/pocket_cluster.sh env)"
#   status   shows nodes, addresses and daemons; exit status 0 if all are well
#   down     ends its jobs at once and removes all of it but the users' scratch folders and the logs
#
# Run it on any Linux machine, as root or as an ordinary user. The cluster lives in POCKET_CLUSTER_DIR
# (/var/tmp/pocket_cluster_USER); another folder is another cluster. A Slurm that the machine has is left alone.
set -euo pipefail
shopt -s inherit_errexit
umask 022

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly here
# sbin: an ordinary user's PATH often lacks it, and slurmd, slurmctld, munged and ip are there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Settings of a job that this is called from, or of another cluster, must not leak into this one.
unset -v "${!SLURM_@}" "${!SBATCH_@}" "${!SINFO_@}"

source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
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
  options::add shape text '' '--shape' "a cluster that is asked, refuses and lacks as a real site does, to try your job on a site like yours;
      hpc/pocket_cluster/README.md has the table: $(shape::names | tr '\n' ' ')"
  options::add nodes positive 4 '--nodes' 'how many nodes, 1 to 200'
  options::add gpus_per_node count 4 '--gpus-per-node' "GPUs that each node claims, 0 to 16. None is real: jobs get a true
      CUDA_VISIBLE_DEVICES, and a program that finds no CUDA uses the processor."
  options::add gpu_type name v100l '--gpu-type' 'what Slurm calls them'
  options::add network 'choice auto hosts loopback' auto '--network' "hosts: each node has an address, host name, process table and disk
      of its own (root); loopback: all nodes share this machine's (any user); auto: hosts if possible"
  options::add tmpdir 'choice site none' site '--tmpdir' "site: each job finds a folder of its own in SLURM_TMPDIR on each node's own disk,
      as on Alliance clusters; none: only the disk is there, as on PLAI's"
  options::add accounting 'optional choice no yes' no '--accounting' "with a slurmdbd on a MariaDB of its own, so that sacct knows ended jobs.
      Installs Debian's packages of both; no service of this machine is touched."
}

# pocket_cluster::require NAME PATTERN WORDS   Of the value, where one was given.
pocket_cluster::require() {
  local -r value=${options_value[$1]:-}
  [[ -z $value || $value =~ ^($2)$ ]] || common::die_usage "--${1//_/-}: ${value@Q} is not $3"
}

main() {
  local -r verb=${1:-}
  pocket_cluster::define_options
  if [[ " $* " == *\ @(-h|--help)\ * ]]; then
    common::print_header "${BASH_SOURCE[0]}"
    printf '\nOptions of up:\n'
    options::print_help
    return
  fi
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
    up) up::run "${options_order[@]}" ;;
    down) down::run ;;
    status) report::status ;;
    env) report::environment ;;
  esac
}

main "$@"
