# shellcheck shell=bash
# Messages and small tools for every script of the kit. They write to standard error only: standard output belongs to the
# caller's result.

common::note() {
  printf '%s\n' "$*" >&2
}

common::warn() {
  printf '%s: warning: %s\n' "${0##*/}" "$*" >&2
}

# For an error of the site or the machine: exit status 1.
common::die() {
  common::print_error "$*"
  exit 1
}

# For an error in what the user typed: exit status 2.
common::die_usage() {
  common::print_error "$*"
  exit 2
}

# A value of 10 kB would hide the text around it.
common::print_error() {
  local message=$1
  if ((${#message} > 2500)); then message="${message:0:1000} … ${message: -1000}"; fi
  printf '%s: error: %s\n' "${0##*/}" "$message" >&2
}

# common::give VALUE [VARIABLE]   Sets VARIABLE to VALUE; without VARIABLE, prints it. (Printing into $(…) costs a process.)
common::give() {
  if [[ -n ${2:-} ]]; then printf -v "$2" '%s' "$1"; else printf '%s\n' "$1"; fi
}

common::has_command() {
  command -v "$1" >/dev/null 2>&1
}

# common::first_python MINOR PYTHON...   Prints the first PYTHON that exists and is Python 3.MINOR or later. Status 1 if there is none.
common::first_python() {
  local python
  for python in "${@:2}"; do
    if "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, int(sys.argv[1])))' "$1" 2>/dev/null; then
      printf '%s\n' "$python"
      return
    fi
  done
  return 1
}

# common::own_python MINOR [PYTHON...]   Like common::first_python, for the python3 of PATH and then PYTHON. Scripts come last, because
# pyenv's python3 is a script and starts a hundred processes.
common::own_python() {
  local python begin
  local -a found=() programs=() scripts=()
  mapfile -t found < <(type -aP python3)
  for python in "${found[@]}"; do
    LC_ALL=C IFS= read -r -n 2 -d '' begin 2>/dev/null <"$python" || begin=''
    if [[ $begin == '#!' ]]; then scripts+=("$python"); else programs+=("$python"); fi
  done
  common::first_python "$1" "${programs[@]}" "${@:2}" "${scripts[@]}"
}

# Prints the name of this node. Slurm's name comes first, because on a pocket cluster several nodes are one machine.
common::node() {
  printf '%s\n' "${SLURMD_NODENAME:-$(uname -n)}"
}

common::now() {
  printf '%(%s)T\n' -1
}

# common::wait PROCESS   Waits until PROCESS has ended and returns its status. `wait` also returns when a trapped signal arrives, with
# 128 + the signal's number, and the process may end while the trap runs.
common::wait() {
  while kill -0 "$1" 2>/dev/null; do wait "$1" || true; done
  wait "$1"
}

# common::end_on_signals   Signals exit the script, and its EXIT trap cleans up.
common::end_on_signals() {
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# common::sleep SECONDS   Sleeps in a background part of the script. It starts no process, because that process would outlive the part
# when the part is killed. Status 1 if the script has ended in the meantime.
common::sleep() {
  local never
  local -i second
  exec {never}<> <(:)
  for ((second = 0; second < $1; second++)); do
    kill -0 "$$" 2>/dev/null || return
    read -r -t 1 -u "$never" || true
  done
  exec {never}>&-
}

# common::version KIT VARIABLE [COMMIT]   Sets VARIABLE to the version, which is the first heading of KIT's hpc/CHANGELOG.md, and the
# commit: the one that adopt.sh has recorded, or COMMIT, or that of the checkout.
common::version() {
  local -r version_of=$1/hpc
  local version_line version_found=unknown version_commit=${3:-}
  while read -r version_line; do
    if [[ $version_line == '## '* ]]; then
      version_found=${version_line#'## '}
      version_found=${version_found%% *}
      break
    fi
  done 2>/dev/null <"$version_of/CHANGELOG.md" || true
  if [[ -r $version_of/.installed ]]; then
    read -r version_line <"$version_of/.installed" # '# hpc kit COMMIT; …'
    version_commit=${version_line#'# hpc kit '}
    version_commit=${version_commit%%;*}
    version_commit=${version_commit#of no repository}
  elif (($# < 3)); then
    version_commit=$(git -C "$1" describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null) || version_commit=''
  fi
  if [[ $version_commit =~ ^([0-9a-f]{12})[0-9a-f]*(-dirty)?$ ]]; then version_commit=${BASH_REMATCH[1]}${BASH_REMATCH[2]}; fi
  printf -v "$2" '%s' "$version_found${version_commit:+, commit $version_commit}"
}

# Writes standard input to FILE as a whole or not at all: readers on other nodes never see half of it.
common::write_atomically() {
  local -r file=$1
  local -r partial=$file.partial.$BASHPID
  cat >"$partial" && sync -- "$partial" && mv -fT -- "$partial" "$file"
}
