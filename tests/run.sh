#!/usr/bin/env bash
# tests/run.sh [lint|unit|cluster|faults]...
#
# Runs the tests, all of them when none is named, and ends with the line `N passed, N failed`. Installs
# what they need (Debian packages as root or by sudo; Python packages in .venv), starts a pocket cluster of
# its own and takes it down. Exit status 0 when none failed.
#   lint      ShellCheck, shfmt, ruff, mypy
#   unit      bats for the bash, pytest for train/; no cluster
#   cluster   bats on a pocket cluster: real Slurm, real torchrun
#   faults    trainings that are interrupted in all ways, and end with the same weights
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$project/hpc/lib/packages.sh"

passed=0 failed=0 skipped=0
reports=$(mktemp -d)

main() {
  local -a suites=("$@")
  local suite
  for suite in "${suites[@]}"; do
    case $suite in
      lint | unit | cluster | faults) ;;
      *) common::die_usage "unknown suite ${suite@Q}: tests/run.sh [lint|unit|cluster|faults]..." ;;
    esac
  done
  if ((${#suites[@]} == 0)); then suites=(lint unit cluster faults); fi

  cd -- "$project"
  run::prepare
  for suite in "${suites[@]}"; do
    printf '\n== %s\n' "$suite"
    "run::$suite"
  done
  run::stop_cluster
  if [[ -s $reports/failures ]]; then printf '\nFailed:\n%s\n' "$(<"$reports/failures")"; fi
  printf '\n%s passed, %s failed%s\n' "$passed" "$failed" "$( ((skipped == 0)) || printf ', %s skipped' "$skipped")"
  ((failed == 0 && passed > 0))
}

run::prepare() {
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
PROGRAMS
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]} > 0)); then packages::install "${missing[@]}"; fi

  # The tools live in an environment of their own that sees the kit's: nothing is installed twice.
  local kit_environment key
  kit_environment=$(bash venv/create.sh cpu)
  key=$(cat -- tests/requirements.txt <(printf '%s\n' "$kit_environment") | sha256sum)
  tools=$project/.venv/tests-${key:0:12}
  if [[ ! -e $tools/complete ]]; then
    rm -rf -- "$tools"
    python3 -m venv "$tools"
    "$tools/bin/python" -c 'import site, sys; open(site.getsitepackages()[0] + "/kit.pth", "w").write(sys.argv[1])' \
      "$("$kit_environment/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
    # Only its data file is read, so not what it needs.
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps scikit-learn
    touch -- "$tools/complete"
  fi
}

# run::check NAME COMMAND...   One test that is one command.
run::check() {
  local -r name=$1
  shift
  if "$@"; then
    printf 'ok %s\n' "$name"
    passed=$((passed + 1))
  else
    printf 'not ok %s\n' "$name" | tee -a "$reports/failures"
    failed=$((failed + 1))
  fi
}

run::lint() {
  local -a scripts bats_files
  mapfile -d '' scripts < <(git ls-files -z --cached --others --exclude-standard -- '*.sh' '*.bash' .ci/run)
  mapfile -d '' bats_files < <(git ls-files -z --cached --others --exclude-standard -- '*.bats')
  run::check shellcheck shellcheck --external-sources "${scripts[@]}" "${bats_files[@]}"
  run::check shfmt shfmt -i 2 -ci -d "${scripts[@]}"
  run::check 'shfmt, bats' shfmt -ln bats -i 2 -ci -d "${bats_files[@]}"
  run::check 'ruff check' "$tools/bin/ruff" check
  run::check 'ruff format' "$tools/bin/ruff" format --check
  run::check mypy "$tools/bin/python" -m mypy train
}

run::unit() {
  run::bats tests/unit
  run::pytest tests/train
}

run::cluster() {
  run::start_cluster
  run::bats tests/cluster
}

run::faults() {
  run::start_cluster
  run::bats tests/faults
}

# One cluster, of this run alone. Files of tests that need another shape of cluster make their own.
run::start_cluster() {
  if [[ ${POCKET_CLUSTER_DIR:-} == "$reports/pocket" ]]; then return; fi
  chmod 711 -- "$reports" # for jobs of other users
  export POCKET_CLUSTER_DIR=$reports/pocket
  trap 'run::stop_cluster; exit 130' INT TERM
  bash hpc/pocket_cluster.sh up
}

run::stop_cluster() {
  if [[ -d $reports/pocket ]]; then bash "$project/hpc/pocket_cluster.sh" down; fi
}

run::bats() {
  local -r folder=$1
  local status=0
  bats --tap --recursive "$folder" </dev/null | tee "$reports/tap" || status=$?
  run::count '^ok (?!.*# skip)' '^not ok ' '^ok .*# skip' "$status"
}

# run::count PASSED FAILED SKIPPED STATUS   Patterns of lines of the report.
run::count() {
  local -r bad=$(grep -cP "$2" "$reports/tap" || true)
  grep -P "$2" "$reports/tap" >>"$reports/failures" || true
  passed=$((passed + $(grep -cP "$1" "$reports/tap" || true)))
  skipped=$((skipped + $(grep -cP "$3" "$reports/tap" || true)))
  failed=$((failed + bad))
  # A runner that broke before its tests is a failure too.
  if (($4 != 0 && bad == 0)); then
    printf 'the runner itself, status %s\n' "$4" >>"$reports/failures"
    failed=$((failed + 1))
  fi
}

run::pytest() {
  local status=0
  "$tools/bin/python" -m pytest -v -rfEs --tb=short "$1" </dev/null | tee "$reports/tap" || status=$?
  run::count '::.* PASSED +\[' '^(FAILED|ERROR) ' '::.* SKIPPED .*\[' "$status"
}

run::remove_reports() {
  if [[ -n ${POCKET_CLUSTER_DIR:-} && -d $reports/pocket ]]; then run::stop_cluster 2>/dev/null || true; fi
  rm -rf -- "$reports"
}

trap run::remove_reports EXIT
main "$@"
