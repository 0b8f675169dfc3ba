# shellcheck shell=bash
# Nodes that fail again and again: what looks like a node's fault is written down, in the user's own state folder,
# a file for each cluster. A node with two such failures within a day is left out of new jobs until the day is
# over.

declare -g bad_nodes_folder=${XDG_STATE_HOME:-${HOME:-}/.local/state}/hpc_kit/nodes
declare -g bad_nodes_seconds=86400 bad_nodes_failures=2

# bad_nodes::file VARIABLE CLUSTER   VARIABLE becomes its name. It has lines `EPOCH NODE JOB CAUSE`.
bad_nodes::file() {
  printf -v "$1" '%s' "$bad_nodes_folder/${2:-unknown}"
}

# bad_nodes::record CLUSTER NODE JOB CAUSE   A line is written at once, so jobs that do it together do no harm.
# A failure to write it must never fail the job.
bad_nodes::record() {
  local file
  bad_nodes::file file "$1"
  if mkdir -p -- "${file%/*}" 2>/dev/null && { printf '%s %s %s %s\n' "$(common::now)" "$2" "$3" "${*:4}" >>"$file"; } 2>/dev/null; then
    common::note "$2 is noted as the cause (${*:4}); two such failures within a day, and new jobs leave it out"
  else
    common::note "$2 looks like the cause (${*:4}); $(common::node) cannot write it into ${file%/*}: if it comes again, submit with --exclude $2"
  fi
}

# bad_nodes::list ARRAY CLUSTER   ARRAY becomes the nodes to leave out. All failures of one job count once.
bad_nodes::list() {
  local bad_file
  bad_nodes::file bad_file "$2"
  if [[ -r $bad_file ]]; then
    mapfile -t "$1" < <(awk -v since="$(($(common::now) - bad_nodes_seconds))" -v enough="$bad_nodes_failures" '
      $1 >= since && !seen[$2, $3]++ { if (++failures[$2] == enough) print $2 }' "$bad_file" | LC_ALL=C sort)
  else
    mapfile -t "$1" </dev/null
  fi
}
