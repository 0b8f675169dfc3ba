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
