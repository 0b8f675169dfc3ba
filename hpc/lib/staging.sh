# shellcheck shell=bash
# Prepares what a job copies to its nodes' own disks before it starts: which files and folders, in which format, in
# which archives. An entry is one path of --data, the environment (--stage-venv), or a container's image, which is
# its own archive. Archives are in ${scratch_dir}/.staging (packing.sh). The file `staging` of the run directory lists them, with four
# words for each entry, each ended by a NUL:
#
#   data|environment|image  KEY  FORMAT  PATH     PATH: below ${scratch_dir}, or of the environment or image
#
# KEY is the fingerprint of the entry's names, sizes, times and modes; FORMAT is tar, tar.zst, squashfs or sif.
# job/lib/unpacking.sh is the nodes' side.

declare -gA fact+=() packing_tree+=()
declare -ga staging_paths+=() staging_plan+=() # the paths of --data, with the names that the program uses; the entries

# An image pays if there are many small files: creating a file costs far more than moving its bytes.
declare -g staging_image_files=10000 staging_image_mean_bytes=$((1 << 20))

staging::is_wanted() {
  ((${#staging_paths[@]} > 0)) || [[ -n ${fact[stage_venv]} ]] || staging::wants_image
}

# A Singularity sandbox is a folder, and stays where it is.
staging::wants_image() {
  [[ -f ${fact[container]:-} && ${fact[stage_image]} != never ]]
}

# staging::prepare   Packs the entries that are not packed yet, and leaves the plan in staging_plan.
staging::prepare() {
  local -r store=${fact[scratch_dir]}/.staging
  local path
  packing::open "$store"
  for path in "${staging_paths[@]}"; do staging::prepare_entry data "$path"; done
  if [[ -n ${fact[stage_venv]} ]]; then staging::prepare_entry environment "$(realpath -- "${fact[environment]}")"; fi
  if staging::wants_image; then staging::prepare_image "${fact[container]}"; fi
  staging::prune "$store"
  packing::close
}

# staging::write PLAN
staging::write() {
  printf '%s\0' "${staging_plan[@]}" | common::write_atomically "$1"
}

# staging::prepare_entry KIND PATH   Adds the entry to the plan.
staging::prepare_entry() {
  local -r kind=$1 path=$2
  local full=$path start=. key format
  packing_tree=()
  if [[ $kind == data ]]; then full=${fact[scratch_dir]}/$path; fi
  if [[ ! -d $full || -L $full ]]; then
    start=./${full##*/}
    full=${full%/*}
  fi
  packing::describe "$full" "$start"
  if [[ $kind == data ]]; then staging::check_links "$full" "$start" "$path"; fi
  ((packing_tree[others] == 0)) || common::die "${path@Q} has ${packing_tree[others]} pipes, sockets or devices; only files, folders and links can be taken along"
  key=${packing_tree[key]}
  format=$(staging::choose_format "$key" "$full" "$start" "$path")
  packing::pack "$key" "$format" "$full" "$start" "$path"
  staging_plan+=("$kind" "$key" "$format" "$path")
}

# staging::prepare_image PATH   Computes the hash once for each state of the file.
staging::prepare_image() {
  packing_tree=()
  packing::describe "${1%/*}" "./${1##*/}"
  packing::record_image "${packing_tree[key]}" "$1"
  staging_plan+=(image "${packing_tree[key]}" sif "$1")
}

# Links are kept, so each must lead to a path that is also copied, and in a form that also works on the node.
staging::check_links() {
  local -r folder=$1 start=$2 path=$3
  local name target real root resolved
  local -a roots=()
  ((packing_tree[links] > 0)) || return 0
  mapfile -d '' -t roots < <(realpath -z -- "${staging_paths[@]/#/"${fact[scratch_dir]}/"}")
  exec {resolved}< <(cd -- "$folder" && find "$start" -type l -print0 | xargs -0 --no-run-if-empty realpath -zm --)
  while LC_ALL=C IFS= read -r -d '' name && LC_ALL=C IFS= read -r -d '' target && LC_ALL=C IFS= read -r -d '' real <&"$resolved"; do
    if [[ $target != /* ]]; then
      for root in "${roots[@]}"; do
        if [[ $real == "$root" || $real == "$root"/* ]]; then continue 2; fi
      done
    fi
    common::die "--data ${path@Q}: the link ${name@Q} leads outside the data to copy, to ${target@Q}: make it relative, to a path that --data names as well, or put the file in its place"
  done < <(cd -- "$folder" && find "$start" -type l -printf '%p\0%l\0')
  exec {resolved}<&-
}

# staging::choose_format KEY FOLDER START PATH   An entry that is packed already keeps its format.
staging::choose_format() {
  local -r key=$1 folder=$2 start=$3 path=$4
  local format
  case ${fact[data_format]} in
    tar) format=tar ;;
    zst) format=tar.zst ;;
    image) format=$([[ $start == . ]] && echo squashfs || echo tar) ;; # a single file is not a file system
    auto)
      for format in squashfs tar.zst tar; do
        if packing::is_packed "$key" "$format"; then
          printf '%s\n' "$format"
          return
        fi
      done
      format=tar
      if [[ $start == . ]] && staging::pays_as_image; then
        if common::has_command mksquashfs && { common::has_command squashfuse || [[ -n ${fact[container]:-} ]]; }; then
          format=squashfs
        else
          common::note "note: ${path@Q} has ${packing_tree[files]} files: as an image it would come faster, but there is no $(common::has_command mksquashfs && echo squashfuse || echo mksquashfs) here"
        fi
      elif packing::compresses "$folder"; then
        format=tar.zst
      fi
      ;;
  esac
  printf '%s\n' "$format"
}

staging::pays_as_image() {
  ((packing_tree[files] >= staging_image_files && packing_tree[bytes] / packing_tree[files] < staging_image_mean_bytes))
}

# staging::prune STORE   Removes archives that were not used for a long time, or that make the store too large, and what killed packers
# have left. Never removes an archive that the plan or a job of the user names, or that was used within the hour. It removes by age first,
# then the longest unused archives while the store is larger than the limit.
staging::prune() {
  local -r store=$1
  local -r days=${fact[staging_days]} limit=$((fact[staging_megabytes] << 20))
  local -A needed=()
  local -a oldest=()
  local total age
  local record archive bytes lock asked=''
  mapfile -t oldest < <(find "$store" -maxdepth 1 -name '*.manifest' -user "$(id -u)" -printf '%T@ %f\n' | LC_ALL=C sort -n)
  total=$(find "$store" -maxdepth 1 -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
  staging::remove_orphans "$store"
  for record in "${oldest[@]}"; do
    archive=${record#* }
    archive=${archive%.manifest}
    age=$(($(common::now) - ${record%%.*}))
    if ((age < 3600 || (age < days * 86400 && total <= limit))); then continue; fi
    if [[ -z $asked ]]; then staging::find_needed needed "$store" || return 0; fi
    asked=1
    if [[ -n ${needed[${archive%%.*}]:-} ]]; then continue; fi
    bytes=$(find "$store" -maxdepth 1 -name "$archive*" -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
    # Another submitter may have used it in the meantime.
    if files::lock lock "$store/.${archive%%.*}.lock" try && [[ -n $(find "$store/$archive.manifest" -mmin +59) ]]; then
      rm -f -- "$store/$archive.manifest" # first: without the manifest the archive counts as not packed
      rm -f -- "$store/$archive" "$store/$archive".[2-9]
      total=$((total - bytes))
      common::note "removed from $store: ${archive:0:8}… ($(packing::size "$bytes"), unused for $((age / 86400)) days)"
    fi
    exec {lock}>&-
  done
  if ((total > limit)); then
    common::warn "the archives in $store take $(packing::size "$total"), and were all used lately (--staging-limit ${fact[staging_megabytes]}M)"
  fi
}

# Removes what killed packers have left of data that has changed since: nothing else would ever remove it.
staging::remove_orphans() {
  local -r store=$1
  local orphan name lock
  for orphan in "$store"/*; do
    name=${orphan##*/}
    if [[ ! -e $orphan || ! -O $orphan || $name == *.manifest || ($name != *.partial.* && -e ${orphan%.[2-9]}.manifest) ]]; then continue; fi
    if files::lock lock "$store/.${name%%.*}.lock" try && [[ -z $(find "$orphan" -mmin -60 -print -quit 2>&1) ]]; then rm -rf -- "$orphan"; fi
    exec {lock}>&-
  done
}

# staging::find_needed ARRAY STORE   Adds the keys in the plan to ARRAY, and those of runs that have a live job or no known job yet.
# Status 1 if Slurm does not answer.
staging::find_needed() {
  local -n keys_needed=$1
  local -a words=() plans=("${staging_plan[@]}") runs=()
  local run
  local -i word
  for run in "${2%/*}"/hpc_outputs/*/staging; do
    if [[ -e $run ]]; then runs+=("${run%/staging}"); fi
  done
  run_directory::ask_live "${runs[@]}" || return 1
  for run in "${runs[@]}"; do
    if run_directory::lives "$run"; then
      mapfile -d '' -t words <"$run/staging"
      plans+=("${words[@]}")
    fi
  done
  for ((word = 1; word < ${#plans[@]}; word += 4)); do keys_needed+=(["${plans[word]}"]=1); done
}
