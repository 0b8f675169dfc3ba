#!/usr/bin/env bash
# tests/make_image.sh
#
# Builds the image of the container tests with singularity/build.sh from a new Debian folder, without a registry, and prints its path. The
# image is built once on a machine for each version of its inputs and is kept in .venv/. Run by root, who makes the Debian folder; an
# ordinary user then builds the image, which needs no root.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"

readonly user=nobody
readonly -a made_of=(singularity/train.def singularity/build.sh venv/create.sh venv/environment.sh venv/requirements.txt
  venv/constraints-cpu.txt tests/make_image.sh)

main() {
  local key image lock
  key=$(cd -- "$project" && cat -- "${made_of[@]}" | sha256sum)
  image=$project/.venv/test-container-${key:0:12}.sif
  if [[ ! -e $image ]]; then
    ((EUID == 0)) || common::die "no image for the container tests yet: run this as root once"
    exec {lock}>"$image.lock"
    flock "$lock"
    if [[ ! -e $image ]]; then make::image "$image"; fi
  fi
  printf '%s\n' "$image"
}

# make::image IMAGE   Builds it in a folder that other users can enter, because they may not be able to enter the checkout's.
make::image() {
  local -r image=$1
  common::note 'building the image of the container tests (once; minutes) …'
  work=$(mktemp -d "${TMPDIR:-/tmp}/make_image.XXXXXX")
  trap 'rm -rf -- "$work"' EXIT
  chmod 755 -- "$work"
  make::debian "$work/debian"
  mkdir -p -- "$work"/{home,project/hpc}
  cp -R -- "$project/singularity" "$project/venv" "$work/project/"
  cp -R -- "$project/hpc/lib" "$work/project/hpc/"
  chown -R -- "$user:" "$work/home" "$work/project"
  # An unprivileged user can unpack the folder only if all files have one owner and there are no devices.
  find "$work/debian/dev" -mindepth 1 -delete
  chown --no-dereference -R 0:0 -- "$work/debian"
  if ! { apptainer --quiet build --mksquashfs-args '-comp zstd -Xcompression-level 1' "$work/base.sif" "$work/debian" &&
    runuser -u "$user" -- env HOME="$work/home" PATH="$PATH" \
      bash "$work/project/singularity/build.sh" cpu --from "$work/base.sif" --output "$work/home/test.sif"; } >"$work/log" 2>&1; then
    tail -n 40 -- "$work/log" >&2
    common::die 'the image could not be built; the last lines of its log are above'
  fi
  cp -- "$work/home/test.sif" "$image.partial"
  chmod 644 -- "$image.partial"
  mv -T -- "$image.partial" "$image"
}

# Use the mirror of this machine's apt.
make::debian() {
  local source
  source=$(apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian')
  source=${source%%$'\n'*}
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$(cut -d ' ' -f 3 <<<"$source")" "$1" "$source" >&2 || common::die 'mmdebstrap could not make a Debian folder'
}

main "$@"
