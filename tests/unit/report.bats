#!/usr/bin/env bats
# experiments.sh report on run directories as batch.sh leaves them.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/run_directories.bash"

setup() {
  make_project
  run_directories
}

report() {
  run -0 bash "$project/hpc/experiments.sh" report "$@"
}

@test "mean, deviation and interval of each line over its seeds" {
  task one 1 task_1_seed_0 'seed 0: train a' completed '{"accuracy": 0.90, "epochs": 3}'
  task one 2 task_1_seed_1 'seed 1: train a' completed '{"accuracy": 0.92, "epochs": 3}'
  task one 3 task_1_seed_2 'seed 2: train a' completed '{"accuracy": 0.97, "epochs": 3}'
  task one 4 task_2_seed_0 'seed 0: train b' completed '{"accuracy": 0.5}'
  report seeds
  # By hand: mean 0.93, s = 0.0360555, t(2) = 4.30265, 4.30265 s / sqrt(3) = 0.0895669.
  [[ $output =~ train\ a$'\n'\ +accuracy\ +3\ of\ 3\ +0\.93\ +0\.0360555\ +±\ 0\.0895669$'\n'\ +epochs\ +3\ of\ 3\ +3\ +0\ +±\ 0 ]]
  [[ $output =~ train\ b$'\n'\ +accuracy\ +1\ of\ 1\ +0\.5\ +-\ +-$ ]]
}

@test "results that failed, are missing or have no number are listed and not averaged" {
  task one 1 task_1_seed_0 'seed 0: train' completed '{"loss": 2}'
  task one 2 task_1_seed_1 'seed 1: train' failed '{"loss": 1000}'
  task one 3 task_1_seed_2 'seed 2: train' enqueued
  task one 4 task_1_seed_3 'seed 3: train' completed '{"loss": NaN}'
  task one 5 task_1_seed_4 'seed 4: train' completed
  task one 6 task_1_seed_5 'seed 5: train' completed '{"loss": 4}'
  report seeds
  [[ $output =~ loss\ +2\ of\ 6\ +3\  ]]
  [[ $output == *'task_1_seed_1 (seed 1): failed'*'task_1_seed_2 (seed 2): enqueued'*'task_1_seed_3 (seed 3): loss is nan'* ]]
  [[ $output == *'task_1_seed_4 (seed 4): completed, without a result.json'* ]]
}

@test "of several runs of an experiment, completed results count" {
  task one 1 task_1_seed_0 'seed 0: train' completed '{"loss": 1}'
  task one 2 task_1_seed_1 'seed 1: train' failed
  task two 1 task_1_seed_0 'seed 0: train' enqueued
  task two 2 task_1_seed_1 'seed 1: train' completed '{"loss": 3}'
  report seeds
  [[ $output =~ loss\ +2\ of\ 2\ +2\  && $output != *failed* && $output != *enqueued* ]]
  unset SCRATCH
  report "$folder/hpc_outputs/one"
  [[ $output == *'(seed 1): failed'* ]]
}

# Job 1 took two hours; job 2 came after it and took one.
run_again() {
  task one 1 task_1 train completed '{"loss": 9}'
  request one 1 a100
  attempt one 1 0 finished 0 7200
  task two 1 task_1 train completed '{"loss": 5}'
  request two 2 a100 "$@"
  attempt two 1 0 finished 10000 13600
}

@test "after --fresh the newest run counts, and the report names the older one" {
  run_again resume=
  report seeds --rate-per-hour 1
  [[ $output =~ loss\ +1\ of\ 1\ +5\ .*'an older run, job 1, is not counted: 1 completed' ]]
  [[ $output =~ 'a100, partition main'\ +2\ nodes\ x\ 2\ GPUs\ +1\ of\ 1\ +01:00:00\ +2\.00\ +4\.00\ +1\ +4\.00$'\n' ]]
  [[ $output =~ 'a100, partition main, older'\ +2\ nodes\ x\ 2\ GPUs\ +1\ of\ 1\ +02:00:00\ +4\.00\ +8\.00\ +1\ +8\.00$'\n' ]]
  [[ $output =~ 'task_1, older'\ +1\ +0\ +finished ]]
  # The order of the arguments does not matter; a run on its own is not older.
  report "$folder/hpc_outputs/one"
  [[ $output =~ loss\ +1\ of\ 1\ +9\  && $output != *older* ]]
  # While it runs it has no result.
  echo running >"$folder/hpc_outputs/two/task_1/state"
  rm -- "$folder/hpc_outputs/two/task_1/attempt_0/cause"
  report seeds
  [[ $output == *'  task_1: running'*'an older run, job 1, is not counted: 1 completed'* && $output != *' of 1 '*' 9 '* ]]
}

@test "a run that continues from another's checkpoints: the newest result, and the time of both" {
  run_again resume=1
  report seeds
  [[ $output =~ loss\ +1\ of\ 1\ +5\ .*'an older run, job 1, is not counted: 1 completed' ]]
  [[ $output =~ 'a100, partition main'\ +2\ nodes\ x\ 2\ GPUs\ +1\ of\ 1\ +03:00:00\ +6\.00\  ]]
  # It was submitted once more and cancelled before it started, so there is no newer result.
  task three 1 task_1 train enqueued
  request three 3 a100 resume=1
  touch --date='2026-01-01' -- "$folder/hpc_outputs/three/task_1/state" "$folder/hpc_outputs/three"
  : >"$QUEUE"
  report seeds
  [[ $output =~ loss\ +1\ of\ 1\ +5\  && $output != *cancelled* ]]
}

@test "runs of an older kit: --fresh is recognized by the checkpoints that it moved" {
  run_again stamp=20260101-000000 checkpoint_directory="$folder/seeds/checkpoints"
  report seeds
  [[ $output =~ 1\ of\ 1\ +03:00:00\  ]]
  mkdir -- "$folder/seeds/checkpoints.20260101-000000"
  report seeds
  [[ $output =~ 1\ of\ 1\ +01:00:00\  && $output == *', older'* ]]
}

@test "a task that was cancelled has not failed" {
  task one 1 task_1_seed_0 'seed 0: train' failed
  task one 2 task_1_seed_1 'seed 1: train' enqueued
  task one 3 task_1_seed_2 'seed 2: train' failed
  request one 4711 a100
  attempt one 1 0 cancelled 1000 1060
  attempt one 3 0 'failed 1 0 node1' 1000 1060
  touch --date='2026-01-01' -- "$folder/hpc_outputs/one"/{task_*/state,}
  report seeds
  [[ $output == *'(seed 0): cancelled'*'(seed 1): enqueued'*'(seed 2): failed'*'Slurm does not answer ('* || $output == *'Slurm does not answer ('*'(seed 0): cancelled'* ]]
  : >"$QUEUE"
  report seeds
  [[ $output == *'(seed 0): cancelled'*'(seed 1): cancelled'*'(seed 2): failed'* && $output != *'does not answer'* ]]
}

@test "without result.json the last line of a .jsonl file counts; other files are ignored" {
  task one 1 task_1 'train' completed
  printf '{"step": 1, "loss": 9}\n{"step": 2, "loss": 5, "name": "x", "good": true}\n' >"$folder/hpc_outputs/one/task_1/output/log.jsonl"
  printf 'not json\n' >"$folder/hpc_outputs/one/task_1/output/other.jsonl"
  report seeds
  [[ $output =~ loss\ +1\ of\ 1\ +5\  && $output != *name* && $output != *good* ]]
}

@test "a run may be named by its job or its name" {
  local -r id=mine_20261121-120000_1
  local name
  task "$id" 1 task_1 'train' completed '{"loss": 5}'
  request "$id" 4711 a100 exp_name="$id" job_name=mine run_id="$id"
  for name in 4711 mine "$folder/hpc_outputs/$id"; do
    report "$name"
    [[ $output =~ loss\ +1\ of\ 1\ +5\  ]]
  done
}

@test "wrong arguments" {
  fails_with 2 "report needs an experiment's name, a job or a run directory$" bash "$project/hpc/experiments.sh" report
  fails_with 1 "'none' is neither a job, nor a run directory, nor an experiment of " bash "$project/hpc/experiments.sh" report none
  unset SCRATCH
  fails_with 1 'SCRATCH is not set' bash "$project/hpc/experiments.sh" report none
}

# Two seeds: one completed at once, one was preempted after half an hour and then completed.
two_seeds() {
  task one 1 task_1_seed_0 'seed 0: train' completed '{"loss": 2}'
  task one 2 task_1_seed_1 'seed 1: train' completed '{"loss": 3}'
  request one 4711 a100
  attempt one 1 0 finished 1000 2800
  attempt one 2 0 preempted 1000 ''
  attempt one 2 1 finished 4600 5500
  # It has 2 of 8 cores, and 3 of the second node's; at most 4 GiB.
  usage one 1 0 node1 '1000 0 1000000000 80 500' '1900 1800 4294967296 90 2000' '2790 3580 1073741824 70 1000'
  usage one 1 0 node2 '1000 100 1000000000 80 500' '1900 2800 1000000000 80 500'
  # The last sample of the preempted attempt is from minute 30.
  usage one 2 0 node1 '1000 0 1 - -' '2800 0 1 - -'
}

@test "time, GPU hours and cost of machines and attempts" {
  two_seeds
  report seeds --rate-per-hour 2 --rate-per-hour other=9
  # 1800 + 1800 + 900 s on 2 nodes are 2.5 node hours and 5 GPU hours.
  [[ $output =~ a100,\ partition\ main\ +2\ nodes\ x\ 2\ GPUs\ +2\ of\ 2\ +00:37:30\ +2\.50\ +5\.00\ +2\ +10\.00$'\n' ]]
  [[ $output =~ finished\ +2\ +00:45:00\ +3\.00\ +6\.00$'\npreempted'\ +1\ +00:30:00\ +2\.00\ +4\.00$'\n' ]]
  [[ $output =~ task_1_seed_1\ +4711\ +0\ +preempted\ +1970-01-01\ 00:16:40\ +00:30:00\ +2\.00\ +4\.00$'\ntask_1_seed_1'\ +4711\ +1\ +finished ]]
  # A node's price, by the machine's name, comes before the general price.
  report seeds --rate-per-node-hour=100 --rate-per-node-hour a100=3
  [[ $output =~ 'RATE OF A NODE'.*\ 2\.50\ +5\.00\ +3\ +7\.50$'\n' ]]
  # Without a price there is no cost.
  report seeds
  [[ $output != *COST* && $output == *'For costs give --rate-per-hour'* ]]
}

@test "machines that an experiment ran on are compared" {
  task one 1 task_1 train completed '{"loss": 2}'
  request one 1 v100l
  attempt one 1 0 finished 0 7200
  task two 1 task_2 train completed '{"loss": 2}'
  request two 2 '' gpus=0 processes_per_node=1 nodes=1
  attempt two 1 0 finished 0 3600
  # It failed on one machine and completed on the other.
  task one 2 task_2 train failed
  attempt one 2 0 'failed 1 0 node1' 0 0
  report seeds --rate-per-hour v100l=0.5
  [[ $output =~ v100l,\ partition\ main\ +2\ nodes\ x\ 2\ GPUs\ +1\ of\ 2\ +02:00:00\ +4\.00\ +8\.00\ +0\.5\ +4\.00$'\nCPU,'\ partition\ main\ +1\ node\ x\ CPU\ .*\ 1\.00\ +0\.00\ +-\ +-$'\n' ]]
}

@test "used resources beside the requested ones, and what to request next time" {
  two_seeds
  report seeds
  [[ $output =~ 'memory of a node, highest'\ +20\.0\ GiB\ +4\.0\ GiB\ +20\ % ]]
  # The samples are 3580 s of CPU, 2700, 0 in 1790, 900 and 1800 s.
  [[ $output =~ 'CPU cores of a node, mean'\ +8\ +1\.4\ +17\ %$'\n'\ +'CPU cores of a node, highest'\ +8\ +3\.0\ +38\ % ]]
  [[ $output =~ 'GPUs, mean of their use'\ +2\ +80\ %$'\n'\ +'GPU memory of a node, highest'\ +2000\ MiB ]]
  [[ $output =~ 'time, longest attempt'\ +01:00:00\ +00:30:00\ +50\ % ]]
  # 4 GiB x 1.2 for two GPUs; 3 cores for two processes; 45 minutes x 1.25 are 56:15, nearly the requested hour, so no advice.
  [[ $output =~ --mem-per-gpu\ +3G\ .*--cpus\ +4\  && $output != *'--time '* ]]
  # For 2 hours there is advice; half an hour was too little.
  request one 4711 a100 time=02:00:00
  report seeds
  [[ $output =~ --time\ +00:57:00\ +'the longest task ran for 00:45:00' ]]
  request one 4711 a100 time=00:30:00
  report seeds
  [[ $output =~ --time\ +00:57:00\ +.*'one attempt' ]]
}

@test "limits that were too low are doubled; a failure at the start gives no measure" {
  task one 1 task_1 train failed
  request one 4711 a100
  attempt one 1 0 out_of_memory 1000 1060
  attempt one 1 1 time_limit 2000 2100
  usage one 1 0 node1 '1000 0 1000000 - -' '1060 1 1000000 - -'
  report seeds
  [[ $output =~ --mem-per-gpu\ +20G\ .*--time\ +02:00:00\  && $output != *'--cpus '* ]]
  echo 'failed 3 0 node1' >"$folder/hpc_outputs/one/task_1/attempt_0/cause"
  echo 'failed 3 1 node2' >"$folder/hpc_outputs/one/task_1/attempt_1/cause"
  report seeds
  [[ $output =~ 'failed 3'\ +2\ +00:02:40 && $output != *'next time'* ]]
}

@test "a truncated line of usage, a running attempt, and names of several experiments" {
  task one 1 task_1 train running
  request one 4711 a100
  attempt one 1 0 '' "$(($(date +%s) - 7200))" ''
  usage one 1 0 node1 '1000 0 1000000 - -'
  printf '1010.0\t5' >>"$folder/hpc_outputs/one/task_1/attempt_0/usage_node1.tsv"
  task two 1 task_1 other completed '{"loss": 1}'
  request two 4712 a100 "exp_name=it's other"
  report "$folder/hpc_outputs/one" "$folder/hpc_outputs/two"
  [[ $output =~ '=== seeds'.*running\ +1\ +02:0.*'=== it'\''s other'.*loss\ +1\ of\ 1 ]]
}

@test "--json has all facts, numbers as numbers" {
  two_seeds
  echo '{"loss": NaN}' >"$folder/hpc_outputs/one/task_2/output/result.json"
  report seeds --json --rate-per-hour 2
  python3 - "$output" <<'PYTHON'
import json, sys

def refuse(text):
    raise ValueError(text)

(seeds,) = json.loads(sys.argv[1], parse_constant=refuse)["experiments"]
assert seeds["experiment"] == "seeds"
assert seeds["tasks"][1]["result"] == {"loss": "nan"}
assert seeds["results"][0]["metrics"][0] == {"metric": "loss", "runs": 1, "mean": 2.0, "deviation": None, "interval": None}
assert [(a["cause"], a["seconds"], a["cost"]) for a in seeds["attempts"]][1] == ("preempted", 1800.0, 4.0)
(request,) = seeds["requests"]
assert (request["gpu_hours"], request["cost"], request["usage"]["gpu_percent"]) == (5.0, 10.0, 80.0), request
assert request["advice"][0] == {**request["advice"][0], "option": "--mem-per-gpu", "value": "3G"}
PYTHON
}

@test "invalid options of report" {
  local -r script=$project/hpc/experiments.sh
  task one 1 task_1 train completed '{"loss": 1}'
  fails_with 2 "report knows no option '--rates'" bash "$script" report --rates 3 seeds
  fails_with 2 '--html needs a value' bash "$script" report seeds --html
  fails_with 2 '--html needs a value' bash "$script" report seeds --html=
  run -2 bash "$script" report seeds --rate-per-hour a100=cheap
  [[ $output == *"'a100=cheap' is no price"* ]]
  run -2 bash "$script" report seeds --rate-per-hour 1 --rate-per-node-hour 2
  [[ $output == *'not allowed with'* ]]
}
