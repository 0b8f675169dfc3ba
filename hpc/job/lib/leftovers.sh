# shellcheck shell=bash
# Folders that ended jobs of this user have left on this node's own disk (local_disk.sh names them USER_JOB_TASK): a node
# that dies leaves them. Slurm must confirm that the job has ended.

# leftovers::find ARRAY REASON DIRECTORY   Sets ARRAY to the folders. Status 1, with the reason in REASON, if Slurm does
# not say which jobs are live.
leftovers::find() {
  local -n leftovers_found=$1
  local -A live=()
  local -a folders=()
  local user path name
  leftovers_found=()
  user=$(id -un)
  # List the folders first, then ask Slurm: a job that starts between the two has no folder in the list.
  for path in "$3/$user"_*; do
    name=${path#"$3/${user}_"}
    if [[ $name =~ ^[0-9]+_[0-9]*$ && -d $path && ! -L $path && -O $path && $path != "${SLURM_TMPDIR:-}" ]]; then
      folders+=("$path")
    fi
  done
  if ((${#folders[@]} == 0)); then return 0; fi
  leftovers::ask_slurm live "$2" || return
  for path in "${folders[@]}"; do
    name=${path#"$3/${user}_"}
    if [[ -z ${live[${name%_*}]:-} ]]; then leftovers_found+=("$path"); fi
  done
}

# leftovers::add_earlier ARRAY   Adds folders of killed runs in the same allocation (--here): only one runs at a time.
leftovers::add_earlier() {
  local -n leftovers_earlier=$1
  local path
  for path in "${SLURM_TMPDIR%_*}"_*; do
    if [[ -d $path && ! -L $path && -O $path && $path != "$SLURM_TMPDIR" ]]; then leftovers_earlier+=("$path"); fi
  done
}

# leftovers::remove_shared_memory MARK   Files that killed ranks have left in /dev/shm use the node's memory. Removes only files
# of this user that are newer than MARK, that are neither open nor mapped, and whose name no program looks for after its makers
# have ended. Removes nothing while another job of the user is on this node, because the files may belong to it.
leftovers::remove_shared_memory() {
  local file inode
  local -a files=()
  local -A used=()
  mapfile -d '' files < <(find /dev/shm -maxdepth 1 -type f -user "$(id -u)" -newer "$1" \
    -regex '/dev/shm/\(psm_\|torch_\|nccl-\|cuda\.shm\.\|__KMP_REGISTERED_LIB_\|sem\.\(mp-\|loky-\)\).*' -printf '%i %p\0' 2>/dev/null)
  if ((${#files[@]} == 0)) || leftovers::has_other_job; then return 0; fi
  # Compare inodes: the process that made a semaphore has mapped it by another name, which glibc has removed.
  while IFS= read -r inode; do used[$inode]=1; done < <(
    # Processes may end during the loop, and those of other users may not be readable.
    { cat /proc/[0-9]*/maps 2>/dev/null || true; } | sed -nE 's#^([^ ]+ ){4}([0-9]+) +/dev/shm/.*#\2#p'
    find /proc/[0-9]*/fd -lname '/dev/shm/*' -exec stat --dereference --format=%i -- {} + 2>/dev/null
  )
  for file in "${files[@]}"; do
    inode=${file%% *} file=${file#* }
    if [[ -z ${used[$inode]:-} ]] && rm -f -- "$file"; then common::note "$(common::node): removed $file, which nobody uses any more"; fi
  done
}

# Whether a readable process of this user belongs to another job.
leftovers::has_other_job() {
  { cat /proc/[0-9]*/environ 2>/dev/null || true; } | tr '\0' '\n' | grep -axE 'SLURM_JOB_ID=[0-9]+' | grep -cvxF "SLURM_JOB_ID=${SLURM_JOB_ID:?}" >/dev/null
}

# leftovers::ask_slurm ARRAY REASON   Adds all jobs of the user that have not ended for good to ARRAY. If squeue does not list the
# current job, its answer is incomplete: remove nothing.
leftovers::ask_slurm() {
  local -n jobs_alive=$1
  local jobs id array state
  unset -v "${!SQUEUE_@}" SLURM_CLUSTERS
  if ! slurm::ask jobs 30 squeue --all --noheader --user="$(id -u)" --states=all --format='%A %F %T'; then
    printf -v "$2" '%s' "$jobs"
    return 1
  fi
  while read -r id array state; do
    case $state in
      '' | BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | TIMEOUT) ;;
      *) jobs_alive["$id"]=1 jobs_alive["$array"]=1 ;;
    esac
  done <<<"$jobs"
  if [[ -z ${jobs_alive["${SLURM_JOB_ID:?}"]:-} ]]; then
    printf -v "$2" '%s' "squeue does not show job $SLURM_JOB_ID, which asks: nothing is removed"
    return 1
  fi
}
