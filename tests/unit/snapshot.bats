#!/usr/bin/env bats
# The copy of the sources (hpc/job_submitter/snapshot.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA fact+=() # the libraries read it

setup() {
  use_libraries common snapshot
  set -o pipefail # as the submitter
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

# Print the names in the archive and the excluded ones, sorted, in one line.
names() {
  tar --list --quoting-style=shell --file="$packed" | LC_ALL=C sort | tr '\n' ' '
}

left_out() {
  LC_ALL=C sort -z "$packed.ignored" | tr '\0' ' '
}

@test "tracked, changed and untracked files are packed; deleted and ignored ones are not" {
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

@test "secrets are never packed" {
  make_repository
  local file
  printf 'x\n' >"$project/.gitignore"
  for file in .env wandb_credentials.txt sub/wandb_credentials.txt .netrc; do printf 'SECRET\n' >"$project/$file"; done
  pack
  run ! grep -qa SECRET "$packed"
  run ! grep -qaE 'env|credentials|netrc' "$packed.ignored"
  # They are not packed if they are ignored, tracked, or in a folder that is no repository.
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

@test "keys are never copied, at any depth, tracked or not, with git and without; the job finds them through a link" {
  make_repository
  local file
  mkdir -p -- "$project/config/deep"
  for file in config/.env config/deep/.env.local .env.production key.pem config/server.key id_rsa config/id_ed25519 \
    credentials config/credentials.json .git-credentials client_secret_1.json $'config/new\nline.pem'; do
    printf 'SECRET\n' >"$project/$file"
  done
  for file in .env.example config/.env.template keys.py credentials.py id_rsa.pub monkey pem.txt environment.env.py; do printf 'PLAIN\n' >"$project/$file"; done
  hold_no_keys
  git -C "$project" add --force .
  hold_no_keys
  rm -rf -- "$project/.git"
  hold_no_keys
  grep -q SECRET "$BATS_TEST_TMPDIR/run/source/config/.env"
}

hold_no_keys() {
  run -0 --separate-stderr pack
  [[ $stderr == 'linked, not copied into the snapshot, as they may be keys: '*' and '[67]' more' ]]
  run ! grep -qa SECRET "$packed"
  [[ $(tar --extract --to-stdout --file="$packed" | grep -c PLAIN) == 8 ]]
  # The links that the job makes.
  rm -rf -- "$BATS_TEST_TMPDIR/run"
  mkdir -- "$BATS_TEST_TMPDIR/run"
  cp -- "$packed" "$packed.ignored" "$BATS_TEST_TMPDIR/run/"
  (
    use_libraries common sources
    declare -A fact=([source_dir]=$BATS_TEST_TMPDIR/run/source [project_directory]=$project)
    sources::unpack "$BATS_TEST_TMPDIR/run"
  )
  [[ $(find "$BATS_TEST_TMPDIR/run/source" -type l -exec grep -l SECRET {} + | grep -c .) == 13 ]] # a name of two lines
  run ! grep -rqa SECRET "$BATS_TEST_TMPDIR/run/source"
}

@test "a repository that git cannot read is an error: a broken worktree, a damaged one, no git, an old git, a killed git" {
  make_repository
  git -C "$project" worktree add --quiet "$BATS_TEST_TMPDIR/tree" 2>/dev/null
  cp -- "$project/.gitignore" "$BATS_TEST_TMPDIR/tree/"
  mkdir -- "$BATS_TEST_TMPDIR/tree/data"
  touch -- "$BATS_TEST_TMPDIR/tree/data/heavy"
  mv -- "$project" "$project moved"
  stops "fatal: not a git repository: " "$BATS_TEST_TMPDIR/tree"
  mv -- "$project moved" "$project"

  local -r stubs=$BATS_TEST_TMPDIR/stubs
  mkdir -- "$stubs"
  printf '#!/bin/sh\nkill -9 $$\n' >"$stubs/git"
  chmod +x -- "$stubs/git"
  PATH=$stubs:$PATH stops 'exit status 137' "$project"
  printf '#!/bin/sh\necho "Unknown option: -C" >&2; exit 129\n' >"$stubs/git"
  PATH=$stubs:$PATH stops 'Unknown option: -C' "$project"
  PATH=$stubs:$PATH stops 'Unknown option: -C' "$project/sub"
  printf '#!/bin/sh\ncase "$*" in *cached*) kill -9 $$ ;; esac\nexec %q "$@"\n' "$(command -v git)" >"$stubs/git"
  set -o pipefail # as the submitter
  PATH=$stubs:$PATH run -1 --separate-stderr snapshot::pack "$project" "$store" "$packed"
  [[ $stderr == *'error: git could not list the files of '* && ! -e $packed ]]
  PATH=$(path_without git) stops 'git: not found' "$project"
  # A folder that is no repository needs no git.
  mkdir -- "$BATS_TEST_TMPDIR/plain"
  touch -- "$BATS_TEST_TMPDIR/plain/a.py"
  PATH=$(path_without git) run -0 snapshot::pack "$BATS_TEST_TMPDIR/plain" "$store" "$packed"

  rm -r -- "$store"
  rm -- "$project/.git/HEAD"
  stops 'not a git repository' "$project"
}

# stops WORDS PROJECT   Packing must fail with these words and leave no file.
stops() {
  run -1 --separate-stderr snapshot::pack "$2" "$store" "$packed"
  [[ $stderr == *'git cannot read the repository '*"$1"*'--no-snapshot' && -z $(find "$store" -type f 2>/dev/null) ]]
}

@test "another user's repository is read like any other, but only the project's own" {
  ((UID == 0)) || skip 'only root gives files away'
  make_repository
  mkdir -p -- "$project/data"
  touch -- "$project/data/heavy"
  chown -R -- 12345 "$project"
  chown -- root "$project"
  run -128 git -C "$project" status
  pack
  [[ $(names) == '.gitignore changed.py deleted.py sub/module.py tracked.py ' && $(snapshot::commit "$project") =~ ^[0-9a-f]{40}$ ]]
  # A repository around it may belong to anybody: its configuration names programs that git would run.
  mkdir -- "$project/inner"
  touch -- "$project/inner/a.py"
  rm -r -- "$store"
  stops 'dubious ownership' "$project/inner"
}

@test "unusual names, links, modes" {
  make_repository
  local name
  mv -T -- "$project" "$project"'\n'
  project+='\n'
  for name in 'two words' "it's" '"' $'new\nline' 'no\new line' '\101' '-dash' '--checkpoint=1' '$(touch canary)' "\\" '*' 'ü' ' '; do
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

@test "a folder that is no repository: everything but its environment and caches" {
  mkdir -p -- "$project"/{data,.venv,.git,sub/__pycache__}
  touch -- "$project"/{a.py,sub/b.py,data/c,.venv/d,.git/f,sub/__pycache__/e.pyc,.hidden}
  pack
  [[ $(names) == '.hidden a.py data/c sub/b.py ' ]]
  [[ -z $(left_out) ]]
}

@test "a project inside of a repository is packed without the rest of the repository" {
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

@test "a project that a repository around it ignores is packed like a folder without a repository" {
  touch -- "$project/a.py" "$project/sub/b.py"
  git -C "$BATS_TEST_TMPDIR" init --quiet
  printf '*\n' >"$BATS_TEST_TMPDIR/.gitignore"
  pack
  [[ $(names) == 'a.py sub/b.py ' && -z $(left_out) ]]
}

@test "a repository inside of the project: its files without its keys; it also works as the only content" {
  make_repository
  git -C "$project" init --quiet 'two words'
  git -C "$project" init --quiet sub/inner
  touch -- "$project/two words/a b.py" "$project/sub/inner/c.py"
  printf 'SECRET\n' >"$project/two words/server.pem"
  printf 'SECRET\n' >"$project/other.pem"
  run -0 pack
  [[ $(names) == *'two words/a b.py'* && $(names) == *'sub/inner/c.py'* && $(left_out) == './two words/server.pem other.pem ' ]]
  run ! grep -qa SECRET "$packed"

  git -C "$project" rm --quiet -r --cached .
  printf '*\n' >"$project/.gitignore"
  pack
  [[ -z $(names) ]]
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

@test "unchanged sources are packed once, changed ones again" {
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

@test "too large: the message names large files and what to do" {
  make_repository
  truncate --size=300M -- "$project/weights of it.bin"
  truncate --size=5M -- "$project/small.bin"
  run -1 --separate-stderr snapshot::pack "$project" "$store" "$packed"
  [[ $stderr == *'the sources are '*' files of 305 MB; a snapshot holds 20000 files of 200 MB'* ]]
  [[ $stderr == *' 300.0 MB  weights of it.bin'$'\n'*' 5.0 MB  small.bin'* ]]
  [[ $stderr == *'name it in .gitignore, or submit with --no-snapshot' ]]
  [[ ! -e $store && ! -e $packed ]]
}

@test "too many files: the message names the folder that has them" {
  mkdir -- "$project/images"
  (cd -- "$project/images" && seq 20001 | xargs touch)
  run -1 --separate-stderr snapshot::pack "$project" "$store" "$packed"
  [[ $stderr == *'the sources are 20001 files of 0 MB'* && $stderr == *'  20001 files  images/'* ]]
}

@test "an incomplete archive is never used" {
  make_repository
  # shellcheck disable=SC2317 # snapshot::pack calls it
  tar() {
    command tar "$@"
    return 2
  }
  fails_with 1 'error: tar cannot pack ' snapshot::pack "$project" "$store" "$packed"
  unset -f tar
  [[ -z $(find "$store" -type f) ]]
  pack
}

@test "packing many sources is announced on a terminal, and nowhere else" {
  make_repository
  touch -- "$project"/file_{1..2001}
  run -0 --separate-stderr pack
  [[ -z $stderr ]]
  rm -r -- "$store"
  cd -- "$BATS_TEST_TMPDIR" # for pack.sh
  cat >pack.sh <<'SCRIPT'
set -euo pipefail
source "$1/hpc/lib/common.sh"
source "$1/hpc/job_submitter/snapshot.sh"
snapshot::pack "${@:2}"
SCRIPT
  rm -- "$packed"
  run -0 script --quiet --return --command "bash pack.sh ${checkout@Q} ${project@Q} ${store@Q} ${packed@Q}" /dev/null </dev/null 3>&- 4>&-
  [[ $output == *'packing the sources: 20'??' files, '* ]]
}
