# shellcheck shell=bash
# File operations for processes that share a file system. They also work where the file system has no hard links (FAT, buckets)
# or no locks (Lustre without the mount option flock).

# files::create_once FILE   Writes standard input to FILE if FILE does not exist. If several processes try at the same time, even on
# different nodes, exactly one succeeds. Status 1 if FILE exists already, 2 if it cannot be written.
files::create_once() {
  local -r file=$1
  local partial status=0
  if [[ -e $file ]]; then return 1; fi
  partial=$file.partial.$(common::node).$BASHPID
  cat 2>/dev/null >"$partial" || return 2
  # A network file system may lose the answer, so check that both names are one file.
  if ! ln -- "$partial" "$file" 2>/dev/null && [[ ! $partial -ef $file ]]; then
    # Without hard links: create the file with O_EXCL, which fails if it exists.
    if [[ -e $file ]] || ! (set -o noclobber && cat -- "$partial" >"$file") 2>/dev/null; then
      if [[ -e $file ]]; then status=1; else status=2; fi
    fi
  fi
  rm -f -- "$partial"
  return "$status"
}

declare -gA files_without_locks+=() # folders for which the warning was printed

# files::lock VARIABLE FILE [wait|try]   Locks FILE, and creates it if needed. Sets VARIABLE to the descriptor that holds the lock until
# it is closed. Waits for other processes; with `try`, returns status 1 if another process holds the lock. If the file system has no
# locks, warns once for each folder and continues without a lock.
files::lock() {
  local descriptor status=0
  if ! { exec {descriptor}>>"$2"; } 2>/dev/null; then
    files::check_writable "$2"
    common::die "cannot write ${2@Q}: is its folder there, and is the disk or the quota full?"
  fi
  printf -v "$1" '%s' "$descriptor"
  if [[ ${3:-wait} == try ]]; then
    flock --nonblock "$descriptor" 2>/dev/null || status=$?
  else
    flock "$descriptor" 2>/dev/null || status=$?
  fi
  if ((status > 1)); then
    if [[ -z ${files_without_locks[${2%/*}]:-} ]]; then
      common::warn "the file system of ${2%/*} has no locks (flock: status $status): do not run two commands on the same experiment or data at the same time"
    fi
    files_without_locks[${2%/*}]=1
    return 0
  fi
  return "$status"
}

# files::check_writable PATH...   Exits if a PATH, or the folder in which it would be created, cannot be written. Several users may
# share one SCRATCH.
files::check_writable() {
  local path
  for path in "$@"; do
    while [[ ! -e $path && ! -L $path && $path == */* ]]; do path=${path%/*}; done
    if [[ ! -e $path && ! -L $path ]]; then continue; fi
    if [[ -d $path && -w $path && -x $path ]] || [[ -f $path && -w $path ]]; then continue; fi
    [[ -d $path || -f $path ]] || common::die "${path@Q} is in the way: a folder is needed there"
    common::die "you cannot write into ${path@Q}, which belongs to $(stat --format='%U (group %G, mode %a)' -- "$path"): take a SCRATCH of your own, or let its owner open it to the group:  chmod -R g+rwX ${path@Q}  and  umask 002  from then on"
  done
}
