#!/usr/bin/env bats
# shellcheck disable=SC1003,SC2016,SC2030,SC2031,SC2154,SC2317 # odd names; tests are subshells; sourced files; a function that another calls
# The copy of the sources: hpc/job_submitter/snapshot.sh.

load ../helpers

setup() {
  use_libraries common snapshot
  project=$BATS_TEST_TMPDIR/"it's a project"
  store=$BATS_TEST_TMPDIR/store
  packed=$BATS_TEST_TMPDIR/source.tar
  mkdir -p -- "$project/sub"
  export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
  export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x
  unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
}

make_repository() {
  printf '/data/\n*.log\n__pycache__/\n.env\n/.venv/\n' >"$project/.gitignore"
  printf 'one\n' >"$project/tracked.py"
  printf 'one\n' >"$project/changed.py"
  printf 'one\n' >"$project/deleted.py"
  printf 'one\n' >"$project/sub/module.py"
  git -C "$project" init --quiet
  git -C "$project" add .
  git -C "$project" commit --quiet -m one
}

pack() {
  rm -f -- "$packed"
  snapshot::pack "$project" "$store" "$packed"
}

# The names in the archive, and those left out, sorted, in one line.
names() {
  tar --list --quoting-style=shell --file="$packed" | LC_ALL=C sort | tr '\n' ' '
}

left_out() {
  LC_ALL=C sort -z "$packed.ignored" | tr '\0' ' '
}

@test "tracked, changed and untracked files; not deleted or ignored ones" {
  make_repository
  printf 'two\n' >"$project/changed.py"
  printf 'staged\n' >"$project/staged.py"
  git -C "$project" add staged.py
  rm -- "$project/deleted.py"
  printf 'new\n' >"$project/sub/untracked.py"
  mkdir -p -- "$project"/{data,__pycache__,sub/__pycache__,.venv,.mypy_cache}
  touch -- "$project"/{data/heavy,debug.log,sub/a.log,__pycache__/x.pyc,sub/__pycache__/y.pyc,.venv/z}
  pack
  [[ $(names) == '.gitignore changed.py staged.py sub/module.py sub/untracked.py tracked.py ' ]]
  [[ $(left_out) == 'data/ debug.log sub/a.log ' ]]
  [[ $(tar --extract --to-stdout --file="$packed" changed.py) == two ]]
  [[ -z $(find "$BATS_TEST_TMPDIR" -maxdepth 1 -name 'source.tar.*' ! -name source.tar.ignored) ]]
}

@test "secrets are never inside" {
  make_repository
  local file
  printf 'x\n' >"$project/.gitignore"
  for file in .env wandb_credentials.txt sub/wandb_credentials.txt .netrc; do printf 'SECRET\n' >"$project/$file"; done
  pack
  run ! grep -qa SECRET "$packed"
  run ! grep -qaE 'env|credentials|netrc' "$packed.ignored"
  # not when they are ignored, not when somebody tracks them, not in a folder that is no repository
  printf '.env\nwandb_credentials.txt\n.netrc\n' >"$project/.gitignore"
  pack
  run ! grep -qa SECRET "$packed"
  run ! grep -qaE 'env|credentials|netrc' "$packed.ignored"
  git -C "$project" add --force .
  pack
  run ! grep -qa SECRET "$packed"
  rm -rf -- "$project/.git"
  pack
  run ! grep -qa SECRET "$packed"
  [[ $(names) == *tracked.py* ]]
}

@test "odd names, links, modes" {
  make_repository
  local name
  mv -T -- "$project" "$project"'\n'
  project+='\n'
  for name in 'two words' "it's" '"' $'new\nline' 'no\new line' '\101' '-dash' '--checkpoint=1' '$(touch canary)' '\' '*' 'ü' ' '; do
    printf '%s' "$name" >"$project/$name"
  done
  ln -s -- tracked.py "$project/link"
  ln -s -- nowhere "$project/dangling"
  printf '#!/bin/sh\n' >"$project/tool"
  chmod 755 -- "$project/tool"
  pack
  mkdir -- "$BATS_TEST_TMPDIR/copy"
  tar --extract --directory="$BATS_TEST_TMPDIR/copy" --file="$packed"
  rm -rf -- "$project/.git"
  diff --recursive --no-dereference "$project" "$BATS_TEST_TMPDIR/copy"
  [[ -x $BATS_TEST_TMPDIR/copy/tool && $(readlink "$BATS_TEST_TMPDIR/copy/dangling") == nowhere ]]
}

@test "a folder that is no repository: all but its environment and caches" {
  mkdir -p -- "$project"/{data,.venv,.git,sub/__pycache__}
  touch -- "$project"/{a.py,sub/b.py,data/c,.venv/d,.git/f,sub/__pycache__/e.pyc,.hidden}
  pack
  [[ $(names) == '.hidden a.py data/c sub/b.py ' ]]
  [[ -z $(left_out) ]]
}

@test "a project inside of a repository is packed without its surroundings" {
  local -r outer=$BATS_TEST_TMPDIR/outer
  mkdir -p -- "$outer"
  mv -- "$project" "$outer/"
  project=$outer/"it's a project"
  touch -- "$project/a.py" "$outer/b.py"
  git -C "$outer" init --quiet
  git -C "$outer" add .
  touch -- "$project/c.py" "$outer/d.py"
  pack
  [[ $(names) == 'a.py c.py ' ]]
}

@test "a project that a repository around it ignores is packed as none" {
  touch -- "$project/a.py" "$project/sub/b.py"
  git -C "$BATS_TEST_TMPDIR" init --quiet
  printf '*\n' >"$BATS_TEST_TMPDIR/.gitignore"
  pack
  [[ $(names) == 'a.py sub/b.py ' && -z $(left_out) ]]
}

@test "a repository without a commit" {
  git -C "$project" init --quiet
  touch -- "$project/a.py"
  pack
  [[ $(names) == 'a.py ' ]]
  [[ -z $(snapshot::commit "$project") ]]
}

@test "the commit, and whether there are changes" {
  make_repository
  local commit
  commit=$(git -C "$project" rev-parse HEAD)
  [[ $(snapshot::commit "$project") == "$commit" ]]
  git -C "$project" tag v1
  printf 'two\n' >"$project/changed.py"
  [[ $(snapshot::commit "$project") == "$commit-dirty" ]]
  [[ -z $(snapshot::commit "$BATS_TEST_TMPDIR") ]]
}

@test "the same state is packed once, another one anew" {
  make_repository
  pack
  local -r first=$(stat -c %i -- "$packed")
  pack
  [[ $(stat -c %i -- "$packed") == "$first" && $(find "$store" -type f | wc -l) == 1 ]]
  printf 'two\n' >"$project/changed.py"
  pack
  touch -- "$project/new"
  pack
  chmod +x -- "$project/new"
  pack
  rm -- "$project/tracked.py"
  pack
  [[ $(find "$store" -type f | wc -l) == 5 ]]
}

@test "too large: what is heavy, and what to do" {
  make_repository
  truncate --size=300M -- "$project/weights of it.bin"
  truncate --size=5M -- "$project/small.bin"
  run -1 --separate-stderr snapshot::pack "$project" "$store" "$packed"
  [[ $stderr == *'the sources are '*' files of 305 MB; a snapshot holds 20000 files of 200 MB'* ]]
  [[ $stderr == *' 300.0 MB  weights of it.bin'$'\n'*' 5.0 MB  small.bin'* ]]
  [[ $stderr == *'name it in .gitignore, or submit with --no-snapshot' ]]
  [[ ! -e $store && ! -e $packed ]]
}

@test "too many files: the folder that has them" {
  mkdir -- "$project/images"
  (cd -- "$project/images" && seq 20001 | xargs touch)
  run -1 --separate-stderr snapshot::pack "$project" "$store" "$packed"
  [[ $stderr == *'the sources are 20001 files of 0 MB'* && $stderr == *'  20001 files  images/'* ]]
}

@test "an archive that could not be finished is not taken for one" {
  make_repository
  tar() {
    command tar "$@"
    return 2
  }
  fails_with 1 'error: tar cannot pack ' snapshot::pack "$project" "$store" "$packed"
  unset -f tar
  [[ -z $(find "$store" -type f) ]]
  pack
}
