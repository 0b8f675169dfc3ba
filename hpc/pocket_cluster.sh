#!/usr/bin/env bash
# pocket_cluster.sh: a real Slurm of several nodes on this one machine, to try and to test jobs on.
#
# usage: pocket_cluster.sh up [--nodes N] [--gpus-per-node G] [--gpu-type TYPE]
#                             [--network auto|hosts|loopback] [--tmpdir site|none] [--accounting [yes|no]]
#        pocket_cluster.sh env | status | down
#
#   up       starts the cluster, or repairs it; returns when every node is ready for jobs
#   env      prints the exports that send jobs there:  eval "$(bash hpc/pocket_cluster.sh env)"
#   status   shows nodes, addresses and daemons; exit status 0 if all are well
#   down     ends its jobs at once and removes all of it but the users' scratch folders and the logs
#
#   --nodes N          how many nodes, 1 to 200 (4)
#   --gpus-per-node G  GPUs that each node claims, 0 to 16 (4). None is real: jobs get a true
#                      CUDA_VISIBLE_DEVICES, and a program that finds no CUDA uses the processor.
#   --gpu-type TYPE    what Slurm calls them (v100l)
#   --network FORM     hosts: each node has an address, host name, process table and disk of its own (root);
#                      loopback: all nodes share this machine's (any user); auto: hosts if possible (auto)
#   --tmpdir site      each job finds a folder of its own in SLURM_TMPDIR on each node's own disk,
#                      as on Alliance clusters; none: only the disk is there, as on PLAI's (site)
#   --accounting       with a slurmdbd on a MariaDB of its own, so that sacct tells of ended jobs (no). Debian's packages
#                      of both are installed for it; no service of this machine is touched.
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
source "$here/lib/packages.sh"
source "$here/pocket_cluster/cluster.sh"
source "$here/pocket_cluster/network.sh"
source "$here/pocket_cluster/configuration.sh"
source "$here/pocket_cluster/accounting.sh"
source "$here/pocket_cluster/daemons.sh"
source "$here/pocket_cluster/up.sh"
source "$here/pocket_cluster/down.sh"
source "$here/pocket_cluster/report.sh"

# The options: what a value looks like, in words for people, and what it is where nobody says.
declare -rA pattern=(
  [nodes]='[1-9][0-9]?|1[0-9][0-9]|200' [gpus_per_node]='[0-9]|1[0-6]' [gpu_type]='[A-Za-z][A-Za-z0-9_-]*'
  [network]='auto|hosts|loopback' [tmpdir]='site|none' [accounting]='yes|no'
)
declare -rA words=(
  [nodes]='a whole number from 1 to 200' [gpus_per_node]='a whole number from 0 to 16'
  [gpu_type]='a name of letters, digits, _ and -' [network]='auto, hosts or loopback' [tmpdir]='site or none'
  [accounting]='yes or no'
)
# shellcheck disable=SC2034 # read by up::plan
declare -rA default=([nodes]=4 [gpus_per_node]=4 [gpu_type]=v100l [network]=auto [tmpdir]=site [accounting]=no)
# What the user asked for.
declare -A asked=()

pocket_cluster::help() {
  local line
  while IFS= read -r line && [[ $line == '#'* ]]; do
    line=${line#\#}
    [[ $line == '!'* ]] || printf '%s\n' "${line# }"
  done <"${BASH_SOURCE[0]}"
}

pocket_cluster::read_options() {
  local option key value
  while (($#)); do
    option=${1%%=*}
    key=${option#--}
    key=${key//-/_}
    # Only the options, as they are written in the help.
    [[ $option == "--${key//_/-}" && -n $key && ${pattern[$key]:-} ]] ||
      common::die_usage "unknown option ${1@Q} (see --help)"
    if [[ $1 == *=* ]]; then
      value=${1#*=}
    elif [[ $option == --accounting && ${2:-} != @(yes|no) ]]; then
      value=yes
    else
      (($# > 1)) || common::die_usage "$option: its value is missing"
      value=$2
      shift
    fi
    shift
    [[ $value =~ ^(${pattern[$key]})$ ]] || common::die_usage "$option: ${value@Q} is not ${words[$key]}"
    # shellcheck disable=SC2034 # read by up.sh
    asked[$key]=$value
  done
}

main() {
  local -r verb=${1:-}
  local argument
  for argument in "$@"; do
    case $argument in
      -h | --help) pocket_cluster::help && return ;;
    esac
  done
  case $verb in
    up) pocket_cluster::read_options "${@:2}" ;;
    down | status | env) (($# == 1)) || common::die_usage "$verb takes no options, and got ${2@Q}" ;;
    '') common::die_usage "say what to do: up, down, status or env (see --help)" ;;
    *) common::die_usage "unknown command ${verb@Q}: up, down, status or env (see --help)" ;;
  esac
  cluster::locate
  case $verb in
    up) up::run ;;
    down) down::run ;;
    status) report::status ;;
    env) report::environment ;;
  esac
}

main "$@"
