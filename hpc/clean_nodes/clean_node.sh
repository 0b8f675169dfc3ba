#!/usr/bin/env bash
# clean_node.sh HPC_FOLDER DIRECTORY REPORT [--dry-run]
#
# The batch script of clean_nodes.sh: Slurm runs it on one node. Removes from DIRECTORY, on the node's own
# disk, what ended jobs of this user have left there (leftovers.sh), and images of containers that no job has
# begun to use for an hour. Writes REPORT, of lines
# "removed|found|stuck BYTES NAME"; it appears whole. When nothing could be done REPORT.failed says why.
set -euo pipefail
shopt -s inherit_errexit nullglob

kit=$1 directory=$2 report=$3 dry_run=${4:-}
exec >"$report.partial" 2>&1
trap 'mv -T -- "$report.partial" "$report.failed"' EXIT
source "$kit/lib/common.sh"
source "$kit/job/lib/local_disk.sh"
source "$kit/job/lib/leftovers.sh"

main() {
  local path bytes what
  if [[ ! -d $directory ]]; then
    echo "no folder $directory"
    return 1
  fi
  # shellcheck disable=SC2154 # leftovers::find sets both
  if ! leftovers::find "$directory"; then
    echo "$leftovers_silence"
    return 1
  fi
  # shellcheck disable=SC2154
  for path in "${leftovers[@]}"; do
    bytes=$(du --summarize --one-file-system --block-size=1 -- "$path" 2>/dev/null) || true
    bytes=${bytes%%[[:blank:]]*}
    what=found
    if [[ -z $dry_run ]]; then
      what=removed
      local_disk::erase "$path" || what=stuck
    fi
    printf '%s %s %s\n' "$what" "${bytes:-0}" "${path##*/}"
  done
  clean_node::images "$directory/$(id -un)_images"
}

# Images of containers (container_image.sh). A job that runs from one has it open.
clean_node::images() {
  local bytes
  if [[ ! -d $1 || -L $1 || ! -O $1 ]]; then return; fi
  bytes=$(du --summarize --one-file-system --block-size=1 -- "$1" 2>/dev/null) || true
  if [[ -z $dry_run ]]; then
    find "$1" -maxdepth 1 -type f -mmin +60 -delete
    rmdir -- "$1" 2>/dev/null || true
  fi
  printf '%s %s %s\n' "$(if [[ -n $dry_run ]]; then echo found; else echo removed; fi)" "${bytes%%[[:blank:]]*}" "${1##*/}"
}

main
trap - EXIT
mv -T -- "$report.partial" "$report"
