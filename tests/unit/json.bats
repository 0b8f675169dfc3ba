#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # dollars meant as such; tests are subshells; the helpers set them
# --json of each command prints only JSON on standard output, with the same facts as the text. Also the kit's version in a run.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

# json EXPRESSION   Prints the value of a Python expression; `it` is $output.
json() {
  python3 -m json.tool <<<"$output" >/dev/null
  python3 -c 'import json, sys; it = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$output" "$1"
}

@test "job_submitter.sh --json: ids and the run directory, also with difficult characters in its name" {
  stub_slurm
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -- "$SCRATCH"
  cd -- "$BATS_TEST_TMPDIR"
  run -0 --separate-stderr submitter --json --exp-name 'a run'
  [[ $(json 'it["jobs"]') == "['"*"']" && $(json 'it["name"], it["pack_job"], it["cycle_job"]') == "('a run', None, None)" ]]
  local -r run=$(json 'it["run_directory"]')
  [[ -e $run/facts && $(json 'it["jobs"][0]') == "$(<"$run/job_id")" ]]
  local -A fact=()
  # The version that submitted the run, which open and report show.
  # shellcheck source=/dev/null
  source "$run/facts"
  [[ ${fact[kit_version]} == "$(sed -n 's/^## \([^ ]*\).*/\1/p' "$checkout/hpc/CHANGELOG.md" | head -n 1)" ]]
  run -0 bash "$project/hpc/experiments.sh" open "$run"
  [[ $output == *$'\n'"kit           ${fact[kit_version]}"* ]]
  run -0 bash "$project/hpc/experiments.sh" report "$run"
  [[ $output == *"kit ${fact[kit_version]}"* ]]
  # Several arrays, cycles, contradicting options; the environment cannot set what a call prints.
  run -0 --separate-stderr submitter --json --rapid-cycle 2x10
  [[ $(json 'it["cycle_job"]') == [0-9]* ]]
  fails_with 2 'json and --dry-run contradict each other' submitter --json --dry-run
  HPC_JSON=1 run -0 --separate-stderr submitter
  [[ $output =~ ^[0-9]+$ && $stderr == *'HPC_JSON of the environment has no effect: give --json'* ]]
}

@test "a run from a checkout records its commit, with a mark for uncommitted changes" {
  stub_slurm
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -- "$SCRATCH"
  cd -- "$project"
  git init --quiet
  printf '.venv\n' >.gitignore
  git add .
  git -c user.name=x -c user.email=x@y commit --quiet -m one
  local -r commit=$(git rev-parse HEAD)
  local -A fact=()
  run -0 --separate-stderr submitter --json
  # shellcheck source=/dev/null
  source "$(json 'it["run_directory"]')/facts"
  [[ ${fact[kit_version]} == *", commit ${commit:0:12}" ]]
  echo '# changed' >>hpc/doctor.sh
  run -0 --separate-stderr submitter --json
  local -r run=$(json 'it["run_directory"]')
  # shellcheck source=/dev/null
  source "$run/facts"
  [[ ${fact[kit_version]} == *", commit ${commit:0:12}-dirty" ]]
  # A resubmitted run has the current kit.
  git commit --quiet -am two
  printf '#!/bin/sh\necho slurm_load_jobs error: Invalid job id specified >&2; exit 1\n' >"$stub/squeue"
  run -0 --separate-stderr bash hpc/experiments.sh resubmit "$run"
  # shellcheck source=/dev/null
  source "${stderr##*; }/facts"
  [[ ${fact[kit_version]} == *", commit $(git rev-parse --short=12 HEAD)" && ${fact[commit]} == "$commit-dirty" ]]
}

@test "experiments.sh why, open, list, report --json: the same facts as the text" {
  made_runs_setup
  made_run broken 7 2
  state 1 completed
  state 2 failed
  attempt 1 0 finished
  attempt 2 0 failed 'Traceback (most recent call last):' 'ValueError: a "quoted" ü'
  failed_rank 2 0 1 node2 1 'Traceback (most recent call last):' '  File "x.py", line 3, in <module>' 'ValueError: a "quoted" ü'
  run -0 --separate-stderr command_of why broken --json
  [[ $(json '[(task["task"], task["state"], task["cause"], task["rank"], task["node"]) for task in it["tasks"]]') == "[(1, 'completed', 'finished', None, None), (2, 'failed', 'exception', 1, 'node2')]" ]]
  [[ $(json 'it["tasks"][1]["raised"]') == 'ValueError: a "quoted" ü'* && $(json 'it["run_directory"]') == "$run" ]]
  local -r remedy=$(json 'it["tasks"][1]["remedy"]') log=$(json 'it["tasks"][1]["log"]')
  [[ -e $log && $(json 'it["tasks"][1]["lines"][-1]') == 'ValueError: a "quoted" ü' ]]
  [[ $(json 'it["tasks"][1]["attempts"][0]["seconds"], it["tasks"][1]["attempts"][0]["nodes"]') == "(600.0, 'node[1-2]')" ]]
  [[ $(command_of why broken --task 2) == *"to do: $remedy"* ]]
  run -0 --separate-stderr command_of why broken --task 2 --json
  [[ $(json 'len(it["tasks"])') == 1 ]]
  run -0 --separate-stderr command_of open broken --json
  [[ $(json 'it["run_directory"]') == "$run" && $(json 'it["jobs"], it["name"], it["kit_version"]') == "(['7'], 'broken', None)" ]]
  [[ $(json 'it["tasks"][1]["log"], len(it["tasks"][1]["ranks"]), it["tasks"][1]["stop_file"]') == *"task_2/log.txt"*", 1, None)" ]]
  run -0 --separate-stderr command_of list --json
  [[ $(json 'it[0]["name"], it[0]["tasks"]') == "('broken', {'completed': 1, 'failed': 1})" ]]
  run -0 --separate-stderr command_of report broken --json
  [[ $(json 'it["experiments"][0]["kit_versions"]') == '[]' ]]
}

@test "experiments.sh nodes --json, doctor.sh --json" {
  make_project
  use_libraries common bad_nodes
  run -0 --separate-stderr bash "$project/hpc/experiments.sh" nodes --json
  [[ $(json it) == '[]' ]]
  bad_nodes::record stub node1 7 'node failed' 2>/dev/null
  bad_nodes::record stub node2 8 hung 2>/dev/null
  bad_nodes::record stub node2 9 hung 2>/dev/null
  run -0 --separate-stderr bash "$project/hpc/experiments.sh" nodes --json
  [[ $(json '[(node["node"], node["job"], node["cause"], node["excluded"]) for node in it]') == "[('node1', '7', 'node failed', False), ('node2', '8', 'hung', True), ('node2', '9', 'hung', True)]" ]]
  PATH=$(path_without sbatch) run -1 --separate-stderr bash "$project/hpc/doctor.sh" --json --quick
  [[ $(json 'it["ready"], it["findings"][0]["name"]') == "(False, 'slurm')" ]]
}
