# shellcheck shell=bash
# The job's folder on a node's own disk, SLURM_TMPDIR. Some sites make one, like those of the Alliance. On other sites
# (PLAI) keep_node.sh makes and removes it. The kit's own files are in its folder .hpc_kit.

declare -gA fact+=()

# local_disk::choose   Exports SLURM_TMPDIR. Status 1 if the site makes it.
local_disk::choose() {
  local folder=${SLURM_TMPDIR:-}
  if [[ -n $folder && -z ${fact[here]:-} ]]; then return 1; fi
  if [[ -z $folder ]]; then folder=$(local_disk::folder) || exit 1; fi
  if [[ -n ${fact[here]:-} ]]; then
    # The site's folder belongs to the allocation, which may have many runs.
    SLURM_TMPDIR=$folder/$(id -un)_${SLURM_JOB_ID}_${fact[run_id]##*_}
  else
    SLURM_TMPDIR=$folder/$(id -un)_${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}_${SLURM_ARRAY_TASK_ID:-0}
  fi
  export SLURM_TMPDIR
}

# local_disk::make   Makes the folder if it is the kit's.
local_disk::make() {
  { mkdir -p -- "$SLURM_TMPDIR/.hpc_kit" && chmod 700 -- "$SLURM_TMPDIR"; } ||
    common::die "cannot make ${SLURM_TMPDIR@Q} on $(common::node): the profile's node_local_directory must be there and writable"
  if [[ ! -e $SLURM_TMPDIR/.hpc_kit/began ]]; then : >"$SLURM_TMPDIR/.hpc_kit/began"; fi
}

# local_disk::folder   Prints the profile's node_local_directory. It may be $NAME, a variable that jobs have on nodes.
local_disk::folder() {
  local folder=${fact[node_local_directory]} name
  if [[ $folder == \$* ]]; then
    name=${folder#\$}
    folder=${!name:-}
    [[ -n $folder ]] || common::die "the profile ${fact[site]} has node_local_directory=\$$name, and $name is not set on $(common::node)"
  fi
  printf '%s\n' "$folder"
}

# local_disk::hold   While this process and its children live, keep_node.sh does not remove the folder.
local_disk::hold() {
  local in_use
  if [[ ! -d $SLURM_TMPDIR/.hpc_kit ]]; then return; fi
  exec {in_use}<"$SLURM_TMPDIR/.hpc_kit"
  flock --shared "$in_use" 2>/dev/null || true # the file system may have no locks
}

# local_disk::wait_until_free SECONDS   Waits until the ranks have gone, or the time is over.
local_disk::wait_until_free() {
  local -r deadline=$((SECONDS + $1))
  local status=0
  flock --timeout "$1" "$SLURM_TMPDIR/.hpc_kit" true 2>/dev/null || status=$?
  if ((status <= 1)); then return 0; fi # free, or too late (in a trap, a bare return has the status from before the trap)
  # On a file system without locks: wait for the processes that have the folder open (local_disk::hold).
  while ((SECONDS < deadline)) && [[ -n $(find /proc/[0-9]*/fd -lname "${SLURM_TMPDIR//[\\*?[]/?}/.hpc_kit" -print -quit 2>/dev/null) ]]; do common::sleep 1; done
}

# local_disk::erase FOLDER   rm follows no symbolic link, neither inside the folder nor in its place, and
# does not cross into another file system.
local_disk::erase() {
  local_disk::unmount_below "$1"
  if ! rm -rf --one-file-system -- "$1" 2>/dev/null; then
    # Programs may have made folders read-only.
    find "$1" -xdev -type d ! -perm -u=rwx -exec chmod u+rwx -- {} \; 2>/dev/null || true
    rm -rf --one-file-system -- "$1"
  fi
}

# local_disk::unmount_below FOLDER [itself]   Unmounts images of data, also those whose server was killed.
local_disk::unmount_below() {
  local point
  local -a fields
  while read -ra fields; do
    printf -v point '%b' "${fields[4]//\\/\\0}" # \040 is a space
    if [[ $point != "$1"/* && ! (-n ${2:-} && $point == "$1") ]]; then continue; fi
    { fusermount3 -u -z -- "$point" || fusermount -u -z -- "$point" || umount --lazy -- "$point"; } 2>/dev/null ||
      common::warn "cannot unmount ${point@Q} on $(common::node)"
  done < <(tac /proc/self/mountinfo)
}
