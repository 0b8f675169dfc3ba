#!/usr/bin/env bats
# The archives of --data: hpc/lib/packing.sh and staging.sh, and how unpacking.sh unpacks them. No Slurm.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  export SCRATCH_DIR=$BATS_TEST_TMPDIR/"it's scratch"$'\n''\n'
  store=$SCRATCH_DIR/.staging
  plan=$BATS_TEST_TMPDIR/plan
  stub=$BATS_TEST_TMPDIR/stub
  mkdir -p -- "$SCRATCH_DIR" "$stub"
  unset FORMAT DAYS MEGABYTES WAY PART_FILES IMAGE_FILES
}

teardown() {
  if [[ -n ${packer:-} ]]; then kill_session "$packer"; fi
}

# pack PATH...   Packs as the submitter does for --data.
pack() {
  bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" pack "$plan" "$@" 3>&- 4>&-
}

# unpack   Unpacks as a node does, into an empty folder.
unpack() {
  rm -rf -- "$BATS_TEST_TMPDIR/node"
  bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" unpack "$plan" "$BATS_TEST_TMPDIR/node" 3>&- 4>&-
}

# arrives   The node must have what was packed: everything on scratch with `data` in its first name.
arrives() {
  unpack
  diff <(inventory "$SCRATCH_DIR") <(inventory "$BATS_TEST_TMPDIR/node")
}

inventory() {
  python3 "$checkout/tests/cluster/programs/inventory.py" "$1"
}

# stub NAME LINE...   Puts a program first in PATH; `"$real"` is the machine's own.
stub() {
  printf '%s\n' '#!/bin/bash' "real=$(command -v "$1")" "${@:2}" >"$stub/$1"
  chmod +x -- "$stub/$1"
}

# formats   Prints the format of the plan's entries, and the number of parts of each.
formats() {
  local key format
  while IFS= read -r -d '' _ && IFS= read -r -d '' key && IFS= read -r -d '' format && IFS= read -r -d '' _; do
    printf '%s %s\n' "$format" "$(sed -n 's/^parts //p' "$store/$key.$format.manifest")"
  done <"$plan"
}

# keys   Prints the plan's keys, one a line.
keys() {
  tr '\0' '\n' <"$plan" | awk 'NR % 4 == 2'
}

# files N FOLDER   Makes N small files.
files() {
  mkdir -p -- "$2"
  (cd -- "$2" && seq "$1" | while read -r number; do printf '%s' "$number" >"file $number"; done)
}

# Names that are difficult to pass on.
hard_names() {
  local name
  mkdir -p -- "$1"
  for name in 'a b' "it's" '"' $'new\nline' $'new\nd 1 2 3 4' -dash --checkpoint=1 $'\xff\xfe' "\\" '\n' '*' '$(touch canary)' ü ' ' .hidden; do
    printf '%s' "$name" >"$1/$name"
  done
}

@test "all kinds of entries and names arrive unchanged, in archives of one part and of several" {
  local -r data=$SCRATCH_DIR/'-data "1"'
  hard_names "$data"
  mkdir -p -- "$data"/{empty,closed}
  : >"$data/nothing"
  ln -s -- 'a b' "$data/link"
  ln -s -- closed/inner "$data/deep link"
  printf x >"$data/closed/inner"
  chmod 4711 -- "$data/a b"
  chmod 000 -- "$data/it's"
  chmod 500 -- "$data/closed"
  touch -d '1999-12-31 23:59:59.7' -- "$data/ü"
  truncate --size=200M -- "$data/hole"
  printf end >>"$data/hole"
  printf 'alone' >"$SCRATCH_DIR/data alone"$'\n'
  chmod 640 -- "$SCRATCH_DIR/data alone"$'\n'

  FORMAT=tar pack '-data "1"' $'data alone\n'
  [[ $(formats) == $'tar 1\ntar 1' ]]
  arrives
  (($(stat --format=%s -- "$store/$(keys | sed -n 1p).tar") < 5000000))
  rm -rf -- "$store"
  FORMAT=zst pack '-data "1"' $'data alone\n'
  [[ $(formats) == $'tar.zst 1\ntar.zst 1' ]]
  arrives
  rm -rf -- "$store"
  FORMAT=tar PART_FILES=6 pack '-data "1"'
  [[ $(formats) == 'tar 4' ]] # 18 files; the last part has the folders
  rm -- "$SCRATCH_DIR/data alone"$'\n'
  arrives
  rm -rf -- "$store"
  FORMAT=zst PART_FILES=1 pack '-data "1"'
  [[ $(formats) == 'tar.zst 9' ]]
  arrives

  # Hard links stay hard links, so they are in one part.
  chmod 700 -- "$data/closed"
  ln -- "$data/hole" "$data/closed/second name"
  FORMAT=tar PART_FILES=6 pack '-data "1"'
  [[ $(formats) == 'tar 1' ]]
  arrives
}

@test "unchanged data is packed once; another name, size, time or mode makes it other data" {
  local change
  local -A seen=()
  files 5 "$SCRATCH_DIR/data"
  run -0 --separate-stderr pack data
  [[ $stderr == *"packing 'data' as tar: 5 files, 5B"* && $stderr == *"packed 'data' in "* ]]
  seen[$(keys)]=1
  local -r made=$(stat --format=%i:%z -- "$store/$(keys).tar")
  run -0 --separate-stderr pack data
  [[ $stderr == "'data': packed before, unchanged" ]]
  [[ ${seen[$(keys)]} == 1 && $(stat --format=%i:%z -- "$store/$(keys).tar") == "$made" ]]

  for change in 'mv -- file\ 1 file\ x' 'printf more >>file\ 2' 'touch -d 2001-01-01 -- file\ 3' 'chmod 600 -- file\ 4' \
    'mkdir empty' 'chmod 700 .' 'ln -s file\ 2 link' 'ln -sfn file\ 3 link' 'rm -- file\ 5'; do
    (cd -- "$SCRATCH_DIR/data" && eval "$change")
    pack data
    [[ -z ${seen[$(keys)]:-} ]] || {
      echo "not seen: $change" >&2
      false
    }
    seen[$(keys)]=1
    arrives
  done
}

@test "two folders, and two files, with equal names, sizes and times are not confused" {
  mkdir -p -- "$SCRATCH_DIR"/{data,'other data'}
  printf 1 >"$SCRATCH_DIR/data/labels"
  printf 2 >"$SCRATCH_DIR/other data/labels"
  touch -d 2001-01-01 -- "$SCRATCH_DIR"/{data,'other data'}/labels
  pack data 'other data'
  arrives
  pack data/labels 'other data/labels'
  arrives
}

@test "of two submitters at the same time one packs, and both use the archive" {
  files 5 "$SCRATCH_DIR/data"
  stub tar 'echo packed >>"$PACKED"; sleep 1; "$real" "$@"'
  export PACKED=$BATS_TEST_TMPDIR/packed
  local -a packers=()
  local number
  for number in 1 2 3; do
    PATH=$stub:$PATH bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" pack "$plan.$number" data 2>"$BATS_TEST_TMPDIR/said.$number" 3>&- 4>&- &
    packers+=($!)
  done
  for number in 1 2 3; do wait "${packers[number - 1]}"; done
  [[ $(<"$PACKED") == packed ]]
  (($(cat -- "$BATS_TEST_TMPDIR"/said.* | grep -c 'another submitter is packing it; waiting') == 2))
  (($(cat -- "$BATS_TEST_TMPDIR"/said.* | grep -c 'packed before, unchanged') == 2))
  for number in 1 2 3; do
    plan=$BATS_TEST_TMPDIR/plan.$number
    arrives
  done
}

# start_packer [COMMAND...]   Starts it in its own session, as `packer`.
start_packer() {
  setsid "$@" bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" pack "$plan" data 2>"$BATS_TEST_TMPDIR/said" 3>&- 4>&- &
  packer=$!
}

# kill_session LEADER   Kills all processes of the session, also those that start meanwhile.
kill_session() {
  while pkill -KILL --session "$1"; do sleep 0.02; done
}

@test "a packer that is killed at any moment leaves no wrong archive in use" {
  local -i round took
  local status
  files 1500 "$SCRATCH_DIR/data"
  head -c 20000000 /dev/urandom >"$SCRATCH_DIR/data/large"
  # Measure how long it takes, to spread the moments over that time.
  took=$(($(date +%s%N) / 1000))
  PART_FILES=500 FORMAT=tar pack data
  took=$(($(date +%s%N) / 1000 - took))
  rm -rf -- "$store"
  for ((round = 1; round <= 12; round++)); do
    printf '%s' "$round" >"$SCRATCH_DIR/data/file 7" # other data, of the same names
    rm -f -- "$plan"
    PART_FILES=500 FORMAT=tar start_packer
    sleep "$(printf '0.%06d' "$(((took < 999999 ? took : 999999) * (RANDOM % 100) / 100))")"
    if ((round % 2)); then kill_session "$packer"; else kill -s KILL "$packer" 2>/dev/null || true; fi
    wait_status "$packer" 2>/dev/null
    echo "round $round: status $status, $(find "$store" -type f 2>/dev/null | wc -l) files" >&2
    # The next packer works as if nothing had happened.
    PART_FILES=500 FORMAT=tar timeout "$(patience 20)" bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" pack "$plan" data 3>&- 4>&-
    [[ $(formats) == 'tar 5' ]]
    arrives
    run ! is_at_work
  done
  rm -rf -- "$store"
  PART_FILES=500 FORMAT=tar pack data
  local -r archive=$(find "$store" -name '*.tar' -print -quit)
  rm -- "$archive.manifest"
  : >"$archive.manifest.partial.77" # of a packer that was killed while it wrote the manifest
  PART_FILES=500 FORMAT=tar pack data
  [[ -e $archive.manifest ]]
  run ! is_at_work
}

# The names of unfinished archives.
is_at_work() {
  find "$store" -name '*.partial.*' -printf '%f\n' 2>/dev/null | grep .
}

@test "what a killed packer left of data that changed since is removed, unless another packer uses it" {
  local key
  files 5 "$SCRATCH_DIR/data"
  stub tar 'sleep 30'
  PATH=$stub:$PATH start_packer
  wait_until 10 is_at_work
  kill_session "$packer"
  wait_status "$packer" 2>/dev/null
  key=$(is_at_work)
  key=${key%%.*}
  : >"$store/$key.tar" # it had come this far
  printf more >"$SCRATCH_DIR/data/file 1"
  pack data
  is_at_work # perhaps it is, on another machine
  find "$store" -name "*$key*" -exec touch -d '2 hours ago' -- {} +
  find "$store" -path '*.partial.*' -exec touch -d '2 hours ago' -- {} +
  exec {lock}<"$store/.$key.lock"
  flock "$lock"
  pack data
  is_at_work
  [[ -e $store/$key.tar ]]
  exec {lock}<&-
  pack data
  run ! is_at_work
  [[ ! -e $store/$key.tar && -e $store/$(keys).tar ]]
  arrives
}

@test "a packer that is asked to end leaves no file and no process" {
  local signal wanted
  files 5 "$SCRATCH_DIR/data"
  stub tar 'echo "$$" >"$STARTED"; sleep 20' '"$real" "$@"'
  export STARTED=$BATS_TEST_TMPDIR/started
  for signal in TERM:143 INT:130; do
    rm -f -- "$STARTED"
    PATH=$stub:$PATH start_packer env --default-signal=INT
    wait_until 10 test -s "$STARTED"
    kill -s "${signal%:*}" "$packer"
    wait_status "$packer"
    wanted=${signal#*:}
    ((status == wanted))
    wait_until 2 not test -e "/proc/$(<"$STARTED")/exe" # a zombie has none
    [[ -z $(find "$store" -type f ! -name '.*.lock') && ! -e $plan ]]
  done
}

not() {
  ! "$@"
}

@test "data that change during packing are refused, and no archive is left" {
  files 5 "$SCRATCH_DIR/data"
  stub tar '"$real" "$@"; echo changed >"$SCRATCH_DIR/data/file 2"'
  PATH=$stub:$PATH run -1 --separate-stderr pack data
  [[ $stderr == *"error: 'data' was changed while it was packed: submit again when nobody writes to it" ]]
  [[ -z $(find "$store" -type f ! -name '.*.lock') && ! -e $plan ]]
}

@test "a packing program that fails leaves no archive" {
  files 5 "$SCRATCH_DIR/data"
  stub tar '"$real" "$@"; echo "no space left" >&2; exit 2'
  PATH=$stub:$PATH run -1 --separate-stderr pack data
  [[ $stderr == *'no space left'*"error: cannot pack 'data'; why is said above" ]]
  [[ -z $(find "$store" -type f ! -name '.*.lock') ]]
  stub mksquashfs '"$real" "$@"; echo "Failed to read file x, creating empty file"'
  PATH=$stub:$PATH FORMAT=image run -1 --separate-stderr pack data
  [[ $stderr == *'error: mksquashfs (exit status 0): Failed to read file x'* ]]
  [[ -z $(find "$store" -type f ! -name '.*.lock') ]]
}

# as_nobody COMMAND...   Runs it as another user.
as_nobody() {
  ((EUID == 0)) || skip 'only root can be somebody else'
  setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all -- "$@"
}

@test "an ordinary user's data: unreadable files are named; read-only folders arrive" {
  ((EUID == 0)) || skip 'only root can be somebody else'
  local -r open=$(mktemp -d /tmp/hpc_kit_test.XXXXXX)
  cp -R -- "$checkout/hpc" "$open/"
  mkdir -p -- "$open/tests/unit" "$open/scratch/data/closed/deep"
  cp -- "$BATS_TEST_DIRNAME/packer.bash" "$open/tests/unit/"
  printf x >"$open/scratch/data/closed/deep/file"
  chmod -R a+rX -- "$open"
  chmod 500 -- "$open/scratch/data/closed"
  chown -R nobody: "$open/scratch"
  SCRATCH_DIR=$open/scratch
  as_user() {
    as_nobody bash "$open/tests/unit/packer.bash" "$open" "$1" "$open/scratch/plan" "${@:2}" 3>&- 4>&-
  }
  as_user pack data
  as_user unpack "$open/scratch/node"
  diff <(inventory "$open/scratch") <(inventory "$open/scratch/node")
  chmod 700 -- "$open/scratch/data/closed"
  printf x >"$open/scratch/data/secret"
  chmod 600 -- "$open/scratch/data/secret"
  chown root: "$open/scratch/data/secret"
  local format
  for format in tar zst image; do
    FORMAT=$format run -1 --separate-stderr as_user pack data
    [[ $stderr == *secret*'error: '* || $stderr == *'error: '*secret* ]]
    [[ -z $(find "$open/scratch/.staging" -name '*.partial.*') ]]
  done
  chmod 700 -- "$open/scratch/data/closed/deep"
  chown root: "$open/scratch/data/closed/deep"
  run -1 --separate-stderr as_user pack data
  [[ $stderr == *closed/deep* ]]
  rm -rf -- "$open"
}

@test "pipes, and links that lead out, are refused by name" {
  local target
  files 2 "$SCRATCH_DIR/data"
  mkdir -- "$SCRATCH_DIR/data/sub" "$SCRATCH_DIR/elsewhere"
  mkfifo -- "$SCRATCH_DIR/data/pipe"
  fails_with 1 "error: 'data' has 1 pipes, sockets or devices" pack data
  rm -- "$SCRATCH_DIR/data/pipe"
  for target in /etc/hostname "$SCRATCH_DIR/data/file 1" ../../elsewhere ../../nowhere "../../elsewhere/../../${SCRATCH_DIR##*/}x"; do
    ln -sfn -- "$target" "$SCRATCH_DIR/data/sub/"$'a\nlink'
    fails_with 1 "error: --data 'data': the link .*a.nlink' leads outside the data to copy, to " pack data
  done
  # Links that stay inside, that lead to nothing, or that lead to other staged data are allowed.
  ln -sfn -- '../file 1' "$SCRATCH_DIR/data/sub/"$'a\nlink'
  ln -sfn -- ../none "$SCRATCH_DIR/data/sub/to nothing"
  pack data
  arrives
  ln -sfn -- ../../elsewhere "$SCRATCH_DIR/data/sub/"$'a\nlink'
  pack data elsewhere
  [[ $(formats) == $'tar 1\ntar 1' ]]
}

@test "data are compressed if a sample of them shrinks enough" {
  mkdir -- "$SCRATCH_DIR/data" "$SCRATCH_DIR/random data" "$SCRATCH_DIR/small data"
  seq 1000000 >"$SCRATCH_DIR/data/text"
  head -c 3000000 /dev/urandom >"$SCRATCH_DIR/random data/noise"
  seq 1000 >"$SCRATCH_DIR/small data/text"
  pack data 'random data' 'small data'
  [[ $(formats) == $'tar.zst 1\ntar 1\ntar 1' ]]
  arrives
  local path
  path=$(path_without zstd)
  touch -- "$SCRATCH_DIR/data/text"
  PATH=$path pack data
  [[ $(formats) == 'tar 1' ]]
  touch -- "$SCRATCH_DIR/data/text"
  PATH=$path FORMAT=zst run -1 --separate-stderr pack data
  [[ $stderr == *'error: no zstd on this machine: omit --data-format, or give --data-format tar'* ]]
}

@test "packers use the job's CPUs, and at most four of a login node; by default they would use all of the machine" {
  files 3 "$SCRATCH_DIR/data"
  stub zstd 'printf "zstd %s\n" "$*" >>"${0%/*}/called"; exec "$real" "$@"'
  stub mksquashfs 'if [[ $1 != -help ]]; then printf "mksquashfs %s\n" "$*" >>"${0%/*}/called"; fi; exec "$real" "$@"'
  stub unsquashfs 'printf "unsquashfs %s\n" "$*" >>"${0%/*}/called"; exec "$real" "$@"'
  local program
  for program in squashfuse squashfuse_ll; do stub "$program" 'exit 1'; done
  SLURM_CPUS_PER_TASK=1 PATH=$stub:$PATH FORMAT=zst pack data
  SLURM_CPUS_PER_TASK=1 PATH=$stub:$PATH FORMAT=image pack data
  SLURM_CPUS_ON_NODE=1 PATH=$stub:$PATH unpack
  [[ $(grep -coE -e '--threads=1 |-processors 1 ' "$stub/called") == 3 ]]
  # Without a job they use the CPUs that this process may use, but not all of a login node, whatever the variables of threads say.
  local number
  for number in 3 64; do
    rm -rf -- "$stub/called" "$store"
    stub nproc "echo $number"
    OMP_NUM_THREADS=7 PATH=$stub:$PATH FORMAT=zst pack data
    grep -q -- "^zstd .*--threads=$((number < 4 ? number : 4)) " "$stub/called"
  done
}

@test "auto chooses an image for many small files, where it can be made and mounted, and says so" {
  files 12 "$SCRATCH_DIR/data"
  truncate --size=60M -- "$SCRATCH_DIR/data/file 1"
  IMAGE_FILES=12 pack data
  [[ $(formats) == 'tar.zst 1' ]] # not small
  rm -- "$SCRATCH_DIR/data/file 1"
  IMAGE_FILES=12 pack data
  [[ $(formats) == 'tar 1' ]] # not many
  files 12 "$SCRATCH_DIR/data"
  IMAGE_FILES=12 run -0 --separate-stderr pack data
  [[ $stderr == *"packing 'data' as squashfs: 12 files"* && $(formats) == 'squashfs 1' ]]
  unsquashfs -quiet -no-progress -dest "$BATS_TEST_TMPDIR/image" "$store/$(keys).squashfs" >/dev/null
  diff --recursive "$SCRATCH_DIR/data" "$BATS_TEST_TMPDIR/image"
  # A file cannot be mounted as a file system.
  FORMAT=image pack 'data/file 2'
  [[ $(formats) == 'tar 1' ]]
  # Existing archives keep their format.
  run -0 --separate-stderr pack data
  [[ $stderr == *'packed before, unchanged' && $(formats) == 'squashfs 1' ]]
}

# archives   Prints how many there are.
archives() {
  find "$store" -name '*.manifest' -printf x | wc -c
}

# unused KEY AGE   Sets when the archive was last used.
unused() {
  touch -d "$2 ago" -- "$store/$1.tar.manifest"
}

@test "archives that were not used for long, or take too much space, are removed; those of live jobs are not" {
  local -a made=()
  local number
  printf '#!/bin/sh\ncat -- "$JOBS"\n' >"$stub/squeue"
  chmod +x -- "$stub/squeue"
  PATH=$stub:$PATH
  export JOBS=$BATS_TEST_TMPDIR/jobs
  : >"$JOBS"
  for number in 1 2 3 4 5 6; do
    head -c 3000000 /dev/urandom >"$SCRATCH_DIR/data $number"
    pack "data $number"
    made[number]=$(keys)
  done
  # Two are named by old jobs, one of which is alive; one is named by a job that is being submitted.
  mkdir -p -- "$SCRATCH_DIR/hpc_outputs/"{"a run",'ended',sent.partial}
  printf 'data\0%s\0tar\0x\0' "${made[1]}" >"$SCRATCH_DIR/hpc_outputs/a run/staging"
  printf 'data\0%s\0tar\0x\0' "${made[2]}" >"$SCRATCH_DIR/hpc_outputs/ended/staging"
  printf 'data\0other\0tar\0x\0data\0%s\0tar\0x\0' "${made[3]}" >"$SCRATCH_DIR/hpc_outputs/sent.partial/staging"
  echo 71 >"$SCRATCH_DIR/hpc_outputs/a run/job_id"
  echo 7 >"$SCRATCH_DIR/hpc_outputs/ended/job_id"
  printf '71\n72\n' >"$JOBS"
  for number in 1 2 3 4; do unused "${made[number]}" '3 days'; done

  mv -- "$stub/squeue" "$stub/silent"
  ln -s -- /bin/false "$stub/squeue"
  DAYS=2 pack 'data 6'
  (($(archives) == 6)) # squeue does not answer
  mv -- "$stub/silent" "$stub/squeue"
  DAYS=2 run -0 --separate-stderr pack 'data 4'
  (($(archives) == 5))
  [[ $stderr == *"removed from $store: ${made[2]:0:8}… (3.2MB, unused for 3 days)"* && ! -e $store/${made[2]}.tar ]]
  # The archive that was just requested is kept, although it is old.
  [[ -e $store/${made[4]}.tar && -e $store/${made[1]}.tar && -e $store/${made[3]}.tar ]]

  # Above the limit the oldest go first; those used within the hour stay.
  unused "${made[4]}" '2 hours'
  unused "${made[5]}" '3 hours'
  MEGABYTES=13 pack 'data 6'
  [[ ! -e $store/${made[5]}.tar && -e $store/${made[4]}.tar ]]
  MEGABYTES=1 run -0 --separate-stderr pack 'data 6'
  [[ $stderr == *"warning: the archives in $store take 9."*"were all used lately (--staging-limit 1M)" ]]
  (($(archives) == 3))
  [[ -e $store/${made[1]}.tar && -e $store/${made[3]}.tar && -e $store/${made[6]}.tar ]]
}

@test "a list without jobs proves nothing: jobs of unfinished runs are asked for by number" {
  files 3 "$SCRATCH_DIR/data"
  files 4 "$SCRATCH_DIR/other data"
  pack data
  local -r first=$(keys) run=$SCRATCH_DIR/hpc_outputs/run
  mkdir -p -- "$run/task_1"
  cp -- "$plan" "$run/staging"
  echo 71 >"$run/job_id"
  echo running >"$run/task_1/state"
  printf '#!/bin/sh\ncase $* in *--jobs=71*) echo 71 ;; esac\n' >"$stub/squeue"
  chmod +x -- "$stub/squeue"
  unused "$first" '90 days'
  PATH=$stub:$PATH pack 'other data'
  [[ -e $store/$first.tar ]]
  echo failed >"$run/task_1/state"
  PATH=$stub:$PATH pack 'other data'
  [[ ! -e $store/$first.tar ]]
}

@test "an archive that another submitter has just taken is not removed" {
  files 3 "$SCRATCH_DIR/data"
  files 4 "$SCRATCH_DIR/other data"
  pack data
  local -r first=$(keys)
  printf '#!/bin/sh\ntouch -- "$USED"\n' >"$stub/squeue" # while this one asks Slurm
  chmod +x -- "$stub/squeue"
  unused "$first" '90 days'
  USED=$store/$first.tar.manifest PATH=$stub:$PATH pack 'other data'
  [[ -e $store/$first.tar && -e $store/$first.tar.manifest ]]
}

@test "on a terminal the progress is shown; it ends with its packer" {
  files 5 "$SCRATCH_DIR/data"
  seq 1000000 >"$SCRATCH_DIR/data/large"
  stub tar '"$real" "$@"; sleep 2'
  export FORMAT=zst
  PATH=$stub:$PATH run -0 timeout "$(patience 20)" python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' \
    bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" pack "$plan" data </dev/null 3>&-
  [[ $output =~ [0-9]+' % of 6.9MB, '.*'B/s, '[0-9]+' s left'.*"packed 'data' in " ]]

  rm -rf -- "$store"
  PATH=$stub:$PATH timeout "$(patience 20)" python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' \
    bash -c 'echo "$$" >"$2"; exec "${@:3}"' sh x "$BATS_TEST_TMPDIR/pid" bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" pack "$plan" data \
    </dev/null >/dev/null 2>&1 3>&- 4>&- &
  local -r terminal=$!
  wait_until 10 is_at_work
  sleep 0.7
  kill -s KILL "$(<"$BATS_TEST_TMPDIR/pid")"
  wait_status "$terminal"
  timeout "$(patience 10)" bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" pack "$plan" data 3>&- 4>&-
  arrives
}

@test "an archive that is damaged or missing is noticed" {
  files 20 "$SCRATCH_DIR/data"
  FORMAT=tar pack data
  local -r archive=$store/$(keys).tar
  # A file has another name.
  mv -- "$SCRATCH_DIR/data/file 13" "$SCRATCH_DIR/data/file x"
  tar --create --directory="$SCRATCH_DIR/data" --file="$archive" .
  run -1 --separate-stderr unpack
  (($(grep -c "warning: here: 'data' has not arrived as it was: 20 files, 1 folders, 0 links, 31 bytes; 20, 1, 0, 31 were packed" <<<"$stderr") == 2))
  [[ $stderr == *"(try 1)"*"(try 2)"*"error: here: 'data' does not arrive as it was packed; is the disk of "* ]]
  truncate --size=2000 -- "$archive"
  run -1 --separate-stderr unpack
  [[ $stderr == *"(try 2)"*"error: here: 'data' does not arrive as it was packed"* ]]
  rm -- "$archive.manifest"
  run -1 --separate-stderr unpack
  [[ $stderr == *"error: 'data': its archive "*" is gone: submit the job again" ]]
}

@test "a mismatch that happens once is staged once more" {
  files 5 "$SCRATCH_DIR/data"
  pack data
  stub tar 'if [[ ! -e $ONCE ]]; then touch -- "$ONCE"; exit 2; fi' 'exec "$real" "$@"'
  export ONCE=$BATS_TEST_TMPDIR/once
  PATH=$stub:$PATH run -0 --separate-stderr arrives
  [[ $stderr == *'(try 1)' && -z $output ]]
}

@test "data that are already there, and unchanged, are not staged again" {
  files 5 "$SCRATCH_DIR/data"
  pack data
  arrives
  again() {
    run -0 --separate-stderr bash "$BATS_TEST_DIRNAME/packer.bash" "$checkout" unpack "$plan" "$BATS_TEST_TMPDIR/node"
  }
  again
  [[ $stderr == 'entry 0 is there' ]]
  # Half of it is missing, or a program has changed it.
  rm -- "$BATS_TEST_TMPDIR/node/data/file 1"
  again
  [[ -z $stderr ]]
  diff <(inventory "$SCRATCH_DIR") <(inventory "$BATS_TEST_TMPDIR/node")
  rm -- "$BATS_TEST_TMPDIR/node/.hpc_kit/arrived.0"
  again
  [[ -z $stderr ]]
}

@test "space and inodes are checked first: the message names node, needed and free" {
  files 5 "$SCRATCH_DIR/data"
  head -c 3000000 /dev/urandom >"$SCRATCH_DIR/data/large"
  FORMAT=tar pack data
  stub df 'printf "Avail IFree Inodes\n%s\n" "$FREE"'
  PATH=$stub:$PATH
  # An archive has at least a megabyte; each of 7 entries takes a block.
  FREE='3100000 7 100' fails_with 1 "error: no space on here: the data need 3.2MB in .*/node, and 3.1MB are free$" unpack
  FREE='3200000 7 100' unpack
  FREE='3200000 6 100' fails_with 1 'error: no space on here: the data are 7 files and folders, and .*/node has room for 6 \(inodes\); try --data-format image$' unpack
  FREE='3200000 0 0' unpack # a file system that counts none
  # A broadcast archive takes space in addition to its content.
  WAY=sbcast FREE='3200000 7 100' fails_with 1 'the data need 6.4MB' unpack
  [[ ! -e $BATS_TEST_TMPDIR/node/data ]]
  # A hole needs no space.
  truncate --size=5G -- "$SCRATCH_DIR/data/large"
  FORMAT=tar pack data
  FREE='3200000 7 100' unpack
}

@test "an environment works from another place: sys.prefix, all kinds of scripts, a path with spaces" {
  local -r old=$BATS_TEST_TMPDIR/'an old place' new=$BATS_TEST_TMPDIR/"node's disk"
  python3 -m venv --without-pip "$old"
  printf 'value = 7\n' >"$(echo "$old"/lib/python*/site-packages)/mine.py"
  local -r body=$'import sys, mine\nprint(sys.prefix, mine.value, *sys.argv[1:])'
  printf '#!%s/bin/python\n%s\n' "$BATS_TEST_TMPDIR/gone" "$body" >"$old/bin/plain"
  printf '#!/bin/sh\n'\'\'\''exec'\'' "%s/bin/python3" "$0" "$@"\n'\'' '\'\'\''\n%s\n' "$BATS_TEST_TMPDIR/gone" "$body" >"$old/bin/wrapped"
  printf '#!/bin/sh\necho shell "$@"\n' >"$old/bin/shell"
  printf 'import mine\nprint("not run")\n' >"$old/bin/module.py"
  head -c 1000 /dev/urandom >"$old/bin/binary"
  chmod 755 -- "$old"/bin/*
  : >"$old/.hidden"

  use_libraries common unpacking
  export SLURM_TMPDIR=$new
  mkdir -p -- "$new/.hpc_kit"
  mv -- "$old" "$new/.hpc_kit/environment.tree"
  unpacking::make_environment
  local -r bin=$new/.hpc_kit/environment/bin
  [[ $("$bin/python" -c 'import sys, mine; print(sys.prefix, mine.value)') == "${bin%/bin} 7" ]]
  [[ $("$bin/plain" 'a  b' '') == "${bin%/bin} 7 a  b " ]]
  [[ $("$bin/wrapped" 'a  b' '*') == "${bin%/bin} 7 a  b *" ]]
  [[ $("$bin/shell" x) == 'shell x' ]]
  cmp -- "$bin/binary" "$new/.hpc_kit/environment.tree/bin/binary"
  [[ -e ${bin%/bin}/.hidden && -e $bin/module.py ]]
  unpacking::make_environment # again, in a job that was requeued
  [[ $("$bin/plain") == "${bin%/bin} 7" ]]
}
