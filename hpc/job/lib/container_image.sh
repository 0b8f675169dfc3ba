# shellcheck shell=bash
# A container's image on the node's own disk. It outlives the job, for later jobs of the same user. It is in
# USER_images beside the jobs' folders, and its name comes from its content. If that folder cannot be used, the image
# is removed with the job. keep_node.sh runs this; node.sh reads the result, .hpc_kit/container_image.

declare -gA fact+=() plan_manifest+=()
declare -g plan_image

# Images that no job has used for this time are removed.
declare -g container_image_days=14

# container_image::is_settled ENTRY   Status 0 if nothing must be copied: the image is on the node already, or is used in place.
# Otherwise sets container_image_copy to the place for the copy.
container_image::is_settled() {
  local -r entry=$1
  local folder
  plan::load "$entry"
  folder=$(container_image::folder)
  container_image_copy=$folder/${plan_manifest[sha256]}.sif
  if [[ -e $container_image_copy && $(stat --format=%s -- "$container_image_copy") == "${plan_manifest[archive_bytes]}" ]]; then
    touch -- "$container_image_copy"
    container_image::use "$container_image_copy"
  elif [[ -z ${fact[stage_image]} ]] && container_image::is_better_left "$folder"; then
    container_image::use "${fact[container]}"
  else
    return 1
  fi
}

container_image::folder() {
  local shared kind folder
  folder=$(local_disk::folder)
  shared=$folder/$(id -un)_images
  kind=$(stat --file-system --format=%T -- "$folder" 2>/dev/null) || kind=none
  if [[ $kind != none && $kind != tmpfs && $kind != ramfs ]] && mkdir -p -- "$shared" 2>/dev/null && [[ -O $shared && ! -L $shared ]]; then
    chmod 700 -- "$shared"
    printf '%s\n' "$shared"
  else
    printf '%s\n' "$SLURM_TMPDIR/.hpc_kit/archives"
  fi
}

# Skip the copy, unless the user asked for it, if the image is on this very disk, or does not fit.
container_image::is_better_left() {
  local free
  if [[ $(stat --format=%d -- "${fact[container]}") == "$(stat --format=%d -- "$1")" ]]; then return; fi
  free=$(df --output=avail --block-size=1 -- "$1" | tail -n 1)
  if ((free < 2 * plan_manifest[archive_bytes])); then
    common::note "$(common::node): the image stays on the shared file system: it has $(packing::size "${plan_manifest[archive_bytes]}"), and $(packing::size "$free") are free in $1"
    return
  fi
  return 1
}

container_image::use() {
  printf '%s' "$1" >"$SLURM_TMPDIR/.hpc_kit/container_image"
}

# container_image::bring ENTRY WAY   Call it after is_settled has returned 1.
container_image::bring() {
  local -r entry=$1 way=$2
  local -r partial=$container_image_copy.partial.$SLURM_JOB_ID
  local try
  plan::load "$entry"
  find "${container_image_copy%/*}" -maxdepth 1 -name '*.sif*' -mtime "+$container_image_days" -delete
  for try in 1 2; do
    if [[ $way == sbcast && $try == 1 ]]; then
      mv -fT -- "$plan_image" "$partial"
    else
      cp -T -- "${fact[container]}" "$partial"
    fi
    # Each job waits for this check; sha256sum takes up to 40 times as long.
    if [[ $(cksum <"$partial") == "${plan_manifest[cksum]}" ]]; then
      mv -fT -- "$partial" "$container_image_copy"
      container_image::use "$container_image_copy"
      return
    fi
    rm -f -- "$partial"
    common::warn "$(common::node): the container's image has not arrived as it was (try $try)"
  done
  common::die "$(common::node): ${fact[container]@Q} does not arrive as it was at submission; was it replaced? Submit again"
}
