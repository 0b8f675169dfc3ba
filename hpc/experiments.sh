#!/usr/bin/env bash
# experiments.sh report EXPERIMENT|RUN_DIRECTORY...
# experiments.sh nodes [--clear [NODE...]]
#
# report: the results of an experiment's tasks; mean, standard deviation and 95 % interval over the seeds of
# --repeat, and by name each task that has failed or is missing. A task's result is the file result.json in its
# OUTPUT_PATH, or the last line of a .jsonl file there.
# nodes: the nodes that jobs of yours have noted as the cause of a failure: when, which job, which cause, and whether
# new jobs leave the node out (two failures within a day). --clear forgets those nodes, or all.
# Run by people, on a login node. Exit status: 0, 1 when there is no such experiment, 2 when the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/bad_nodes.sh"

main() {
  case ${1:-} in
    nodes) experiments::nodes "${@:2}" ;;
    report) experiments::report "${@:2}" ;;
    -h | --help) common::print_header "${BASH_SOURCE[0]}" ;;
    *) common::die_usage "${1:+unknown command ${1@Q}: }experiments.sh report EXPERIMENT|RUN_DIRECTORY... or nodes [--clear [NODE...]]" ;;
  esac
}

experiments::report() {
  local name
  local -a runs=()
  (($# > 0)) || common::die_usage "report needs an experiment's name, or a run directory"
  for name in "$@"; do experiments::add_runs "$name"; done
  exec python3 "$here/report.py" -- "${runs[@]}"
}

# experiments::add_runs NAME   Adds to the caller's runs those of an experiment, or the run directory itself.
experiments::add_runs() {
  local -r scratch=${SCRATCH:-}
  local run found=''
  if [[ -e $1/tasks ]]; then
    runs+=("$1")
    return
  fi
  [[ -n $scratch ]] || common::die "SCRATCH is not set: give the run directory of ${1@Q}, or export SCRATCH"
  local -r folder=$scratch/${project##*/}
  if [[ -r $folder/$1/runs ]]; then
    while read -r run; do
      if [[ -e $folder/hpc_outputs/$run/tasks ]]; then
        runs+=("$folder/hpc_outputs/$run")
        found=1
      fi
    done <"$folder/$1/runs"
  fi
  [[ -n $found ]] || common::die "no run of an experiment ${1@Q} in $folder"
}

experiments::nodes() {
  local file cluster time node job cause left_out
  local -A bad=()
  if [[ ${1:-} == --clear ]]; then
    experiments::clear_nodes "${@:2}"
    return
  fi
  (($# == 0)) || common::die_usage "unexpected ${1@Q}: experiments.sh nodes [--clear [NODE...]]"
  printf '%-10s %-16s %-17s %-10s %-9s %s\n' CLUSTER NODE WHEN JOB 'LEFT OUT' CAUSE
  for file in "$(bad_nodes::folder)"/*; do
    if [[ ! -r $file ]]; then continue; fi
    cluster=${file##*/}
    bad=()
    while read -r node; do bad[$node]=yes; done < <(bad_nodes::list "$cluster")
    while read -r time node job cause; do
      left_out=${bad[$node]:-no}
      printf '%-10s %-16s %-17s %-10s %-9s %s\n' "$cluster" "$node" "$(date --date="@$time" '+%F %H:%M')" "$job" "$left_out" "$cause"
    done <"$file"
  done
}

# experiments::clear_nodes [NODE...]
experiments::clear_nodes() {
  local file
  for file in "$(bad_nodes::folder)"/*; do
    if [[ ! -e $file || $file == *.partial.* ]]; then continue; fi
    if (($# == 0)); then
      rm -f -- "$file"
    else
      awk -v names="$*" 'BEGIN { split(names, list, " "); for (i in list) gone[list[i]] } !($2 in gone)' "$file" |
        common::write_atomically "$file"
    fi
  done
}

main "$@"
