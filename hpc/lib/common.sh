# shellcheck shell=bash
# Messages and small tools for every script of the kit. Only standard error is written to:
# standard output belongs to the caller's result.

common::note() {
  printf '%s\n' "$*" >&2
}

common::warn() {
  printf '%s: warning: %s\n' "${0##*/}" "$*" >&2
}

# The site or the machine refuses: exit status 1.
common::die() {
  common::print_error "$*"
  exit 1
}

# The user typed something wrong: exit status 2.
common::die_usage() {
  common::print_error "$*"
  exit 2
}

# A value of 10 kB would hide what is said of it.
common::print_error() {
  local message=$1
  if ((${#message} > 2500)); then message="${message:0:1000} … ${message: -1000}"; fi
  printf '%s: error: %s\n' "${0##*/}" "$message" >&2
}

# common::give VALUE [VARIABLE]   VARIABLE becomes VALUE; without one it is printed. (Printing into $(…) costs a process.)
common::give() {
  if [[ -n ${2:-} ]]; then printf -v "$2" '%s' "$1"; else printf '%s\n' "$1"; fi
}

common::has_command() {
  command -v "$1" >/dev/null 2>&1
}

# common::first_python MINOR PYTHON...   Prints the first that is there and is Python 3.MINOR or later. Status 1 when none is.
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

# common::own_python MINOR [PYTHON...]   The same of the python3 in PATH, and these. Scripts come last: pyenv's python3 is one, and starts
# a hundred processes.
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

# The name of this node: Slurm's, where several nodes are one machine.
common::node() {
  printf '%s\n' "${SLURMD_NODENAME:-$(uname -n)}"
}

common::now() {
  printf '%(%s)T\n' -1
}

# common::wait PROCESS   Until it has ended; the status is its own. `wait` also returns when a trapped signal arrives, with 128 +
# its number: the process may end while the trap runs.
common::wait() {
  while kill -0 "$1" 2>/dev/null; do wait "$1" || true; done
  wait "$1"
}

# common::end_on_signals   They end the script, and its EXIT trap cleans up.
common::end_on_signals() {
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# common::sleep SECONDS   Of a part in the background. Without a process of its own, which would stay when the part is killed.
# Status 1 when the script has gone meanwhile.
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

# common::version KIT VARIABLE [COMMIT]   The version, which is the first heading of KIT's hpc/CHANGELOG.md, and the commit: the one that adopt.sh
# has noted, or COMMIT, or that of the checkout.
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

# Standard input becomes FILE as a whole or not at all: readers on other nodes never see half of it.
common::write_atomically() {
  local -r file=$1
  local -r partial=$file.partial.$BASHPID
  cat >"$partial" && sync -- "$partial" && mv -fT -- "$partial" "$file"
}
