# shellcheck shell=bash
# What a job takes along to its nodes' own disks, before it starts: which files and folders, in which form, in
# which archives. An entry is one path of --data, the environment (--stage-venv), or a container's image, which is
# its own archive. Archives lie in ${scratch_dir}/.staging (packing.sh); the run directory's file `staging` names them, four words for each
# entry, each with a NUL:
#
#   data|environment|image  KEY  FORMAT  PATH     PATH: below ${scratch_dir}, or of the environment or image
#
# KEY is the fingerprint of the entry's names, sizes, times and modes; FORMAT is tar, tar.zst, squashfs or sif.
# job/lib/unpacking.sh is the nodes' side.

declare -gA fact+=()
declare -ga staging_paths+=() staging_plan+=() # what --data names, as the program will name it; the entries

# An image pays where there are many small files: making a file costs far more than moving its bytes.
declare -g staging_image_files=10000 staging_image_mean_bytes=$((1 << 20))

staging::is_wanted() {
  ((${#staging_paths[@]} > 0)) || [[ -n ${fact[stage_venv]} ]] || staging::wants_image
}

# A sandbox of Singularity's, a folder, stays where it is.
staging::wants_image() {
  [[ -f ${fact[container]:-} && ${fact[stage_image]} != never ]]
}

# staging::prepare   Packs what is not packed yet; leaves the plan in staging_plan.
staging::prepare() {
  local -r store=${fact[scratch_dir]}/.staging
  local path
  packing::open "$store"
  for path in "${staging_paths[@]}"; do staging::prepare_entry data "$path"; done
  if [[ -n ${fact[stage_venv]} ]]; then staging::prepare_entry environment "$(realpath -- "${fact[environment]}")"; fi
  if staging::wants_image; then staging::prepare_image "${fact[container]}"; fi
  pruning::prune "$store"
  packing::close
}

# staging::write PLAN
staging::write() {
  printf '%s\0' "${staging_plan[@]}" | common::write_atomically "$1"
}

# staging::prepare_entry KIND PATH   Adds to the plan.
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

# staging::prepare_image PATH   Its hash is computed once for each state of the file.
staging::prepare_image() {
  packing_tree=()
  packing::describe "${1%/*}" "./${1##*/}"
  packing::record_image "${packing_tree[key]}" "$1"
  staging_plan+=(image "${packing_tree[key]}" sif "$1")
}

# Links are kept, so they must lead to what comes along too, by a way that the node has as well.
staging::check_links() {
  local -r folder=$1 start=$2 path=$3
  local name target real root
  local -a roots=()
  ((packing_tree[links] > 0)) || return 0
  for root in "${staging_paths[@]}"; do
    real=$(realpath -- "${fact[scratch_dir]}/$root" && printf x)
    roots+=("${real%$'\n'x}")
  done
  exec {resolved}< <(cd -- "$folder" && find "$start" -type l -print0 | xargs -0 --no-run-if-empty realpath -zm --)
  while IFS= read -r -d '' name && IFS= read -r -d '' target && IFS= read -r -d '' real <&"$resolved"; do
    if [[ $target != /* ]]; then
      for root in "${roots[@]}"; do
        if [[ $real == "$root" || $real == "$root"/* ]]; then continue 2; fi
      done
    fi
    common::die "--data ${path@Q}: the link ${name@Q} leads out of what is taken along, to ${target@Q}: make it relative, to a path that --data names as well, or put the file in its place"
  done < <(cd -- "$folder" && find "$start" -type l -printf '%p\0%l\0')
  exec {resolved}<&-
}

# staging::choose_format KEY FOLDER START PATH   What has been packed before stays as it is.
staging::choose_format() {
  local -r key=$1 folder=$2 start=$3 path=$4
  local format
  case ${fact[data_format]} in
    tar) format=tar ;;
    zst) format=tar.zst ;;
    image) format=squashfs ;;
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
  # A file alone is no file system.
  if [[ $format == squashfs && $start != . ]]; then format=tar; fi
  printf '%s\n' "$format"
}

staging::pays_as_image() {
  ((packing_tree[files] >= staging_image_files && packing_tree[bytes] / packing_tree[files] < staging_image_mean_bytes))
}
