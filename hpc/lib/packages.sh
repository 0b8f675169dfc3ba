# shellcheck shell=bash
# Debian's packages, for the machines that the kit sets up itself.

# packages::install PACKAGE...   As root or by sudo; else, or elsewhere than on Debian, one clear error.
packages::install() {
  local -r missing="these packages are missing: $*"
  local -a as_root=()
  common::has_command apt-get || common::die "$missing; install them with this system's package manager"
  if ((EUID != 0)); then
    if ! { common::has_command sudo && sudo --non-interactive true 2>/dev/null; }; then
      common::die "$missing; run as root: apt-get install --no-install-recommends $*"
    fi
    as_root=(sudo --non-interactive)
  fi
  common::note "installing $* …"
  local log
  log=$(mktemp)
  # Debian's packages start their daemons; RUNLEVEL=1 keeps them down (invoke-rc.d(8)) and leaves nothing behind.
  # One after the other, where two of the kit's scripts install at the same time.
  as_root+=(flock /var/lib/dpkg env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)
  if ! { "${as_root[@]}" apt-get --quiet update &&
    "${as_root[@]}" apt-get --quiet --yes --no-install-recommends --option DPkg::Lock::Timeout=300 install "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 5 -- "$log" >&2
    rm -f -- "$log"
    common::die "$missing; apt-get could not install them (its last lines are above)"
  fi
  rm -f -- "$log"
}
