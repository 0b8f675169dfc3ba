# shellcheck shell=bash
# The table `report` of run.sh, which sources this file: a report of a task with 100,000 lines of metrics, as text and as a page; the page's
# size; and the cost of a node's sampler. Needs no cluster, but the matplotlib of tests/run.sh.

declare -g here checkout work results rounds # run.sh's

bench::report() {
  local -r run=$work/run page=$work/page.html
  local round
  bench::make_run "$run"
  # shellcheck source=../unit/run_directories.bash
  source "$checkout/tests/unit/run_directories.bash"
  drawing_path || common::die "no matplotlib: run  bash tests/run.sh lint  once"
  for ((round = 0; round < ${rounds:-5}; round++)); do
    bench::time text bash "$checkout/hpc/experiments.sh" report "$run"
    bench::time page bash "$checkout/hpc/experiments.sh" report --html "$page" "$run"
  done
  python3 "$here/table.py" 'a report of 100,000 lines (seconds)' 1 text "$results" \
    'text=experiments.sh report' 'page=experiments.sh report --html, two curves'
  printf '\nThe page has %s bytes, of metrics.jsonl of %s.\n' "$(stat -c %s -- "$page")" "$(stat -c %s -- "$run/task_1/output/metrics.jsonl")"
  bench::sampler
}

# bench::make_run FOLDER
bench::make_run() {
  mkdir -p -- "$1/task_1/output"
  printf '1\ttask_1\ttrain\n' >"$1/tasks"
  echo completed >"$1/task_1/state"
  python3 -c '
import json, math, random
for step in range(1, 100_001):
    print(json.dumps({"step": step, "loss": math.exp(-step / 3e4) + random.random() / 10, "rate": 0.1 * (1 - step / 1e5)}))
' >"$1/task_1/output/metrics.jsonl"
}

# Sample every 50 ms in place of 10 s, for 300 lines; an hour has 360.
bench::sampler() {
  local -r record=$work/usage_node.tsv
  local node sampler begun
  SLURM_LOCALID=0 SLURM_JOB_ID=1 SLURMD_NODENAME=node HPC_USAGE_SECONDS=0.05 bash -c '
    source "$1/hpc/lib/common.sh"
    source "$1/hpc/job/lib/usage.sh"
    usage::start "$1" "$2"
    exec sleep 600' - "$checkout" "$work" &
  node=$!
  until [[ -s $record && $(wc -l <"$record") -ge 2 ]]; do sleep 0.01; done
  sampler=$(pgrep --parent "$node")
  begun=$(cut -d ' ' -f 1 "/proc/$sampler/schedstat")
  until (($(wc -l <"$record") >= 302)); do sleep 0.1; done
  awk -v begun="$begun" -v samples="$(($(wc -l <"$record") - 2))" -v processes="$(pgrep -c .)" '{
    sample = ($1 - begun) / 1e9 / samples
    printf "The sampler (hpc/job/usage.py): %.0f ms of CPU for its start, %.2f ms for a line with %d processes on the machine; ", begun / 1e6, sample * 1e3, processes
    printf "%.2f s of CPU in an hour, %.4f %% of a core.\n", begun / 1e9 + 360 * sample, sample * 10
  }' "/proc/$sampler/schedstat"
  kill "$node"
}
