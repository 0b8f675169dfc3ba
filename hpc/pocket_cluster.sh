#!/usr/bin/env bash
# pocket_cluster.sh: a real Slurm of several nodes on this one machine, to try and to test jobs on.
#
# usage: pocket_cluster.sh up [--nodes N] [--gpus-per-node G] [--gpu-type TYPE]
#                             [--network auto|hosts|loopback] [--tmpdir site|none]
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

# shellcheck source=lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=lib/packages.sh
source "$here/lib/packages.sh"
# shellcheck source=pocket/cluster.sh
source "$here/pocket/cluster.sh"
# shellcheck source=pocket/network.sh
source "$here/pocket/network.sh"
# shellcheck source=pocket/configuration.sh
source "$here/pocket/configuration.sh"
# shellcheck source=pocket/daemons.sh
source "$here/pocket/daemons.sh"
# shellcheck source=pocket/up.sh
source "$here/pocket/up.sh"
# shellcheck source=pocket/down.sh
source "$here/pocket/down.sh"
# shellcheck source=pocket/report.sh
source "$here/pocket/report.sh"

# What the user asked for by option; what is absent here is taken from the recorded cluster or the defaults.
declare -A asked=()

pocket_cluster::help() {
  local line
  while IFS= read -r line && [[ $line == '#'* ]]; do
    line=${line#\#}
    [[ $line == '!'* ]] || printf '%s\n' "${line# }"
  done <"${BASH_SOURCE[0]}"
}

pocket_cluster::check_whole_number() {
  local -r option=$1 value=$2 low=$3 high=$4
  if [[ ! $value =~ ^(0|[1-9][0-9]{0,4})$ ]] || ((value < low || value > high)); then
    common::die_usage "$option: '$value' is not a whole number from $low to $high"
  fi
}

pocket_cluster::check_word() {
  local -r option=$1 value=$2
  shift 2
  local word
  for word in "$@"; do
    [[ $value != "$word" ]] || return 0
  done
  common::die_usage "$option: '$value' is not one of: $*"
}

pocket_cluster::read_options() {
  local option value
  while (($#)); do
    option=${1%%=*}
    case $option in
      --nodes | --gpus-per-node | --gpu-type | --network | --tmpdir) ;;
      *) common::die_usage "unknown option '$1' (see --help)" ;;
    esac
    if [[ $1 == *=* ]]; then
      value=${1#*=}
    else
      (($# > 1)) || common::die_usage "$option: its value is missing"
      value=$2
      shift
    fi
    shift
    case $option in
      --nodes) pocket_cluster::check_whole_number "$option" "$value" 1 200 ;;
      --gpus-per-node) pocket_cluster::check_whole_number "$option" "$value" 0 16 ;;
      --gpu-type)
        [[ $value =~ ^[A-Za-z][A-Za-z0-9_-]*$ ]] ||
          common::die_usage "$option: '$value' is not a name of letters, digits, _ and -"
        ;;
      --network) pocket_cluster::check_word "$option" "$value" auto hosts loopback ;;
      --tmpdir) pocket_cluster::check_word "$option" "$value" site none ;;
    esac
    option=${option#--}
    asked[${option//-/_}]=$value
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
    down | status | env) (($# == 1)) || common::die_usage "$verb takes no options, and got '$2'" ;;
    '') common::die_usage "say what to do: up, down, status or env (see --help)" ;;
    *) common::die_usage "unknown command '$verb': up, down, status or env (see --help)" ;;
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
