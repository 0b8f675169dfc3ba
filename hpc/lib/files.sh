# shellcheck shell=bash
# What several processes need of a file system that they share, also where it lacks something: hard links (FAT, buckets)
# or locks (Lustre without the mount option flock).

# files::create_once FILE   Standard input becomes FILE if there is none: of several that try at the same time, on other nodes
# too, one succeeds. Status 1 when FILE is there already, 2 when it cannot be written.
files::create_once() {
  local -r file=$1
  local partial status=0
  if [[ -e $file ]]; then return 1; fi
  partial=$file.partial.$(common::node).$BASHPID
  cat 2>/dev/null >"$partial" || return 2
  # The answer of a network file system may get lost: what counts is that both are one file.
  if ! ln -- "$partial" "$file" 2>/dev/null && [[ ! $partial -ef $file ]]; then
    # Without hard links: a file that must not be there yet (O_EXCL).
    if [[ -e $file ]] || ! (set -o noclobber && cat -- "$partial" >"$file") 2>/dev/null; then
      if [[ -e $file ]]; then status=1; else status=2; fi
    fi
  fi
  rm -f -- "$partial"
  return "$status"
}

# files::lock VARIABLE FILE [wait|try]   Locks FILE, and makes it if need be; VARIABLE becomes the descriptor that holds the
# lock until it is closed. Waits for other processes; with `try`, status 1 when one has it. Where the file system has no
# locks it warns, and goes on without.
files::lock() {
  local descriptor status=0
  { exec {descriptor}>>"$2"; } 2>/dev/null ||
    common::die "cannot write ${2@Q}, which belongs to $(stat --format=%U -- "$2" "${2%/*}" 2>/dev/null | sed -n 1p): use a folder of your own (SCRATCH, --exp-name), or ask for write permission"
  printf -v "$1" '%s' "$descriptor"
  if [[ ${3:-wait} == try ]]; then
    flock --nonblock "$descriptor" 2>/dev/null || status=$?
  else
    flock "$descriptor" 2>/dev/null || status=$?
  fi
  if ((status > 1)); then
    common::warn "the file system of ${2%/*} has no locks (flock: status $status): do not run two commands on the same experiment or data at the same time"
    return 0
  fi
  return "$status"
}
