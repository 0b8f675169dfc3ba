#!/usr/bin/env bash
# tests/run.sh [lint|unit|cluster|faults|FILE]...
# tests/run.sh sites [VERSION]... [unit|cluster|faults|FILE]...
#
# Runs the named tests, or all of them, and ends with the line  N passed, N failed.
#
# Installs what they need (Debian packages as root or with sudo; Python packages in .venv), starts its own pocket cluster and removes it at
# the end.
#
# lint: ShellCheck, shfmt, ruff, mypy
#
# unit: bats for the bash, pytest for train/; no cluster
#
# cluster: bats on a pocket cluster: real Slurm, real torchrun
#
# faults: trainings that are interrupted in many ways and must end with the same weights
#
# FILE: one test file, by its path or its name
# For example tests/unit/doctor.bats, tests/train/test_loop.py or test_loop. The name doctor runs two files, tests/unit/doctor.bats and
# tests/cluster/doctor.bats.
#
# sites: run the cluster and fault tests, or the named tests, on other versions of Slurm (24.11, 26.05)
# tests/roots.sh has the details.
#
# Exit status: 0 if none failed, else 1; 2 if a name is unknown.
#
# See also: tests/README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$project/hpc/lib/help.sh"
source "$project/hpc/lib/packages.sh"

passed=0 failed=0 skipped=0
run_workers=()
# There are three items, not one per file, because pytest and the server that forks the ranks take 5 s to start.
run_train=('tests/train/test_[a-f]*.py' 'tests/train/test_[g-n]*.py' 'tests/train/test_[!a-n]*.py')
# Long items come first, so that the workers end at about the same time. containers.bats makes the image that sweeps.bats waits for.
run_longest=(tests/faults/weights.bats tests/cluster/containers.bats tests/cluster/sites.bats tests/cluster/shapes.bats
  "${run_train[@]}" tests/cluster/pages.bats tests/faults/rows.bats tests/cluster/interruptions.bats tests/cluster/sweeps.bats
  tests/cluster/staging.bats tests/cluster/launchers.bats tests/cluster/training.bats tests/cluster/jobs.bats tests/cluster/drill.bats
  tests/cluster/meetings.bats tests/cluster/table.bats tests/unit/device.bats tests/cluster/pocket_cluster.bats tests/cluster/tasks.bats
  tests/unit/packing.bats tests/unit/adopt.bats tests/unit/from_sbatch.bats lint)
reports=$(mktemp -d)
memory=$reports/memory

main() {
  local -a names=("$@") items=()
  local name file
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  case ${1:-} in
    '') names=(lint unit cluster faults) ;;
  esac
  cd -- "$project"
  run::find_interpreter
  if [[ ${1:-} == sites ]]; then
    run::install_packages
    run::prepare
    bash "$here/roots.sh" "${@:2}"
    return
  fi
  for name in "${names[@]}"; do
    case $name in
      lint) items+=(lint) ;;
      unit) items+=("${run_train[@]}" tests/unit/*.bats) ;;
      cluster | faults) items+=("tests/$name"/*.bats) ;;
      *)
        file=$(run::find "$name")
        [[ -n $file ]] || common::die_usage "${name@Q} is no suite (lint, unit, cluster, faults) and no file of tests"
        mapfile -t -O "${#items[@]}" items <<<"$file"
        ;;
    esac
  done
  run::install_packages
  if [[ " ${items[*]} " == *' lint '* ]]; then run::start_shellcheck; fi
  run::prepare
  run::take_memory
  run::side_by_side "${items[@]}"
  if [[ -s $reports/failures ]]; then printf '\nFailed:\n%s\n' "$(<"$reports/failures")"; fi
  printf '\n%s passed, %s failed%s\n' "$passed" "$failed" "$( ((skipped == 0)) || printf ', %s skipped' "$skipped")"
  ((failed == 0 && passed > 0))
}

# run::find NAME   Prints the test files of that name, one a line.
run::find() {
  local file
  for file in tests/{unit,cluster,faults}/*.bats tests/train/test_*.py; do
    if [[ $file == "$1" || ${file##*/} == "$1" || ${file##*/} == "$1".@(bats|py) ]]; then printf '%s\n' "$file"; fi
  done
}

run::install_packages() {
  local -a missing=()
  local program package
  while read -r program package; do
    if ! common::has_command "$program"; then missing+=("$package"); fi
  done <<'PROGRAMS'
shellcheck shellcheck
shfmt shfmt
bats bats
git git
runuser util-linux
mkfs.ext4 e2fsprogs
mksquashfs squashfs-tools
squashfuse squashfuse
fusermount3 fuse3
zstd zstd
setpriv util-linux
chromium chromium
zsh zsh
fish fish
PROGRAMS
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]} > 0)); then packages::install "${missing[@]}"; fi
}

# Makes the environments of Python.
run::prepare() {
  # The tools have an environment of their own that also sees the packages of the kit's, so that nothing is installed twice.
  local kit_environment key
  kit_environment=$(bash venv/create.sh cpu)
  kit_environment=$(realpath -- "$kit_environment") # other checkouts may share it
  key=$(cat -- tests/requirements.txt <(printf '%s\n' "$kit_environment") | sha256sum)
  tools=$project/.venv/tests-${key:0:12}
  if [[ ! -e $tools/complete ]]; then
    rm -rf -- "$tools"
    python3 -m venv "$tools"
    "$tools/bin/python" -c 'import site, sys; open(site.getsitepackages()[0] + "/kit.pth", "w").write(sys.argv[1])' \
      "$("$kit_environment/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
    # The tests read only its data file, so its dependencies are not installed.
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps scikit-learn
    touch -- "$tools/complete"
  fi
}

# pyenv's python3 is a script that starts 40 processes for each call. Put an interpreter itself first in PATH: the distribution's, which
# imports torch in five sixths of the time, as it was compiled with a profile; else pyenv's.
run::find_interpreter() {
  local interpreter=/usr/bin/python3
  if [[ $(head -c 2 -- "$(command -v python3)" 2>/dev/null | tr -d '\0') == '#!' ]]; then
    "$interpreter" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || interpreter=$(python3 -c 'import sys; print(sys.executable)')
    PATH=${interpreter%/*}:$PATH
  fi
}

# Mount an ext4 in memory for the files of the tests, if root has 6 GB for it. The tests create and delete hundreds of thousands of files,
# and an ext4 without a journal searches long for an inode that was not freed just before. A tmpfs does not work, because the kit does not
# accept it as a disk. The clusters stay on the disk, and so does the container image, which would be copied between two file systems.
run::take_memory() {
  local -r image=/dev/shm/${reports##*/}.ext4
  local room available
  mkdir -- "$memory"
  room=$(df --output=avail --block-size=1G -- /dev/shm 2>/dev/null | tail -n 1) || return 0
  available=$(awk '$1 == "MemAvailable:" { print int($2 / 1048576) }' /proc/meminfo)
  room=$((room < available / 2 ? room : available / 2))
  ((EUID == 0 && room >= 6)) || return 0
  truncate --size="${room}G" -- "$image"
  if mkfs.ext4 -q -E lazy_itable_init=1 -- "$image" && mount -o loop,noatime,discard -- "$image" "$memory" 2>/dev/null; then
    rmdir -- "$memory/lost+found"
  fi
  rm -- "$image" # the mount keeps it
}

# run::check NAME COMMAND...   Runs one command as one test and prints its result as TAP.
run::check() {
  local output
  if output=$("${@:2}" 2>&1); then
    printf 'ok %s\n' "$1"
  else
    printf 'not ok %s\n' "$1"
    # shellcheck disable=SC2001 # each line
    sed 's/^/# /' <<<"$output"
  fi
}

# Starts ShellCheck, which needs a core for minutes: pip, which comes next, leaves one free.
run::start_shellcheck() {
  local -a files
  mapfile -d '' files < <(git ls-files -z --cached --others --exclude-standard -- '*.sh' '*.bash' .ci/run '*.bats')
  set -m
  { shellcheck --external-sources "${files[@]}" && : >"$reports/shellcheck.passed"; } &>"$reports/shellcheck" &
  set +m
  shellcheck_process=$!
  run_workers=("$shellcheck_process")
}

run::shellcheck() {
  tail --follow --pid="$shellcheck_process" /dev/null # no child of this worker
  cat -- "$reports/shellcheck"
  [[ -e $reports/shellcheck.passed ]]
}

run::lint() {
  local -a scripts bats_files
  mapfile -d '' scripts < <(git ls-files -z --cached --others --exclude-standard -- '*.sh' '*.bash' .ci/run)
  mapfile -d '' bats_files < <(git ls-files -z --cached --others --exclude-standard -- '*.bats')
  run::check shfmt shfmt -i 2 -ci -d "${scripts[@]}"
  run::check 'shfmt, bats' shfmt -ln bats -i 2 -ci -d "${bats_files[@]}"
  run::check 'ruff check' "$tools/bin/ruff" check
  run::check 'ruff format' "$tools/bin/ruff" format --check
  run::check mypy "$tools/bin/python" -m mypy train
  run::check shellcheck run::shellcheck
}

# run::side_by_side ITEM...   Runs the items, the longest first, on two workers more than there are cores (at most four), each with its own
# cluster. A test of jobs waits half of its time.
run::side_by_side() {
  local item worker seconds=$SECONDS
  local -ir most=$(($(nproc) < 2 ? 3 : 4))
  local -a workers=()
  for item in "${run_longest[@]}" "$@"; do
    if [[ " $* " == *" $item "* ]]; then printf '%s\n' "$item"; fi
  done | awk '!seen[$0]++' >"$reports/queue"
  chmod 711 -- "$reports" "$memory" # for jobs of other users
  trap 'exit 130' INT TERM
  set -m # process groups, so that their children can be ended, too
  for ((worker = 1; worker <= most; worker++)); do
    run::work "$worker" &
    workers+=("$!")
  done
  set +m
  run_workers+=("${workers[@]}")
  for worker in "${workers[@]}"; do wait "$worker" || true; done
  run_workers=()
  for item in "$@"; do
    item=$reports/${item//\//_}
    # A worker that broke has left no report.
    run::count "$item.tap" "$(cat -- "$item.status" 2>/dev/null || echo 255)"
  done
  printf '\nin %s s\n' "$((SECONDS - seconds))"
}

# run::work NUMBER   Runs items as worker NUMBER until the queue is empty.
run::work() {
  local item name seconds status
  local -a files
  trap - EXIT
  export POCKET_CLUSTER_DIR=$reports/pocket_$1
  while item=$(run::take); do
    name=${item//\//_} seconds=$SECONDS status=0
    case $item in
      lint) run::lint ;;
      tests/train*)
        mapfile -t files < <(compgen -G "$item")
        "$tools/bin/python" -m pytest -v -rfEs --tb=short --basetemp="$memory/pytest_$1" "${files[@]}"
        ;;
      tests/unit*) TMPDIR=$memory bats --tap --timing "$item" ;;
      *)
        bash hpc/pocket_cluster.sh up >&2 # or repairs what the previous file has broken
        (run::empty_cluster)
        TMPDIR=$memory bats --tap --timing "$item"
        ;;
    esac </dev/null >>"$reports/$name.tap" 2>&1 || status=$?
    printf '%s\n' "$status" >"$reports/$name.status"
    # Print it in one piece, because the other workers print too.
    flock "$reports/queue" printf '\n== %s, %s s\n%s\n' "$item" "$((SECONDS - seconds))" "$(<"$reports/$name.tap")"
  done
  if [[ -d $POCKET_CLUSTER_DIR ]]; then bash hpc/pocket_cluster.sh down; fi
}

# Jobs of the previous file must not hold a node.
run::empty_cluster() {
  local -i try
  # shellcheck source=/dev/null
  source <(bash hpc/pocket_cluster.sh env)
  for ((try = 0; try < 300; try++)); do
    if [[ -z $(squeue --all --noheader) ]]; then return; fi
    squeue --all --noheader --format=%A | xargs --no-run-if-empty scancel --quiet || true
    sleep 0.2
  done
}

# Prints and removes the first line of the queue; status 1 when it is empty.
run::take() {
  flock "$reports/queue" sh -c 'head -n 1 "$1"; test -s "$1" && sed -i 1d "$1"' sh "$reports/queue"
}

# run::count REPORT STATUS   Counts the results in a report of bats (TAP) or pytest.
run::count() {
  local good='^ok (?!.*# skip)' bad='^not ok ' skip='^ok .*# skip'
  local -i bads
  if [[ $1 == */tests_train* ]]; then
    good='::.* PASSED +\[' bad='^(FAILED|ERROR) ' skip='::.* SKIPPED .*\['
  fi
  : >>"$1"
  bads=$(grep -cP "$bad" "$1" || true)
  # Print the line of each failure and the end of its output.
  awk -v name="$(basename -- "$1" .tap)" -v bad="$bad" '
    function show(  i) { for (i = lines > 12 ? lines - 11 : 1; i <= lines; i++) print line[i]; lines = 0 }
    $0 !~ /^#/ { show(); failed = 0 }
    $0 ~ bad { print name ": " $0; failed = 1; next }
    failed { line[++lines] = $0 }
    END { show() }' "$1" >>"$reports/failures"
  passed=$((passed + $(grep -cP "$good" "$1" || true)))
  skipped=$((skipped + $(grep -cP "$skip" "$1" || true)))
  failed=$((failed + bads))
  # A runner that broke before its tests counts as a failure.
  if (($2 != 0 && bads == 0)); then
    printf '%s: the runner itself, status %s\n' "$(basename -- "$1" .tap)" "$2" >>"$reports/failures"
    failed=$((failed + 1))
  fi
}

run::remove_reports() {
  local process cluster try
  for process in "${run_workers[@]}"; do kill -s TERM -- "-$process" 2>/dev/null || true; done
  # Wait until all processes that the workers started have ended; otherwise they would write into the folder, or into a cluster, while it is
  # removed.
  for ((try = 0; try < 300; try++)); do
    for process in "${run_workers[@]}"; do
      if kill -s 0 -- "-$process" 2>/dev/null; then
        if ((try == 200)); then kill -s KILL -- "-$process" 2>/dev/null || true; fi
        sleep 0.1
        continue 2
      fi
    done
    break
  done
  for cluster in "$reports"/pocket_*; do
    if [[ -d $cluster ]]; then POCKET_CLUSTER_DIR=$cluster bash "$project/hpc/pocket_cluster.sh" down 2>/dev/null || true; fi
  done
  if mountpoint --quiet -- "$memory"; then umount --lazy -- "$memory"; fi
  rm -rf -- "$reports"
}

trap run::remove_reports EXIT
main "$@"
