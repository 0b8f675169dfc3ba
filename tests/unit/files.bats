#!/usr/bin/env bats
# Shared files of several processes, also on file systems without locks or hard links (hpc/lib/files.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  use_libraries common files
  cd -- "$BATS_TEST_TMPDIR" || return
}

# stub NAME LINE...   Makes a command that is first in PATH.
stub() {
  mkdir -p -- stubs
  printf '%s\n' '#!/bin/sh' "${@:2}" >"stubs/$1"
  chmod +x -- "stubs/$1"
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  hash -r
}

# one_of_many FILE   Twenty processes run at the same time; exactly one must make the file, with complete content.
one_of_many() {
  local i
  local -a processes=()
  for ((i = 0; i < 20; i++)); do
    (
      status=0
      files::create_once "$1" <<<"writer $i" || status=$?
      echo "$status" >"status.$i"
    ) &
    processes+=("$!")
  done
  wait "${processes[@]}"
  [[ $(cat -- status.* | sort | uniq -c | tr -s ' ') == $' 1 0\n 19 1' ]]
  [[ $(<"$1") =~ ^'writer '[0-9]+$ ]]
  [[ $(<"status.$(sed 's/writer //' -- "$1")") == 0 ]]
  [[ -z $(find . -name '*.partial.*') ]]
}

@test "the first writer wins, with hard links" {
  one_of_many 'a file'
}

@test "the first writer wins, where the file system has no hard links" {
  stub ln 'if [ "$1" = -s ]; then exec /bin/ln "$@"; fi' 'echo "ln: Operation not permitted" >&2; exit 1'
  one_of_many 'a file'
}

@test "a hard link whose answer was lost counts" {
  stub ln '/bin/ln "$@"; exit 1'
  one_of_many 'a file'
}

@test "an error shows why a file cannot be written" {
  local got=0
  files::create_once none/file <<<x 2>/dev/null || got=$?
  [[ $got == 2 ]]
  : >there
  got=0
  files::create_once there <<<x || got=$?
  [[ $got == 1 && ! -s there ]]
}

@test "a lock is held until it is closed" {
  local first='' _second=''
  files::lock first lock
  run -1 files::lock _second lock try
  exec {first}>&-
  files::lock _second lock try
}

@test "a file system without locks: a warning, then it continues" {
  stub flock 'echo "flock: 9: Function not implemented" >&2; exit 69'
  local _lock=''
  run -0 --separate-stderr files::lock _lock lock
  [[ $stderr == *'has no locks (flock: status 69)'* ]]
  run -0 --separate-stderr files::lock _lock lock try
}

@test "without locks one warning for each folder; nobody waits for a lock, but the ranks are still waited for" {
  stub flock 'echo "flock: 9: Function not implemented" >&2; exit 69'
  twice() {
    local _one='' _two=''
    files::lock _one "$PWD/lock" try
    files::lock _two "$PWD/other" try
  }
  run -0 --separate-stderr twice
  [[ $stderr == *'has no locks'* && $stderr != *$'\n'* ]]

  # Find out who has a job's own folder open (hpc/job/lib/local_disk.sh).
  use_libraries local_disk
  export SLURM_TMPDIR=$BATS_TEST_TMPDIR/'a [disk]'
  mkdir -p -- "$SLURM_TMPDIR/.hpc_kit"
  (local_disk::hold && exec sleep 3) 3>&- &
  local -r rank=$!
  wait_until 10 test -e "/proc/$rank/fd/10"
  local_disk::wait_until_free 60
  run ! kill -0 "$rank"
  # It must not wait longer than that.
  (local_disk::hold && exec sleep 300) 3>&- &
  local -r other=$!
  wait_until 10 test -e "/proc/$other/fd/10"
  SECONDS=0
  local_disk::wait_until_free 2
  ((SECONDS < $(patience 20)))
  kill "$other"
}

@test "folders of other users on a shared scratch: one line says whose it is and what to do" {
  ((UID == 0)) || skip 'only root is two users'
  local shared # other users cannot enter the folder of bats
  shared=$(mktemp -d)
  chmod 2775 -- "$shared"
  mkdir -p -- theirs/deep "$shared/theirs"
  chown 12345:12345 -- "$shared/theirs"
  chmod 2755 -- "$shared/theirs"
  : >file
  mkdir -- "$shared/hpc" && cp -R -- "$checkout/hpc/lib" "$shared/hpc/" # the checkout may be closed to others, too
  fails_with 1 "you cannot write into '.*/theirs', which belongs to .* \(group .*, mode 2755\): take a SCRATCH of your own, or .*chmod -R g\+rwX" \
    env -u BASH_ENV setpriv --reuid=23456 --regid=23456 --clear-groups bash -c 'source "$1/hpc/lib/common.sh"; source "$1/hpc/lib/files.sh"; files::check_writable "$2/mine" "$3/mine/x"' - \
    "$shared" /tmp "$shared/theirs"
  # The submitter in a project whose runs another user has submitted.
  BATS_TEST_TMPDIR=$shared make_project
  BATS_TEST_TMPDIR=$shared stub_slurm
  mkdir -p -- "$project/environment/bin" "$shared/scratch/${project##*/}/hpc_outputs"
  printf '#!/bin/sh\n' >"$project/environment/bin/python"
  chmod +x -- "$project/environment/bin/python"
  chmod 2777 -- "$shared" "$shared/scratch" "$stub"
  export SCRATCH=$shared/scratch HOME=/tmp XDG_CONFIG_HOME=/nowhere XDG_STATE_HOME=/nowhere
  fails_with 1 "you cannot write into '.*/hpc_outputs', which belongs to root .*: take a SCRATCH of your own" \
    env -u BASH_ENV setpriv --reuid=23456 --regid=23456 --clear-groups bash "$project/hpc/job_submitter.sh" --environment "$project/environment" --exp-name x
  [[ ! -e $RECORD ]]
  rm -r -- "$shared"
  run -0 files::check_writable theirs/deep/a/b theirs file none/x none
  mkfifo pipe
  fails_with 1 "pipe' is in the way" files::check_writable "$BATS_TEST_TMPDIR/pipe/y"
}

@test "a lock that cannot be written: one line says whose folder it is" {
  fails_with 1 "cannot write 'none/lock'" files::lock lock none/lock
}
