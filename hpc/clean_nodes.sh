#!/usr/bin/env bash
# clean_nodes.sh [OPTIONS]
#
# Removes what your jobs have left on the nodes' own disks. A job that ends well removes its folder itself;
# after a crash of a node, or a scancel that was not waited for, it stays. Sends one small job to each node of
# the partition (one CPU, no GPU), waits for all, and prints a table. Only folders of your own, of jobs that
# have ended, are touched; --dry-run shows them. Run by people, on a login node. Ctrl-C cancels the jobs that
# are not done. Exit status: 0 every node that is up is clean, 1 some are not, 2 the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
source "$here/lib/site.sh"

declare -a nodes=()
declare -A node_of=() # job -> node, of the jobs that are not done
reports='' failed=0

main() {
  site::leave_enclosing_job
  clean_nodes::define_options
  options::parse "$@"
  if [[ -n ${options_value[help]:-} ]]; then
    common::print_header "${BASH_SOURCE[0]}"
    options::print_help
    return
  fi
  # shellcheck disable=SC2154 # site::query sets it
  site::query || common::die "$site_silence"
  site::load "$here" "${options_value[cluster]:-${HPC_CLUSTER:-}}"
  options::complete site
  clean_nodes::choose_partition
  clean_nodes::choose_nodes
  clean_nodes::make_reports
  trap clean_nodes::leave EXIT
  clean_nodes::heed_signals
  clean_nodes::send
  clean_nodes::wait
  clean_nodes::print_table
  ((failed == 0))
}

clean_nodes::define_options() {
  options::add dry_run flag '' '--dry-run' 'only show what would be removed: node, folder and size'
  options::add partition text '' '--partition -p' "partition whose nodes are cleaned (default: the site's, else the cluster's own)"
  options::add account text '' '--account -a' 'account to charge'
  options::add qos text '' '--qos' 'quality of service'
  options::add cluster text '' '--cluster' "site profile of hpc/clusters (default: by Slurm's name of the cluster, then by host name)"
  options::add help flag '' '--help -h' 'print this'
}

clean_nodes::choose_partition() {
  local name
  local -a known=()
  mapfile -t known < <(timeout 15 sinfo --noheader --format=%P)
  for name in "${known[@]}"; do
    if [[ -z ${options_value[partition]} && $name == *\* ]]; then options_value[partition]=${name%\*}; fi
  done
  known=("${known[@]%\*}")
  [[ -n ${options_value[partition]} ]] || common::die "this cluster has no default partition: give --partition, one of: ${known[*]}"
  for name in "${known[@]}"; do
    if [[ $name == "${options_value[partition]}" ]]; then return; fi
  done
  common::die "--partition ${options_value[partition]}: this cluster has ${known[*]}"
}

# A job for a node that is down or drained would wait for ever.
clean_nodes::choose_nodes() {
  local node state
  while IFS='|' read -r node state; do
    case $state in
      idle | mixed | allocated | completing | planned | idle[-+] | mixed[-+] | allocated[-+]) nodes+=("$node") ;;
      *) common::note "skipped $node: it is $state" ;;
    esac
  done < <(timeout 15 sinfo --noheader --Node --partition="${options_value[partition]}" --format='%N|%T')
  ((${#nodes[@]} > 0)) || common::die "no node of the partition ${options_value[partition]} is up"
}

# Where each node writes its report: a folder that all of them see.
clean_nodes::make_reports() {
  local -r scratch=${SCRATCH:-${site[scratch]}}
  [[ -n $scratch ]] || common::die "SCRATCH is not set: add to ~/.bashrc the folder that all nodes share, such as  export SCRATCH=/scratch/\$USER"
  reports=$(mktemp -d -- "$scratch/.clean_nodes.XXXXXX" 2>/dev/null) || common::die "cannot write into SCRATCH=${scratch@Q}"
}

clean_nodes::send() {
  local -a argv
  local node name answer
  for node in "${nodes[@]}"; do
    argv=(
      sbatch --parsable --job-name=clean_nodes --nodelist="$node" --nodes=1 --ntasks=1 --cpus-per-task=1 --mem=256M
      --time=30 --no-requeue --chdir="$reports" --output=/dev/null
    )
    for name in partition account qos; do
      if [[ -n ${options_value[$name]} ]]; then argv+=("--$name=${options_value[$name]}"); fi
    done
    argv+=("$here/clean_nodes/clean_node.sh" "$here" "${site[node_local_directory]}" "$reports/$node")
    if [[ -n ${options_value[dry_run]} ]]; then argv+=(--dry-run); fi
    trap '' HUP INT TERM # between sending a job and knowing its id
    if answer=$(timeout 60 "${argv[@]}" 2>&1); then
      answer=${answer##*$'\n'}
      node_of[${answer%%;*}]=$node
    else
      clean_nodes::fail "$node" "${answer//$'\n'/; }"
    fi
    clean_nodes::heed_signals
  done
}

clean_nodes::heed_signals() {
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

clean_nodes::wait() {
  local live job report shown=''
  local -A gone=() # job -> when it was seen to be gone
  while ((${#node_of[@]} > 0)); do
    live=$(clean_nodes::live_jobs) || live=unknown
    for job in "${!node_of[@]}"; do
      report=$reports/${node_of[$job]}
      if [[ -e $report ]]; then
        unset "node_of[$job]"
      elif [[ -e $report.failed ]]; then
        clean_nodes::conclude "$job" "$(<"$report.failed")"
      elif [[ $live != unknown && $live != *" $job "* ]]; then
        # A network file system may show the report a little later.
        gone[$job]=${gone[$job]:-$SECONDS}
        if ((SECONDS - gone[$job] >= 5)); then clean_nodes::conclude "$job" "job $job ended without a report"; fi
      fi
    done
    if ((${#node_of[@]} > 0)); then
      if ((SECONDS >= 10)) && [[ $shown != "${#node_of[@]}" ]]; then
        shown=${#node_of[@]}
        common::note "waiting for $shown of ${#nodes[@]} nodes; a busy node answers when it has a CPU free (Ctrl-C cancels)"
      fi
      sleep 0.5
    fi
  done
}

clean_nodes::conclude() {
  clean_nodes::fail "${node_of[$1]}" "$2"
  unset "node_of[$1]"
}

# " JOB JOB … " of ours that are waiting or running; status 1 when the controller does not answer.
clean_nodes::live_jobs() {
  local IFS=, answer
  if answer=$(timeout 15 squeue --noheader --jobs="${!node_of[*]}" --format=%A 2>&1); then
    printf ' %s ' "${answer//$'\n'/ }"
  else
    [[ $answer == *'Invalid job id'* ]]
  fi
}

clean_nodes::fail() {
  common::warn "$1: $2"
  failed=$((failed + 1))
}

clean_nodes::print_table() {
  local node what bytes name
  local -i folders freed all_folders=0 all_freed=0
  if [[ -n ${options_value[dry_run]} ]]; then
    printf '%-16s %-32s %15s\n' NODE FOLDER BYTES
  else
    printf '%-16s %8s %15s\n' NODE FOLDERS 'BYTES FREED'
  fi
  for node in "${nodes[@]}"; do
    if [[ ! -e $reports/$node ]]; then continue; fi
    folders=0 freed=0
    while read -r what bytes name; do
      case $what in
        found) printf '%-16s %-32s %15s\n' "$node" "$name" "$bytes" ;;
        removed) ;;
        *)
          clean_nodes::fail "$node" "$what $bytes $name"
          continue
          ;;
      esac
      folders+=1 freed+=bytes
    done <"$reports/$node"
    all_folders+=folders all_freed+=freed
    if [[ -z ${options_value[dry_run]} ]]; then printf '%-16s %8d %15d\n' "$node" "$folders" "$freed"; fi
  done
  if [[ -n ${options_value[dry_run]} ]]; then
    printf '%-16s %-32s %15d\n' all "$all_folders folders" "$all_freed"
  else
    printf '%-16s %8d %15d\n' all "$all_folders" "$all_freed"
  fi
}

clean_nodes::leave() {
  trap '' HUP INT TERM
  if ((${#node_of[@]} > 0)); then
    scancel "${!node_of[@]}" || true
    common::note "cancelled on: ${node_of[*]}"
    if [[ -d $reports ]]; then clean_nodes::print_table; fi
  fi
  rm -rf -- "$reports"
}

main "$@"
