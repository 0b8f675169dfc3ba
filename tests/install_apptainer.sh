#!/usr/bin/env bash
# tests/install_apptainer.sh
#
# Installs a real Apptainer for the tests on a Debian machine and prints the folder of its `apptainer`. If the machine already has one, the
# script only prints its folder. Run by root. Debian 12 has no package of Apptainer, so the script takes the one of Debian unstable and puts
# it into /opt/hpc_kit_apptainer, together with the C library that it needs. Nothing else on the machine uses that folder. apt downloads the
# packages from this machine's own mirror and verifies them.
# on the machine uses. Packages come from the mirror that this machine's apt has, by apt, which checks them.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/../hpc/lib/common.sh"
source "$here/../hpc/lib/packages.sh"
source "$here/mirror.bash"

readonly prefix=/opt/hpc_kit_apptainer

main() {
  local program lock
  if program=$(command -v apptainer || command -v singularity); then
    printf '%s\n' "${program%/*}"
    return
  fi
  if [[ ! -e $prefix/complete ]]; then
    ((EUID == 0)) || common::die "no Apptainer here: run this as root once, or install one"
    exec {lock}>"$prefix.lock"
    flock "$lock"
    if [[ ! -e $prefix/complete ]]; then install::all; fi
  fi
  # udev gives this mode on most machines. FUSE itself makes sure that users mount only their own files.
  if [[ -O /dev/fuse && $(stat -c %a /dev/fuse) != 666 ]]; then chmod 666 /dev/fuse; fi
  printf '%s\n' "$prefix/bin"
}

install::all() {
  local package
  local -a missing=()
  for package in patchelf squashfs-tools squashfuse fuse2fs fuse-overlayfs fakeroot mmdebstrap uidmap; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  if ((${#missing[@]} > 0)); then packages::install "${missing[@]}"; fi

  work=$(mktemp -d)
  trap 'rm -rf -- "$work"' EXIT
  common::note "installing Apptainer in $prefix …"
  install::download
  install::unpack
  "$prefix/bin/apptainer" --version >&2
  touch -- "$prefix/complete"
}

# Give apt its own folder for lists, cache and sources, so that those of the machine do not change.
install::download() {
  local mirror log=$work/log
  local -a options
  mapfile -t options < <(mirror::options)
  local -a apt=(
    -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/sources" -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root "${options[@]/#/-o}"
  )
  mirror=$(mirror::debian)
  mkdir -p -- "$work"/{sources,lists/partial,cache/archives/partial,packages}
  printf 'Types: deb\nURIs: %s\nSuites: unstable\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "$mirror" >"$work/sources/unstable.sources"
  if ! { apt-get "${apt[@]}" --quiet update &&
    cd -- "$work/packages" && apt-get "${apt[@]}" --quiet download apptainer libc6 libseccomp2 libsqlite3-0; } >"$log" 2>&1; then
    tail -n 5 -- "$log" >&2
    common::die "could not fetch Apptainer of Debian's unstable release (the last lines of apt-get are above)"
  fi
}

# Apptainer finds its other parts relative to its own place: two programs relative to bin/, and its starter one folder higher than Debian
# installs it.
install::unpack() {
  local package program libraries
  rm -rf -- "$prefix"
  for package in "$work"/packages/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
  mkdir -p -- "$prefix"
  mv -- "$work"/root/usr/{bin,lib} "$work"/root/{etc,var} "$prefix/"
  libraries=$(dirname -- "$prefix"/lib/*/libc.so.6)
  ln -s ../etc ../var "$prefix/lib/"
  # The old form of the path (rpath) is also used to find the libraries that these libraries need.
  for program in "$prefix/bin/apptainer" "$libraries/apptainer/bin/starter"; do
    patchelf --set-interpreter "$libraries"/ld-linux-*.so.* --force-rpath --set-rpath "$libraries" "$program"
  done
  # On a machine where root lacks a capability, these files would give it to root.
  sed -i 's/^root default capabilities = .*/root default capabilities = no/' "$prefix/etc/apptainer/apptainer.conf"
}

main "$@"
