# shellcheck shell=bash
# Uses the mirror of this machine's apt for packages of other Debian releases.

# Prints the options of apt for reading another release. A mirror that keeps the copy of an earlier day has expired lists; they are signed
# nevertheless.
mirror::options() {
  printf '%s\n' Acquire::Languages=none Acquire::Check-Valid-Until=false
}

# Prints the mirror's address.
mirror::debian() {
  local codename address
  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}")
  address=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $codename")
  address=${address%%$'\n'*}
  [[ -n $address ]] || common::die "apt on this machine has no source of Debian's packages"
  printf '%s\n' "$address"
}
