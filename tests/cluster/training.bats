#!/usr/bin/env bats
# Trains every task of train/ with two ranks on each of two nodes, once without and once with an interruption.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
}

teardown_file() {
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

teardown() {
  if [[ -n ${jobs:-} ]]; then scancel --quiet "${jobs[@]}"; fi
}

# compare FOLDER FOLDER   Compares what the tasks' runs wrote in both, except durations; prints a line for each task.
compare() {
  python3 - "$1" "$2" <<'PYTHON'
import json, pathlib, sys

def results(outputs):
    lines = (outputs / "metrics.jsonl").read_text().splitlines() + [(outputs / "result.json").read_text()]
    times = ("seconds", "samples_per_second", "attempt")
    return [{name: value for name, value in json.loads(line).items() if name not in times} for line in lines]

whole, parts = map(pathlib.Path, sys.argv[1:])
for task in sorted(path.name for path in whole.iterdir()):
    one, other = results(whole / task / "outputs"), results(parts / task / "outputs")
    print(task, "equal" if one == other else f"{one} is not {other}", one[-1]["world_size"], "ranks")
PYTHON
}

@test "all tasks, four ranks on two nodes: interrupted once, they end with the same metrics" {
  local -r data=$SCRATCH/data
  local python
  python=$(tools_environment)/bin/python
  cp -- "$checkout/tests/train/small_tasks.py" "$checkout/tests/train/real_formats.py" "$project/"
  (cd -- "$project" && PYTHONPATH=$project "$python" small_tasks.py write "$data")

  experiments "'$python' small_tasks.py train '$data' '$SCRATCH/whole'" \
    "'$python' small_tasks.py train '$data' '$SCRATCH/parts' 3"
  submit --gpus 2 --num-nodes 2
  jobs=("$job")
  wait_for_job "$job" 600
  same "$job_states" "$(printf 'COMPLETED\nCOMPLETED')"
  same "$(compare "$SCRATCH/whole" "$SCRATCH/parts")" "$(cd -- "$data" && printf '%s equal 4 ranks\n' *)"
  [[ $(job_log 2) == *'interrupted at step 3 of '*'resumed at step 3 of '* ]]
}
