#!/usr/bin/env bash
# clean_node.sh HPC_FOLDER DIRECTORY REPORT [--dry-run]
#
# The batch script of clean_nodes.sh: Slurm runs it on one node. It removes what ended jobs of this user have left in
# DIRECTORY, on the node's own disk (leftovers.sh), and container images that no job has started to use for an hour.
# It writes REPORT as a whole: lines "removed|found BYTES NAME"; any other line is an error message.
set -euo pipefail
shopt -s inherit_errexit nullglob

kit=$1 directory='' report=$3 dry_run=${4:-}
exec >"$report.partial" 2>&1
trap 'if [[ $? != 0 && ! -s $report.partial ]]; then echo "it ended without a word"; fi; mv -T -- "$report.partial" "$report"' EXIT
source "$kit/lib/common.sh"
source "$kit/lib/site.sh"
source "$kit/lib/slurm.sh"
source "$kit/job/lib/local_disk.sh"
source "$kit/job/lib/leftovers.sh"

main() {
  site::expand directory "$2"
  local path bytes what images reason=''
  local -a leftovers=()
  # Container images (container_image.sh). A job that runs from an image has it open.
  images=$directory/$(id -un)_images
  [[ -n $directory ]] || { echo "$2 is not set on this node: correct site[node_local_directory]" && exit 1; }
  [[ -d $directory ]] || { echo "no folder $directory" && exit 1; }
  leftovers::find leftovers reason "$directory" || { echo "$reason" && exit 1; }
  for path in "${leftovers[@]}" "$images"; do
    if [[ ! -d $path || -L $path || ! -O $path ]]; then continue; fi
    bytes=$(du --summarize --one-file-system --block-size=1 -- "$path" 2>/dev/null) || true
    what=removed
    if [[ -n $dry_run ]]; then
      what=found
    elif [[ $path == "$images" ]]; then
      find "$path" -maxdepth 1 -type f -mmin +60 -delete
      rmdir -- "$path" 2>/dev/null || true
    else
      local_disk::erase "$path" || what=stuck
    fi
    printf '%s %s %s\n' "$what" "${bytes%%[[:blank:]]*}" "${path##*/}"
  done
}

main "$@"
