# shellcheck shell=bash
# The nodes' side of staging.sh: copies the entries of the plan to this node's own disk, and checks that they have
# arrived unchanged. Archives are unpacked; images are mounted, which creates no files. keep_node.sh runs it once on each
# node.

declare -gA fact+=() packing_tree+=() plan_manifest+=()
declare -ga plan_kinds+=() plan_keys+=() plan_formats+=() plan_paths+=() plan_there+=()
declare -g plan_archive plan_image plan_target unpacking_reason=''

# unpacking::is_there ENTRY   A requeued job does not copy again what it has left here for itself.
unpacking::is_there() {
  plan::load "$1"
  if [[ ${plan_formats[$1]} == squashfs ]]; then
    [[ -e $plan_image && $(stat --format=%s -- "$plan_image") == "${plan_manifest[archive_bytes]}" ]]
  else
    [[ -e $SLURM_TMPDIR/.hpc_kit/arrived.$1 ]] && unpacking::is_right
  fi
}

# unpacking::check_space WAY   Compares the size of all missing entries with the free space of the disk.
unpacking::check_space() {
  local -r way=$1
  local -i entry bytes=0 entries=0
  local free free_inodes inodes
  for ((entry = 0; entry < ${#plan_kinds[@]}; entry++)); do
    if [[ -n ${plan_there[entry]:-} || ${plan_kinds[entry]} == image ]]; then continue; fi
    plan::load "$entry"
    if [[ ${plan_formats[entry]} == squashfs ]]; then
      bytes+=${plan_manifest[archive_bytes]}
    else
      # A file takes whole blocks. A broadcast archive needs space beside its unpacked files.
      entries+=$((plan_manifest[files] + plan_manifest[folders] + plan_manifest[links]))
      bytes+=$((plan_manifest[unpacked_bytes] + (plan_manifest[files] + plan_manifest[folders]) * 4096))
      if [[ $way == sbcast ]]; then bytes+=${plan_manifest[archive_bytes]}; fi
    fi
  done
  read -r free free_inodes inodes < <(df --output=avail,iavail,itotal --block-size=1 -- "$SLURM_TMPDIR" | tail -n 1)
  ((free >= bytes)) ||
    common::die "no space on $(common::node): the data need $(packing::size "$bytes") in $SLURM_TMPDIR, and $(packing::size "$free") are free"
  # Some file systems report no inodes.
  if [[ $inodes =~ ^[1-9] ]] && ((free_inodes < entries)); then
    common::die "no space on $(common::node): the data are $entries files and folders, and $SLURM_TMPDIR has room for $free_inodes (inodes); try --data-format image"
  fi
}

# unpacking::bring ENTRY WAY   If the entry arrives changed, copies it once more, then gives up.
unpacking::bring() {
  local -r entry=$1 way=$2
  local try
  plan::load "$entry"
  for try in 1 2; do
    if unpacking::try "$entry" "$way"; then
      : >"$SLURM_TMPDIR/.hpc_kit/arrived.$entry"
      return
    fi
    common::warn "$(common::node): ${plan_paths[entry]@Q} has not arrived as it was: ${unpacking_reason:-unpacking it failed} (try $try)"
  done
  common::die "$(common::node): ${plan_paths[entry]@Q} does not arrive as it was packed; is the disk of $SLURM_TMPDIR, or the archive ${plan_archive@Q}, damaged?"
}

unpacking::try() {
  local -r entry=$1 way=$2
  unpacking_reason=''
  if [[ ${plan_formats[entry]} == squashfs ]]; then
    unpacking::bring_image "$way" && unpacking::mount "$entry"
  else
    local_disk::erase "$plan_target"
    unpacking::extract "$entry" "$way" && unpacking::is_right
  fi
}

# unpacking::extract ENTRY WAY   Unpacks all parts at the same time, except the part of the folders, which comes last.
unpacking::extract() {
  local -r format=${plan_formats[$1]} way=$2
  local folder=$plan_target part process from=$plan_archive failed=0
  local -a processes=()
  if [[ $way == sbcast ]]; then from=$plan_image; fi
  if ((plan_manifest[folders] == 0)); then folder=${plan_target%/*}; fi
  mkdir -p -- "$folder"
  for ((part = 1; part < plan_manifest[parts]; part++)); do
    unpacking::untar "$format" "$folder" "$from$(unpacking::suffix "$part")" &
    processes+=("$!")
  done
  for process in "${processes[@]}"; do common::wait "$process" || failed=1; done
  unpacking::untar "$format" "$folder" "$from$(unpacking::suffix "${plan_manifest[parts]}")" || failed=1
  if [[ $way == sbcast ]]; then rm -f -- "$plan_image" "$plan_image".[2-9]; fi
  return "$failed"
}

unpacking::suffix() {
  if (($1 > 1)); then printf '.%s' "$1"; fi
}

# unpacking::untar FORMAT FOLDER ARCHIVE
unpacking::untar() {
  local -ra options=(--extract --no-unquote --directory="$2" --same-permissions --no-same-owner --delay-directory-restore --blocking-factor=2048)
  if [[ $1 == tar.zst ]]; then
    common::has_command zstd || common::die "$(common::node) has no zstd: submit with --data-format tar"
    zstd -q -d -c -- "$3" | tar "${options[@]}"
  else
    tar "${options[@]}" --file="$3"
  fi
}

# Whether the tree at plan_target has the names, sizes, times and modes of the packed tree; unpacking_reason says
# which differ.
unpacking::is_right() {
  local folder=$plan_target start=. found
  if ((plan_manifest[folders] == 0)); then
    folder=${plan_target%/*}
    start=./${plan_target##*/}
  fi
  [[ -e $folder/$start ]] || return 1
  packing::list "$folder" "$start" >"$SLURM_TMPDIR/.hpc_kit/list"
  found=$(packing::fingerprint <"$SLURM_TMPDIR/.hpc_kit/list")
  if [[ $found != "${plan_manifest[fingerprint]}" ]]; then
    packing::count <"$SLURM_TMPDIR/.hpc_kit/list"
    unpacking_reason="${packing_tree[files]} files, ${packing_tree[folders]} folders, ${packing_tree[links]} links, ${packing_tree[bytes]} bytes; ${plan_manifest[files]}, ${plan_manifest[folders]}, ${plan_manifest[links]}, ${plan_manifest[bytes]} were packed"
    return 1
  fi
}

# unpacking::bring_image WAY
unpacking::bring_image() {
  if [[ $1 == read ]]; then cp --sparse=never -- "$plan_archive" "$plan_image.partial" && mv -fT -- "$plan_image.partial" "$plan_image"; fi
  unpacking_reason="an image of $(stat --format=%s -- "$plan_image") bytes in place of ${plan_manifest[archive_bytes]}"
  [[ $(stat --format=%s -- "$plan_image") == "${plan_manifest[archive_bytes]}" ]]
}

# unpacking::mount ENTRY   A container mounts the image itself, and finds it in .hpc_kit/images. A node without
# FUSE unpacks it.
unpacking::mount() {
  local -r entry=$1
  local files
  local_disk::unmount_below "$plan_target" itself
  mkdir -p -- "$plan_target"
  if [[ -n ${fact[container]:-} ]]; then
    printf '%s\0' "$plan_image" "${plan_paths[entry]}" >>"$SLURM_TMPDIR/.hpc_kit/images"
  elif unpacking::squashfuse "$plan_image" "$plan_target"; then
    files=$(stat --file-system --format=%c -- "$plan_target")
    unpacking_reason="$files files and folders in the image, $((plan_manifest[files] + plan_manifest[folders] + plan_manifest[links])) were packed"
    ((files == 0 || files >= plan_manifest[files]))
  else
    common::has_command unsquashfs ||
      common::die "$(common::node) can neither mount an image (squashfuse, /dev/fuse) nor unpack it (unsquashfs): submit with --data-format tar"
    common::note "$(common::node): no squashfuse here: unpacking the image of ${plan_paths[entry]@Q}"
    unsquashfs -quiet -no-progress -processors "$(packing::processors)" -force -dest "$plan_target" "$plan_image" >/dev/null && unpacking::is_right
  fi
}

# The image's server ignores the signal that tells the ranks to save; it ends when the image is unmounted.
unpacking::squashfuse() {
  local program
  for program in squashfuse_ll squashfuse; do
    if common::has_command "$program"; then
      (trap '' TERM INT HUP && exec "$program" "$1" "$2") >/dev/null 2>&1 </dev/null || return 1
      return
    fi
  done
  return 1
}

# unpacking::make_environment   The staged environment contains its old path; makes one from it that works here.
unpacking::make_environment() {
  local -r tree=$SLURM_TMPDIR/.hpc_kit/environment.tree
  "$tree/bin/python" -I -S "${BASH_SOURCE[0]%/lib/*}/relocate.py" "$tree" "$SLURM_TMPDIR/.hpc_kit/environment"
}
