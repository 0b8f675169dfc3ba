# shellcheck shell=bash
# What goes from ${scratch_dir}/.staging: archives that were not used for long, or make it too large, and what
# killed packers have left. Never an archive that the plan or a job of the user's names, or that was used within the
# hour. Needs common.sh, packing.sh and run_directory.sh.

declare -gA fact
declare -ga staging_plan

# pruning::prune STORE   By age first, then the longest unused while all together are larger than the limit.
pruning::prune() {
  local -r store=$1
  local -r days=${fact[staging_days]} limit=$((fact[staging_megabytes] << 20))
  local -A needed=()
  local -a oldest=()
  local total age
  local record archive bytes lock removed
  mapfile -t oldest < <(find "$store" -maxdepth 1 -name '*.manifest' -printf '%T@ %f\n' | LC_ALL=C sort -n)
  total=$(find "$store" -maxdepth 1 -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
  pruning::remove_orphans "$store"
  for record in "${oldest[@]}"; do
    archive=${record#* }
    archive=${archive%.manifest}
    age=$((EPOCHSECONDS - ${record%%.*}))
    if ((age < 3600 || (age < days * 86400 && total <= limit))); then continue; fi
    if ((${#needed[@]} == 0)); then pruning::find_needed "$store" || return 0; fi
    if [[ -n ${needed[${archive%%.*}]:-} ]]; then continue; fi
    removed=''
    bytes=$(find "$store" -maxdepth 1 -name "$archive*" -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
    exec {lock}>"$store/.${archive%%.*}.lock"
    # Another submitter may have taken it meanwhile.
    if flock --nonblock "$lock" && [[ -n $(find "$store/$archive.manifest" -mmin +59) ]]; then
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
    if flock --nonblock "$lock" && [[ -z $(find "$orphan" -mmin -60 -print -quit 2>&1) ]]; then rm -rf -- "$orphan"; fi
    exec {lock}>&-
  done
}

# The keys in the plan, and in those of the user's jobs. Status 1 when Slurm does not tell.
pruning::find_needed() {
  local -r store=$1
  local answer plan job key
  local -i word
  answer=$(timeout 15 squeue --noheader --user="$(id -un)" --format=%F 2>/dev/null) || return 1
  for ((word = 1; word < ${#staging_plan[@]}; word += 4)); do needed[${staging_plan[word]}]=1; done
  for plan in "${store%/*}"/hpc_outputs/*/staging; do
    [[ -e $plan ]] || continue
    job=$(cat -- "${plan%/*}/job_id" 2>/dev/null) || job=''
    if [[ -n $job && $'\n'$answer$'\n' != *$'\n'"$job"$'\n'* ]]; then continue; fi
    while IFS= read -r -d '' _ && IFS= read -r -d '' key && IFS= read -r -d '' _ && IFS= read -r -d '' _; do
      needed[$key]=1
    done <"$plan"
  done
}
