# shellcheck shell=bash
# Where packages of other releases of Debian come from: the mirror that this machine's apt has.

# Prints options of apt to read another release. A mirror that is a copy of an earlier day has lists whose date has passed;
# they are signed all the same.
mirror::options() {
  printf '%s\n' Acquire::Languages=none Acquire::Check-Valid-Until=false
}

# Prints its address.
mirror::debian() {
  local codename address
  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}")
  address=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $codename")
  address=${address%%$'\n'*}
  [[ -n $address ]] || common::die "apt on this machine has no source of Debian's packages"
  printf '%s\n' "$address"
}
