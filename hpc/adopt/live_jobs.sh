# shellcheck shell=bash
# Finds jobs of a kit from before hpc/job/ that are queued or running while their project is upgraded. A job with a snapshot has its
# own copy of the kit; without one it reads the kit in the project.

# live_jobs::check PROJECT DRY_RUN   Ends if jobs would fail without the old files. Prints the ids of the other jobs.
live_jobs::check() {
  local -a needing=() others=() # by id
  local answer id state folder command words
  unset -v "${!SQUEUE_@}" # they could hide jobs
  if ! slurm::ask answer 5 squeue --all --noheader --user="$UID" --format=$'%F\t%t\t%Z\t%o'; then
    common::note "note: it is not known whether queued or running jobs need the old files: $answer"
    return
  fi
  while IFS=$'\t' read -r id state folder command; do
    # Run directories of newer kits have a link to their kit, so their jobs need nothing here.
    if [[ ! -r $folder/facts || -e $folder/kit ]]; then continue; fi
    local -A fact=()
    # shellcheck source=/dev/null
    source "$folder/facts"
    # -ef: links may give the project several names. If git ignores hpc/, the snapshot has links into the project.
    if [[ ! ${fact[project_directory]:-} -ef $1 ]]; then
      continue
    elif [[ ${fact[source_dir]:-} -ef $1 || $state == PD && $command == */hpc/pack.sh* ]] || grep -zcs '^hpc/' "$folder/source.tar.ignored" >/dev/null; then
      needing[id]=1
    else
      others[id]=1
    fi
  done < <(sort -u <<<"$answer")
  if ((${#needing[@]} > 0)); then
    words="job ${!needing[*]} needs the old files in ${1@Q} (submitted with --no-snapshot, or waiting to pack data): wait until it has ended, cancel it (scancel ${!needing[*]}), or upgrade all the same (--force)"
    if [[ -z $2 ]]; then common::die "$words"; fi
    common::warn "$words"
  fi
  printf '%s' "${!others[*]}"
}
