#!/usr/bin/env bash
# clean_nodes.sh [OPTIONS]
#
# Removes what your jobs have left on the nodes' own disks, and prints a table. Only folders of your own jobs that have ended are
# removed; --dry-run shows them.
#
# A job that ends normally removes its folder itself; after a crash of a node, or a scancel that did not wait, the folder stays. Submits
# one small job to each node of the partition (one CPU; a GPU only if the node takes no job without one) and waits for all of them. Run
# by people, on a login node. Ctrl-C cancels the jobs that have not finished.
#
# Exit status: 0 every node that is up is clean, 1 some are not, 2 the request is wrong.
#
# See also: doctor.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
source "$here/lib/help.sh"
source "$here/lib/site.sh"
source "$here/lib/slurm.sh"
source "$here/lib/sending.sh"
source "$here/lib/partitions.sh"
source "$here/lib/node_job.sh"

declare -a nodes=() open=() # all nodes that accept jobs; those that have not reported
declare -A gpu_options=()   # node -> the option that asks for GPUs there, if it has any
declare -i failed=0
reports=''

main() {
  local scratch silence why
  site::leave_enclosing_job
  options::add dry_run flag '' '--dry-run' 'only show what would be removed: node, folder and size'
  options::add_placement partition account qos constraint reservation cluster
  options::add_help
  help::answer "${here%/*}" "${BASH_SOURCE[0]}" "$@"
  options::parse "$@"
  site::query silence || common::die "$silence"
  site::load "$here" "${options_value[cluster]:-${HPC_CLUSTER:-}}"
  options::complete site
  clean_nodes::choose_nodes
  site::scratch scratch
  if [[ -z $scratch ]]; then
    site::no_scratch why
    common::die "$why"
  fi
  node_job::open reports "$scratch" clean_nodes || common::die "cannot write into SCRATCH=${scratch@Q}"
  trap clean_nodes::leave EXIT
  clean_nodes::send
  clean_nodes::wait
  clean_nodes::print_table
  ((failed == 0))
}

# Skips nodes that are down, drained or switched off: a job for them would wait forever.
clean_nodes::choose_nodes() {
  local partition=${options_value[partition]} node state gres shown
  local -a groups=() types
  local -A gpus=()
  partitions::read groups || common::die "sinfo: ${groups[0]}"
  partitions::choose partition groups || common::die "$partition"
  options_value[partition]=$partition
  slurm::ask shown 15 sinfo --noheader --Node --partition="$partition" --format='%N|%T|%G' || common::die "sinfo: $shown"
  while IFS='|' read -r node state gres; do
    if partitions::takes_jobs "$state" && [[ $state != *[~#!%] && $state != reserved ]]; then
      nodes+=("$node")
      partitions::gpus gpus "||||$gres|"
      if ((gpus[all] > 0)); then
        unset 'gpus[all]'
        types=("${!gpus[@]}")
        node_job::gpu_option "gpu_options[$node]" "${types[0]:-}"
      fi
    else
      common::note "skipped $node: it is $state"
    fi
  done < <(sort -u <<<"$shown")
  ((${#nodes[@]} > 0)) || common::die "no node of the partition $partition is up"
}

clean_nodes::send() {
  local node answer
  for node in "${nodes[@]}"; do
    if node_job::send answer "$node" "${gpu_options[$node]:-}" --job-name=clean_nodes --nodelist="$node" --time=30 --no-requeue \
      "$here/clean_nodes/clean_node.sh" "$here" "${site[node_local_directory]}" "$reports/$node" ${options_value[dry_run]:+--dry-run}; then
      open+=("$node")
    else
      clean_nodes::fail "$node" "$answer"
    fi
  done
}

clean_nodes::wait() {
  local node shown=0
  local -A states=()
  while node_job::poll states; do
    open=()
    for node in "${!states[@]}"; do
      if [[ ${states[$node]} == gone* ]]; then clean_nodes::fail "$node" 'its job ended without a report'; else open+=("$node"); fi
    done
    if ((SECONDS >= 10 && ${#open[@]} > 0 && ${#open[@]} != shown)); then
      shown=${#open[@]}
      common::note "waiting for $shown of ${#nodes[@]} nodes; a busy node answers when it has a CPU free (Ctrl-C cancels)"
    fi
  done
  open=()
}

clean_nodes::fail() {
  common::warn "$1: $2"
  failed+=1
}

clean_nodes::print_table() {
  local node what bytes name
  local -i folders freed all_folders=0 all_freed=0
  clean_nodes::print_row NODE FOLDERS BYTES
  for node in "${nodes[@]}"; do
    if [[ ! -e $reports/$node ]]; then continue; fi
    folders=0 freed=0
    while read -r what bytes name; do
      if [[ $what != @(found|removed) ]]; then
        clean_nodes::fail "$node" "$what $bytes $name"
        continue
      fi
      if [[ $what == found ]]; then clean_nodes::print_row "$node" "$name" "$bytes"; fi
      folders+=1 freed+=bytes
    done <"$reports/$node"
    if [[ -z ${options_value[dry_run]} ]]; then clean_nodes::print_row "$node" "$folders" "$freed"; fi
    all_folders+=folders all_freed+=freed
  done
  clean_nodes::print_row all "$all_folders folders" "$all_freed"
}

clean_nodes::print_row() {
  printf '%-16s %-32s %15s\n' "$@"
}

clean_nodes::leave() {
  trap '' HUP INT TERM
  if ((${#open[@]} > 0)); then
    common::note "cancelled on: ${open[*]}"
    clean_nodes::print_table
  fi
  node_job::close
}

main "$@"
