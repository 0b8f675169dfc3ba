# shellcheck shell=bash
# Nodes that fail again and again. The kit records each failure that is probably the node's fault, in the user's own state
# folder, in one file for each cluster. New jobs exclude a node for a day after two such failures within a day.

declare -g bad_nodes_folder=${XDG_STATE_HOME:-${HOME:-}/.local/state}/hpc_kit/nodes
declare -g bad_nodes_seconds=86400 bad_nodes_failures=2

# bad_nodes::file VARIABLE CLUSTER   Sets VARIABLE to the name of the file. Its lines are `EPOCH NODE JOB CAUSE`.
bad_nodes::file() {
  printf -v "$1" '%s' "$bad_nodes_folder/${2:-unknown}"
}

# bad_nodes::record CLUSTER NODE JOB CAUSE   Writes a whole line at once, so several jobs can write at the same time.
# A failure to write it must never fail the job.
bad_nodes::record() {
  local file
  bad_nodes::file file "$1"
  if mkdir -p -- "${file%/*}" 2>/dev/null && { printf '%s %s %s %s\n' "$(common::now)" "$2" "$3" "${*:4}" >>"$file"; } 2>/dev/null; then
    common::note "$2 is recorded as the probable cause (${*:4}); after two such failures within a day, new jobs exclude it"
  else
    common::note "$2 is the probable cause (${*:4}); $(common::node) cannot record it in ${file%/*}: if it happens again, submit with --exclude $2"
  fi
}

# bad_nodes::list ARRAY CLUSTER   Sets ARRAY to the nodes to exclude. Failures of several ranks of one job count once.
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
