#!/usr/bin/env bash
# clean_node.sh DIRECTORY REPORT [--dry-run]
#
# The batch script of clean_nodes.sh: Slurm runs it on one node. Removes from DIRECTORY, on the node's own
# disk, the folders that jobs of this user have left there (local_disk.sh names them USER_JOB_TASK) and that
# Slurm knows to have ended. Writes REPORT, of lines "removed|found|stuck BYTES NAME"; it appears whole.
# When nothing could be done REPORT.failed says why. Needs nothing of the kit: Slurm runs a copy of this file.
set -euo pipefail
shopt -s inherit_errexit nullglob
# With these people choose what squeue shows them; here it must show all.
unset -v "${!SQUEUE_@}" SLURM_CLUSTERS

directory=$1 report=$2 dry_run=${3:-}
exec >"$report.partial" 2>&1
trap 'mv -T -- "$report.partial" "$report.failed"' EXIT

main() {
  local -A live=()
  local user path name answer
  local -a folders=()
  user=$(id -un)
  if [[ ! -d $directory ]]; then
    echo "no folder $directory"
    return 1
  fi

  # The folders first, Slurm second: a job that starts between the two has no folder in the list.
  for path in "$directory/$user"_*; do
    name=${path#"$directory/${user}_"}
    if [[ $name =~ ^[0-9]+_[0-9]*$ && -d $path && ! -L $path && -O $path ]]; then folders+=("$path"); fi
  done
  clean::ask_slurm

  for path in "${folders[@]}"; do
    name=${path#"$directory/${user}_"}
    if [[ -z ${live[${name%_*}]:-} ]]; then clean::remove "$path"; fi
  done
}

# All jobs of the user that have not ended for good. An answer without the very job that asks is no answer.
clean::ask_slurm() {
  local job array state
  answer=$(squeue --noheader --user="$user" --states=all --format='%A %F %T')
  while read -r job array state; do
    case $state in
      '' | BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | TIMEOUT) ;;
      *) live[$job]=1 live[$array]=1 ;;
    esac
  done <<<"$answer"
  if [[ -z ${live[${SLURM_JOB_ID:?}]:-} ]]; then
    echo "squeue does not show job $SLURM_JOB_ID, which asks: nothing is removed"
    return 1
  fi
}

# rm follows no symbolic link, neither inside of the folder nor in its place, and enters no other file system.
clean::remove() {
  local -r path=$1
  local bytes what=removed
  bytes=$(du --summarize --one-file-system --block-size=1 -- "$path" 2>/dev/null) || true
  bytes=${bytes%%[[:blank:]]*}
  if [[ -n $dry_run ]]; then
    what=found
  elif ! rm -rf --one-file-system -- "$path" 2>/dev/null; then
    # Folders that a program has closed to writing.
    find "$path" -xdev -type d ! -perm -u=rwx -exec chmod u+rwx -- {} \; 2>/dev/null || true
    rm -rf --one-file-system -- "$path" || what=stuck
  fi
  printf '%s %s %s\n' "$what" "${bytes:-0}" "${path##*/}"
}

main
trap - EXIT
mv -T -- "$report.partial" "$report"
