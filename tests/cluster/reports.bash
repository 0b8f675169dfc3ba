# shellcheck shell=bash disable=SC2154 # checkout, project and run_directory are set by helpers.bash
# Helpers for the tests of running jobs: the small programs that their jobs run, and what those programs reported.
# Source ../helpers.bash first.

# use_programs LINE...   Copies programs/ into the project and makes the LINEs its experiments, which run with its Python.
use_programs() {
  cp -R -- "$BATS_TEST_DIRNAME/programs" "$project/"
  experiments "${@/#/python programs/}"
}

# told [TASK:]RANK NAME...   Prints what report.py recorded in the run of the last submit, a line `NAME=VALUE` for each name: a finding, as
# JSON, or an environment variable. A variable that was not set gives `NAME is not set`.
told() {
  local task=1
  if [[ $1 == *:* ]]; then task=${1%:*}; fi
  python3 - "$run_directory/task_$task/output/rank_${1#*:}.json" "${@:2}" <<'PYTHON'
import json, sys
account = json.load(open(sys.argv[1]))
for name in sys.argv[2:]:
    if name in account:
        print(f"{name}={json.dumps(account[name], ensure_ascii=False)}")
    elif name in account["environment"]:
        print(f"{name}={account['environment'][name]}")
    else:
        print(f"{name} is not set")
PYTHON
}

# same TEXT TEXT   Fails and prints a diff if the texts differ.
same() {
  diff <(printf '%s\n' "$1") <(printf '%s\n' "$2") >&2
}

# ended JOB SECONDS STATE EXIT:SIGNAL   Waits for the job, which must end with this state and exit code.
ended() {
  wait_for_job "$1" "$2"
  if [[ $job_states != "$3" || $(job_field "$1" ExitCode) != "$4" ]]; then
    printf 'job %s: %s %s, not %s %s; its log:\n' "$1" "$job_states" "$(job_field "$1" ExitCode)" "$3" "$4" >&2
    job_log >&2
    return 1
  fi
}

# restarts JOB [TASK]   Prints how often Slurm has restarted it. Slurm 24.11 and later may restart a preempted job once more after it has
# completed. That start must do nothing and is not counted here ("Three Slurms" in tests/README.md).
restarts() {
  local idle=0
  if [[ $(sbatch --version) != *' 22.05.'* ]]; then
    idle=$(job_log "${2:-1}" | grep -c "^job $1: this task has completed before: nothing is left to do\$" || true)
    ((idle <= 1))
  fi
  printf '%s\n' "$(($(job_field "$1" Restarts) - idle))"
}

# keep_arguments JOB FILE   Records the arguments of all processes of this machine, and so of all nodes, until the job ends.
keep_arguments() {
  local watcher
  while cat /proc/[0-9]*/cmdline 2>/dev/null || (($? != 141)); do :; done 3>&- 4>&- | tr '\0' '\n' | awk '!seen[$0]++ { print; fflush() }' >"$2" 3>&- 4>&- &
  watcher=$!
  wait_until 60 job_has_ended "$1"
  kill "$watcher"
}

# Prints what the job has on the nodes' own disks, as the machine under the pocket cluster sees them.
local_folders() {
  find "$POCKET_CLUSTER_DIR/disks" "$POCKET_CLUSTER_DIR/localscratch" -mindepth 1 \( -name "*.$1.*" -o -name "*_$1_*" \) -print
}

# The shipped experiment with 8 of its 20 epochs: nearly the same accuracy in less than half the time of four ranks on two cores.
shorter_digits() {
  experiments 'python -m train --epochs 8'
}

# prepare_digits FOLDER   Uses the first Python of this machine that has scikit-learn's data.
prepare_digits() {
  local python
  for python in "$checkout"/.venv/tests-*/bin/python python3; do
    if (cd -- "$checkout" && "$python" -m train.prepare digits "$1" >/dev/null); then return; fi
  done
  return 1
}

# The environment of the tests' Python tools that tests/run.sh has made most recently.
tools_environment() {
  local -a found
  mapfile -t found < <(ls -dt -- "$checkout"/.venv/tests-*/complete)
  printf '%s\n' "${found[0]%/complete}"
}

# environment_with NAME REQUIREMENT...   Installs these packages in an environment that also sees the kit's packages. It is made once for
# each version of either. Prints its folder.
environment_with() {
  local kit key lock environment
  kit=$(realpath -- "$(bash "$checkout/venv/create.sh" cpu)") # other checkouts, and roots of other releases, share it
  key=$(printf '%s\n' "${@:2}" "$kit" | sha256sum)
  environment=$checkout/.venv/$1-${key:0:12}
  exec {lock}>"$environment.lock"
  flock "$lock"
  if [[ ! -e $environment/complete ]]; then
    rm -rf -- "$environment"
    "$kit/bin/python" -m venv "$environment"
    "$environment/bin/python" -c 'import site, sys; open(site.getsitepackages()[0] + "/kit.pth", "w").write(sys.argv[1])' \
      "$("$kit/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}" --constraint "$checkout/venv/constraints-cpu.txt" || return
    touch -- "$environment/complete"
  fi
  exec {lock}>&-
  printf '%s\n' "$environment"
}

meetings_environment() {
  environment_with meetings lightning==2.6.6 accelerate==1.15.0 mpi4py==4.1.2 mpich==5.0.2
}

lightning_environment() {
  environment_with lightning lightning==2.6.6
}
