#!/usr/bin/env bash
# tests/faults/random.sh [--jobs N] [--seed S] [--at-once N] [--keep]
#
# Runs N short jobs (200) on its own pocket cluster. The seed decides the fault of each job; some of the jobs run while the controller is
# stopped or restarted. No job may be lost, started twice or recorded with a wrong cause. Prints a table of the faults and ends with `N
# passed, N failed`. Run by people, as root. tests/run.sh does not run it, because it takes about half an hour. --at-once: number of jobs
# that run at the same time (8). --keep: keep the folder with all run directories and print its path; a failure does this, too.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
checkout=${here%/tests/faults}
source "$checkout/hpc/lib/common.sh"
source "$checkout/hpc/lib/help.sh"

jobs=200 seed='' at_once=8 keep='' work=''

main() {
  help::answer "$checkout" "${BASH_SOURCE[0]}" "$@"
  while (($# > 0)); do
    case $1 in
      --jobs | --seed | --at-once)
        [[ ${2:-} =~ ^[0-9]+$ ]] || common::die_usage "$1 needs a whole number"
        case $1 in --jobs) jobs=$2 ;; --seed) seed=$2 ;; *) at_once=$2 ;; esac
        shift
        ;;
      --keep) keep=1 ;;
      *) common::die_usage "unknown option ${1@Q} (see --help)" ;;
    esac
    shift
  done
  ((EUID == 0)) || common::die "nodes are killed, and jobs suspended: run it as root"
  # Run by root, the nodes have their own addresses and disks. For odd seeds the kit, not the site, makes SLURM_TMPDIR.
  work=$(mktemp -d)
  seed=${seed:-$RANDOM}
  trap random::leave EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  export POCKET_CLUSTER_DIR=$work/pocket XDG_STATE_HOME=$work/state XDG_CONFIG_HOME=$work/config
  bash "$checkout/hpc/pocket_cluster.sh" up --nodes 6 --gpus-per-node 0 --tmpdir "$( ((seed % 2 == 0)) && echo site || echo none)"
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
  export SCRATCH=$work/scratch
  mkdir -p -- "$SCRATCH" "$work/project" "$work/environment/bin"
  cp -R -- "$checkout"/{hpc,venv,train} "$here/programs" "$work/project/"
  ln -s -- "$(command -v python3)" "$work/environment/bin/python"
  python3 "$here/random_jobs.py" --jobs "$jobs" --seed "$seed" --at-once "$at_once" --shims "$here/shims" "$work"
}

random::leave() {
  local -r status=$?
  trap '' INT TERM
  if [[ -z $work ]]; then return; fi
  bash "$checkout/hpc/pocket_cluster.sh" down || true
  if [[ -n $keep ]] || ((status != 0)); then
    common::note "the run directories are in $work"
  else
    rm -rf -- "$work"
  fi
}

main "$@"
