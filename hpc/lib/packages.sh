# shellcheck shell=bash
# Installs Debian's packages on machines that the kit sets up itself.

# packages::install PACKAGE...   Needs root or sudo, and Debian; otherwise exits with one clear error.
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
  # Debian's packages start their daemons. RUNLEVEL=1 prevents that (invoke-rc.d(8)) and leaves nothing behind.
  # Two scripts of the kit may install at the same time: the lock makes one wait for the other.
  as_root+=(flock /var/lib/dpkg env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)
  if ! { "${as_root[@]}" apt-get --quiet update &&
    "${as_root[@]}" apt-get --quiet --yes --no-install-recommends --option DPkg::Lock::Timeout=300 install "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 5 -- "$log" >&2
    rm -f -- "$log"
    common::die "$missing; apt-get could not install them (its last lines are above)"
  fi
  rm -f -- "$log"
}
