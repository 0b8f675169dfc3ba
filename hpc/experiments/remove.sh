#!/usr/bin/env bash
# experiments.sh remove [--dry-run] EXPERIMENT|JOB...
#
# Removes runs that have ended, and the checkpoints of their experiments if no other run uses them. Removes only what belongs to the
# user, follows no link, and keeps each run of which Slurm does not say that it has ended. Called by experiments.sh.
# Exit status: 0 all of it is removed, 1 something was kept, 2 the request is wrong.
set -euo pipefail
shopt -s inherit_errexit nullglob

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/lib/common.sh"
source "$here/lib/files.sh"
source "$here/lib/slurm.sh"
source "$here/lib/site.sh"
source "$here/lib/run_directory.sh"

declare -gA slurm
declare -A chosen=() users=() # the folders of the runs to remove; experiment -> the folder of a run of it that stays
declare -A seen=()            # folders that were said once
declare dry_run='' foreign='another user owns it or a file in it, or it is a link'
declare -i removed=0 freed=0 status=0

main() {
  local word path reason
  local -a names=() records=()
  local -i i
  for word in "$@"; do
    case $word in
      --dry-run) dry_run=1 ;;
      -*) common::die_usage "unknown option ${word@Q}: experiments.sh remove [--dry-run] EXPERIMENT|JOB..." ;;
      *) names+=("$word") ;;
    esac
  done
  ((${#names[@]} > 0)) || common::die_usage "remove needs experiments, jobs or run directories"
  # The folder of all runs; then FOLDER EXPERIMENT CLUSTER OTHER_RUN of each run to remove.
  mapfile -d '' -t records < <(bash "$here/experiments.sh" records "${names[@]}")
  if ((${#records[@]} == 0)); then exit 1; fi
  for path in "${records[0]}"/.*.removing "${records[0]%/*}"/*/.checkpoints*.removing; do
    if remove::is_own "$path"; then remove::delete "$path" "the rest of an interrupted removal, $path"; fi
  done
  records=("${records[@]:1}")
  if ((${#records[@]} == 0)); then exit 1; fi
  site::leave_enclosing_job
  site::query reason || common::die "nothing was removed: $reason"
  for ((i = 0; i < ${#records[@]}; i += 4)); do chosen[${records[i]}]=1; done
  run_directory::ask_live "${!chosen[@]}" || common::die 'nothing was removed: squeue does not say which of these runs are live'
  for ((i = 0; i < ${#records[@]}; i += 4)); do
    reason=$(remove::say_objection "${records[i]}" "${records[i + 2]}")
    if [[ -z $reason ]]; then continue; fi
    remove::keep "${records[i]}" "$reason"
    chosen[${records[i]}]=''
    users[${records[i + 1]}]=${records[i]}
  done
  for ((i = 0; i < ${#records[@]}; i += 4)); do
    if [[ -n ${chosen[${records[i]}]:-} ]]; then remove::run "${records[i]}" "${records[i + 1]}" "${records[i + 3]}"; fi
  done
  printf '%s %s folders, %s\n' "${dry_run:+would have }removed" "$removed" "$(numfmt --to=iec-i --suffix=B "$freed")"
  exit "$status"
}

# remove::say_objection FOLDER CLUSTER   Prints why the run has to stay; nothing if it can be removed.
remove::say_objection() {
  local recording
  local -i recordings=0
  for recording in "$1"/task_*/wandb/offline-run-*/*.wandb; do
    if [[ ! -e $recording.synced ]] && (($(stat --format=%s -- "$recording") >= 8)); then recordings+=1; fi # as sync_wandb.sh counts
  done
  if ! remove::is_own "$1"; then
    echo "$foreign"
  elif [[ -e $1/task.yaml ]]; then
    echo "it was sent to a cloud, which Slurm does not know: when  sky jobs queue  shows that it has ended:  rm -r ${1@Q}"
  elif [[ -n $2 && -n ${slurm[ClusterName]:-} && $2 != "${slurm[ClusterName]}" ]]; then
    echo "it was sent to the cluster $2, and this is ${slurm[ClusterName]}"
  elif remove::may_live "$1"; then
    echo "it has not ended: its job (with --here its allocation) is in the queue, or it is being sent; end it with  bash hpc/experiments.sh cancel ${1@Q}"
  elif ((recordings > 0)); then
    echo "$recordings of its recordings were not uploaded to W&B: do it with  bash hpc/sync_wandb.sh ${1@Q}  or, if you do not need them,  rm -r ${1@Q}/task_*/wandb"
  fi
}

# remove::may_live FOLDER   A run without a job was refused, or is being sent, or the answer of sbatch was lost: it stays for an hour.
remove::may_live() {
  local key
  for key in "${!run_directory_live[@]}"; do
    if [[ ${key##*/} == "${1##*/}" ]]; then return; fi
  done
  if [[ -s $1/job_id || -s $1/jobs ]]; then run_directory::lives "$1"; else [[ -n $(find "$1/facts" -mmin -60) ]]; fi
}

# remove::run FOLDER EXPERIMENT OTHER_RUN   Holds the experiment's lock, because a submission may begin to use its checkpoints.
remove::run() {
  local -r folder=$1 experiment=${1%/*/*}/$2
  local user=${3:-${users[$2]:-}} path lock=''
  if [[ -z $dry_run ]] && ! files::lock lock "${folder%/*}/.$2.lock" try; then
    remove::keep "$folder" "another command is at work on the experiment $2"
    return
  fi
  while IFS= read -r path; do
    path=${folder%/*}/${path##*/}
    if [[ -e $path && -z ${chosen[$path]:-} ]]; then user=$path; fi
  done < <(cat -- "$experiment"/{runs,.sending} 2>/dev/null)
  if [[ -z $user && -d $experiment && ! -L $experiment ]]; then
    for path in "$experiment"/checkpoints{,.[0-9]*}; do # with a time: --fresh has moved it aside
      if remove::is_own "$path"; then remove::folder "$path"; elif [[ -e $path ]]; then remove::keep "$path" "$foreign"; fi
    done
    if [[ -z $dry_run ]]; then
      rm -f -- "$experiment"/{.job,.sending,runs}
      rmdir -- "$experiment" 2>/dev/null || true # the user may have other files there
    fi
  elif [[ -n $user && -d $experiment/checkpoints && -z ${seen[$experiment]:-} ]]; then
    seen[$experiment]=1
    common::note "kept $experiment/checkpoints: $user uses it"
  fi
  remove::folder "$folder"
  # A run without --exp-name has an experiment of its own, which nobody submits again.
  if [[ -n $lock && ! -e $experiment && $2 == *_+([0-9])-+([0-9])_+([0-9]) ]]; then rm -f -- "${folder%/*}/.$2.lock"; fi
  if [[ -n $lock ]]; then exec {lock}>&-; fi
}

remove::keep() {
  common::note "kept $1: $2"
  status=1
}

# remove::folder FOLDER   Renames it first: no command may use the half of a folder, and the next removal finds what an interrupted one left.
remove::folder() {
  local gone=$1
  if [[ -z $dry_run ]]; then
    gone=${1%/*}/.${1##*/}.removing
    mv -T -- "$1" "$gone"
  fi
  remove::delete "$gone" "$1"
}

# remove::delete FOLDER NAME
remove::delete() {
  local bytes
  if [[ -n ${seen[$1]:-} ]]; then return; fi # --dry-run meets the checkpoints of an experiment with each of its runs
  seen[$1]=1
  read -r bytes _ < <(remove::measure "$1")
  if [[ -z $dry_run ]]; then
    find "$1" -type d ! -perm -u=rwx -exec chmod u+rwx -- {} \;
    rm -rf --one-file-system -- "$1" || common::die "not all of $1 could be removed: see above; then call remove again"
  fi
  removed+=1 freed+=bytes
  printf '%s %s (%s)\n' "${dry_run:+would have }removed" "$2" "$(numfmt --to=iec-i --suffix=B "$bytes")"
}

# remove::is_own FOLDER   Whether it is no link, and the user owns it with all in it.
remove::is_own() {
  local others
  [[ -d $1 && ! -L $1 ]] || return
  read -r _ others < <(remove::measure "$1")
  ((others == 0))
}

# remove::measure FOLDER   Prints the bytes that its removal frees (source.tar has another name in .sources) and the number of files of others.
remove::measure() {
  { find "$1" -printf '%U %y%n %s\n' 2>/dev/null || true; } |
    awk -v me="$EUID" '$1 != me { others++ } $2 == "f1" { bytes += $3 } END { printf "%.0f %d\n", bytes, others }'
}

main "$@"
