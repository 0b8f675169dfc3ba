# shellcheck shell=bash
# What goes from ${scratch_dir}/.staging: archives that were not used for long, or make it too large, and what
# killed packers have left. Never an archive that the plan or a job of the user's names, or that was used within the
# hour.

declare -gA fact+=()
declare -ga staging_plan+=()

# pruning::prune STORE   By age first, then the longest unused while all together are larger than the limit.
pruning::prune() {
  local -r store=$1
  local -r days=${fact[staging_days]} limit=$((fact[staging_megabytes] << 20))
  local -A needed=()
  local -a oldest=()
  local total age
  local record archive bytes lock removed asked=''
  mapfile -t oldest < <(find "$store" -maxdepth 1 -name '*.manifest' -printf '%T@ %f\n' | LC_ALL=C sort -n)
  total=$(find "$store" -maxdepth 1 -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
  pruning::remove_orphans "$store"
  for record in "${oldest[@]}"; do
    archive=${record#* }
    archive=${archive%.manifest}
    age=$(($(common::now) - ${record%%.*}))
    if ((age < 3600 || (age < days * 86400 && total <= limit))); then continue; fi
    if [[ -z $asked ]]; then pruning::find_needed needed "$store" || return 0; fi
    asked=1
    if [[ -n ${needed[${archive%%.*}]:-} ]]; then continue; fi
    removed=''
    bytes=$(find "$store" -maxdepth 1 -name "$archive*" -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
    exec {lock}>"$store/.${archive%%.*}.lock"
    # Another submitter may have taken it meanwhile.
    if flock --nonblock "$lock" 2>/dev/null && [[ -n $(find "$store/$archive.manifest" -mmin +59) ]]; then
      rm -f -- "$store/$archive.manifest" # first: from here on it is not packed
      rm -f -- "$store/$archive" "$store/$archive".[2-9]
      removed=1
    fi
    exec {lock}>&-
    if [[ -z $removed ]]; then continue; fi
    total=$((total - bytes))
    common::note "removed from $store: ${archive:0:8}… ($(packing::size "$bytes"), unused for $((age / 86400)) days)"
  done
  if ((total > limit)); then
    common::warn "the archives in $store take $(packing::size "$total"), and were all used lately (--staging-limit ${fact[staging_megabytes]}M)"
  fi
}

# What killed packers have left, of data that changed since: nobody else would ever remove it.
pruning::remove_orphans() {
  local -r store=$1
  local orphan name lock
  for orphan in "$store"/*; do
    name=${orphan##*/}
    if [[ $name == *.manifest || ($name != *.partial.* && -e ${orphan%.[2-9]}.manifest) ]]; then continue; fi
    exec {lock}>"$store/.${name%%.*}.lock"
    if flock --nonblock "$lock" 2>/dev/null && [[ -z $(find "$orphan" -mmin -60 -print -quit 2>&1) ]]; then rm -rf -- "$orphan"; fi
    exec {lock}>&-
  done
}

# pruning::find_needed ARRAY STORE   ARRAY gets the keys in the plan, and in those of runs of which a job lives, or of which no job is
# known yet. Status 1 when Slurm does not answer.
pruning::find_needed() {
  local -n keys_needed=$1
  local -A live=()
  local answer plan job key lives
  local -i word
  slurm::ask answer 30 squeue --noheader --user="$(id -u)" --format=%F || return 1
  for job in $answer; do live[$job]=1; done
  for ((word = 1; word < ${#staging_plan[@]}; word += 4)); do keys_needed["${staging_plan[word]}"]=1; done
  for plan in "${2%/*}"/hpc_outputs/*/staging; do
    if [[ ! -e $plan ]]; then continue; fi
    lives=1
    while read -r job _; do
      lives=${live[$job]:-}
      if [[ -n $lives ]]; then break; fi
    done < <(cat -- "${plan%/*}/job_id" "${plan%/*}/jobs" 2>/dev/null)
    if [[ -z $lives ]]; then continue; fi
    while IFS= read -r -d '' _ && IFS= read -r -d '' key && IFS= read -r -d '' _ && IFS= read -r -d '' _; do
      # shellcheck disable=SC2034 # the caller's
      keys_needed["$key"]=1
    done <"$plan"
  done
}
