#!/usr/bin/env bats
# Tests of tests/helpers.bash.

source "$BATS_TEST_DIRNAME/../helpers.bash"

@test "path_without: only the named program is missing, and no file of the machine changes" {
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\n' >"$BATS_TEST_TMPDIR/bin/runtime one"
  printf '#!/bin/sh\n' >"$BATS_TEST_TMPDIR/bin/runtime two"
  chmod +x -- "$BATS_TEST_TMPDIR/bin"/runtime*
  PATH=$PATH:$BATS_TEST_TMPDIR/bin
  local -r before=$(compgen -c | LC_ALL=C sort -u)
  local after
  after=$(PATH=$(path_without 'runtime one' 'runtime two' none) && compgen -c | LC_ALL=C sort -u)
  [[ $(comm -3 <(printf '%s\n' "$before") <(printf '%s\n' "$after")) == $'runtime one\nruntime two' ]]
  [[ -x $BATS_TEST_TMPDIR/bin/runtime\ one ]]
}

@test "wait_until returns as soon as the command succeeds; after the time-out it names the command" {
  local tries=0
  third() { ((++tries == 3)); }
  wait_until 60 third
  ((tries == 3))
  run --separate-stderr wait_until 0 test -e '/no where'
  [[ $status == 1 && $stderr == 'in vain for '[0-9]' s: test -e /no where' ]] # a second may begin meanwhile
}

@test "no script of a test uses what bash 4.4 lacks" {
  run -127 bash -uc 'echo "$EPOCHSECONDS"'
  [[ $output == *'EPOCHSECONDS: unbound variable' ]]
}
