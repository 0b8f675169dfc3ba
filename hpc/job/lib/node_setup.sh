# shellcheck shell=bash
# Runs what the site's profile requires first on a node: modules, and its own node_setup.

declare -gA fact+=()

# node_setup::run HPC_FOLDER [RUN_DIRECTORY]   In a job it uses the profile as it was when the run was submitted.
node_setup::run() {
  if [[ -r ${2:-}/profile.sh ]]; then
    site::load_from "$1" "$2/profile.sh"
  elif [[ -n ${2:-} && -r $1/clusters/${fact[site]}.sh ]]; then
    site::load_from "$1" "$1/clusters/${fact[site]}.sh"
  else
    site::load "$1" "${fact[site]}"
  fi
  set +eu # site scripts are seldom written for these
  if [[ -n ${fact[modules]} ]]; then node_setup::load_modules; fi
  if declare -F node_setup >/dev/null; then
    node_setup || common::die "node_setup of the profile ${fact[site]} failed on $(common::node)"
  fi
  set -eu
}

# A batch shell is not a login shell, so `module` may be undefined.
node_setup::load_modules() {
  local script
  local -a modules
  read -ra modules <<<"${fact[modules]}"
  for script in /etc/profile.d/{z00_lmod,lmod,modules}.sh /usr/share/{lmod/lmod,modules}/init/bash; do
    if ! declare -F module >/dev/null && [[ -r $script ]]; then
      # shellcheck source=/dev/null
      source "$script"
    fi
  done
  declare -F module >/dev/null || common::die "no module command on $(common::node), and the profile ${fact[site]} loads: ${fact[modules]}"
  module load "${modules[@]}" || common::die "module load ${fact[modules]} failed on $(common::node) (profile ${fact[site]})"
}
