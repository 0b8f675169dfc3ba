# shellcheck shell=bash
# Folders that jobs of this user have left on this node's own disk (local_disk.sh names them USER_JOB_TASK) and
# that Slurm knows to have ended: a node that dies leaves them.

# leftovers::find DIRECTORY   Sets leftovers, the folders. Status 1, with leftovers_silence saying why, when
# Slurm does not tell which jobs live.
# shellcheck disable=SC2034 # both are for the caller
leftovers::find() {
  local -r directory=$1
  local -A live=()
  local -a folders=()
  local user path name
  declare -ga leftovers=()
  user=$(id -un)
  # The folders first, Slurm second: a job that starts between the two has no folder in the list.
  for path in "$directory/$user"_*; do
    name=${path#"$directory/${user}_"}
    if [[ $name =~ ^[0-9]+_[0-9]*$ && -d $path && ! -L $path && -O $path && $path != "${SLURM_TMPDIR:-}" ]]; then
      folders+=("$path")
    fi
  done
  if ((${#folders[@]} == 0)); then return; fi
  leftovers::ask_slurm "$user" || return
  for path in "${folders[@]}"; do
    name=${path#"$directory/${user}_"}
    if [[ -z ${live[${name%_*}]:-} ]]; then leftovers+=("$path"); fi
  done
}

# All jobs of the user that have not ended for good. An answer without the very job that asks is no answer.
# shellcheck disable=SC2034 # the caller's
leftovers::ask_slurm() {
  local answer job array state
  if ! answer=$(unset -v "${!SQUEUE_@}" SLURM_CLUSTERS && timeout 30 squeue --noheader --user="$1" --states=all --format='%A %F %T' 2>&1); then
    leftovers_silence=${answer##*$'\n'}
    return 1
  fi
  while read -r job array state; do
    case $state in
      '' | BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | TIMEOUT) ;;
      *) live[$job]=1 live[$array]=1 ;;
    esac
  done <<<"$answer"
  if [[ -z ${live[${SLURM_JOB_ID:?}]:-} ]]; then
    leftovers_silence="squeue does not show job $SLURM_JOB_ID, which asks: nothing is removed"
    return 1
  fi
}
