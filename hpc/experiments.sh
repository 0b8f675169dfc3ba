#!/usr/bin/env bash
# experiments.sh nodes [--clear [NODE...]]
#
# Shows the nodes that jobs of yours have noted as the cause of a failure: when, which job, which cause, and whether
# new jobs leave the node out (two failures within a day). --clear forgets those nodes, or all. Run by people, on
# a login node. Exit status: 0, 2 when the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/common.sh"
source "$here/lib/bad_nodes.sh"

main() {
  case ${1:-} in
    nodes) experiments::nodes "${@:2}" ;;
    -h | --help) common::print_header "${BASH_SOURCE[0]}" ;;
    *) common::die_usage "${1:+unknown command ${1@Q}: }experiments.sh nodes [--clear [NODE...]]" ;;
  esac
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
