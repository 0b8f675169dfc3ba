#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154,SC2164 # tests are subshells; variables that a library is given by name; bats sets stderr, and ends at a failed cd
# What several processes need of a file system that they share, also where it lacks something (hpc/lib/files.sh).

load ../helpers

setup() {
  use_libraries common files
  cd -- "$BATS_TEST_TMPDIR"
}

# stub NAME LINE...   A command that is first in PATH.
stub() {
  mkdir -p -- stubs
  printf '%s\n' '#!/bin/sh' "${@:2}" >"stubs/$1"
  chmod +x -- "stubs/$1"
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  hash -r
}

# one_of_many FILE   Twenty processes at the same time: one makes the file, and its content is whole.
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
  # shellcheck disable=SC2016 # sh expands it
  stub ln 'if [ "$1" = -s ]; then exec /bin/ln "$@"; fi' 'echo "ln: Operation not permitted" >&2; exit 1'
  one_of_many 'a file'
}

@test "a link whose answer got lost is a link" {
  # shellcheck disable=SC2016 # sh expands it
  stub ln '/bin/ln "$@"; exit 1'
  one_of_many 'a file'
}

@test "what cannot be written is told from what is there" {
  local got=0
  files::create_once none/file <<<x 2>/dev/null || got=$?
  [[ $got == 2 ]]
  : >there
  got=0
  files::create_once there <<<x || got=$?
  [[ $got == 1 && ! -s there ]]
}

@test "a lock is held until it is closed" {
  local first='' second=''
  files::lock first lock
  run -1 files::lock second lock try
  exec {first}>&-
  files::lock second lock try
}

@test "a file system without locks: a warning, and on" {
  stub flock 'echo "flock: 9: Function not implemented" >&2; exit 69'
  local lock=''
  run -0 --separate-stderr files::lock lock lock
  [[ $stderr == *'has no locks (flock: status 69)'* ]]
  run -0 --separate-stderr files::lock lock lock try
}

@test "a lock that cannot be written: whose folder it is, in one line" {
  fails_with 1 "cannot write 'none/lock'" files::lock lock none/lock
}
