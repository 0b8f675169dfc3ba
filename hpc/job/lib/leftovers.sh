# shellcheck shell=bash
# Folders that jobs of this user have left on this node's own disk (local_disk.sh names them USER_JOB_TASK) and
# that Slurm knows to have ended: a node that dies leaves them.

# leftovers::find ARRAY REASON DIRECTORY   ARRAY becomes the folders. Status 1, with the variable REASON saying why, when Slurm does
# not tell which jobs live.
leftovers::find() {
  local -n leftovers_found=$1
  local -A live=()
  local -a folders=()
  local user path name
  leftovers_found=()
  user=$(id -un)
  # The folders first, Slurm second: a job that starts between the two has no folder in the list.
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

# leftovers::add_earlier ARRAY   Of runs in the same allocation that were killed (--here): one runs at a time.
leftovers::add_earlier() {
  local -n leftovers_earlier=$1
  local path
  for path in "${SLURM_TMPDIR%_*}"_*; do
    if [[ -d $path && ! -L $path && -O $path && $path != "$SLURM_TMPDIR" ]]; then leftovers_earlier+=("$path"); fi
  done
}

# leftovers::remove_shared_memory MARK   What ranks that were killed have left in /dev/shm takes the node's memory. Only files
# of this user that are newer than MARK, have a name that no program looks for again once its makers have ended, and are neither
# open nor mapped; and not while another job of the user is here, as they may be that one's.
leftovers::remove_shared_memory() {
  local file
  local -a files=()
  local -A used=()
  mapfile -d '' files < <(find /dev/shm -maxdepth 1 -type f -user "$(id -u)" -newer "$1" \
    -regex '/dev/shm/\(psm_\|torch_\|nccl-\|cuda\.shm\.\|__KMP_REGISTERED_LIB_\|sem\.\(mp-\|loky-\)\).*' -print0 2>/dev/null)
  if ((${#files[@]} == 0)) || leftovers::has_other_job; then return 0; fi
  while IFS= read -r file; do used[$file]=1; done < <(
    # Processes end meanwhile, and those of others may not be read.
    { cat /proc/[0-9]*/maps 2>/dev/null || true; } | sed -n 's#.* \(/dev/shm/.*\)#\1#p'
    find /proc/[0-9]*/fd -lname '/dev/shm/*' -printf '%l\n' 2>/dev/null
  )
  for file in "${files[@]}"; do
    if [[ -z ${used[$file]:-} ]] && rm -f -- "$file"; then common::note "$(common::node): removed $file, which nobody uses any more"; fi
  done
}

# Whether a process of this user that may be looked at belongs to another job.
leftovers::has_other_job() {
  { cat /proc/[0-9]*/environ 2>/dev/null || true; } | tr '\0' '\n' | grep -axE 'SLURM_JOB_ID=[0-9]+' | grep -cvxF "SLURM_JOB_ID=${SLURM_JOB_ID:?}" >/dev/null
}

# leftovers::ask_slurm ARRAY REASON   ARRAY gets all jobs of the user that have not ended for good. If squeue does not list the very job
# that asks, its answer is incomplete: nothing may be removed by it.
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
