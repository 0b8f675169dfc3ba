#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # dollars meant as such; tests are subshells; ../helpers
# W&B sweeps: the real client, in real array jobs, against ../wandb_server.py, which says what it cannot prove. Jobs run
# beside each other, as an agent takes eleven seconds to begin.

load ../helpers
load reports

setup_file() {
  cluster_up
  kit_environment=$(bash "$checkout/venv/create.sh" cpu)
  make_project "$BATS_FILE_TMPDIR"
  cp -R -- "$BATS_TEST_DIRNAME/programs" "$project/"
  key=canary0$(tr -dc a-f0-9 </dev/urandom 2>/dev/null | head -c 33 || true)
  export project kit_environment key
  start_server
  printf 'WANDB_API_KEY=%s\nWANDB_BASE_URL=%s\nWANDB_ERROR_REPORTING=false\n' "$key" "$url" >"$project/.env"
  watch_processes &
  echo "$!" >"$BATS_FILE_TMPDIR/watcher"
}

teardown_file() {
  kill "$(<"$BATS_FILE_TMPDIR/watcher")" "$(<"$BATS_FILE_TMPDIR/server")" || true
  cluster_down
}

# At the address at which the nodes see this machine.
start_server() {
  local address
  address=$(sed -n 's/^SlurmctldHost=.*(\(.*\))$/\1/p' "$SLURM_CONF")
  WANDB_API_KEY=$key "$kit_environment/bin/python" "$checkout/tests/wandb_server.py" "$BATS_FILE_TMPDIR" "$address" 3>&- 4>&- &
  echo "$!" >"$BATS_FILE_TMPDIR/server"
  wait_until 30 test -s "$BATS_FILE_TMPDIR/url"
  url=$(<"$BATS_FILE_TMPDIR/url")
  export url
}

# Looks for the key in what every user of the machine can read.
watch_processes() {
  exec 3>&- 4>&-
  while sleep 0.3; do
    grep -lsF "$key" /proc/[0-9]*/cmdline >>"$BATS_FILE_TMPDIR/seen" || true
  done
}

# make_sweep NAME LINE...   A sweep of trial.py with these lines; sets `sweep`.
make_sweep() {
  printf '%s\n' 'method: grid' "${@:2}" >"$BATS_FILE_TMPDIR/$1.yaml"
  sweep=$(cd -- "$project" && WANDB_API_KEY=$key WANDB_BASE_URL=$url \
    bash venv/run.sh python hpc/sweep.py create "$BATS_FILE_TMPDIR/$1.yaml" 3>&- 4>&-)
}

# submit_sweep TASKS OPTION...   An array job of so many tasks for `sweep`.
submit_sweep() {
  local -i task
  # Until job_submitter.sh has --wandb-sweepid: a job of as many experiments, whose record is changed before it starts.
  for ((task = 1; task <= $1; task++)); do echo true; done >"$project/tasks.txt"
  submit --configs "$project/tasks.txt" --gpus 0 -W srun --begin now+1hour "${@:2}"
  printf "fact[sweep]='%s'\n" "$sweep" >>"$run_directory/facts"
  rm -- "$run_directory"/task_*/command
  scontrol update "JobId=$job" StartTime=now
}

# keep NAME, recall NAME   The job, its run directory and its sweep, from setup_file's to a test.
keep() {
  printf '%s\n%s\n%s\n' "$job" "$run_directory" "$sweep" >"$BATS_FILE_TMPDIR/$1"
}

recall() {
  { read -r job && read -r run_directory && read -r sweep; } <"$BATS_FILE_TMPDIR/$1"
}

# runs FORMAT   Of each run of the sweep a line, as the server has it, sorted: a Python format of its fields.
runs() {
  curl --silent "$url/_state" | python3 -c '
import json, sys
state, sweep, form = json.load(sys.stdin), sys.argv[1].split("/")[-1], sys.argv[2]
for run in state["runs"].values():
    if run["sweep"] == sweep:
        history = " ".join("%s:%s" % (line["_step"], line["seen"]) for line in run["history"])
        print(form.format(**{**run, "history": history, **(run["point"] or {})}))
' "$sweep" "$1" | sort
}

states() {
  scontrol --oneliner show job "$job" | LC_ALL=C sed -nE 's/.* ArrayTaskId=([0-9]+) .* JobState=([A-Z]+) .*/\1 \2/p' | sort -n
}

@test "one trial" {
  make_sweep one 'program: programs/trial.py' 'parameters: {lr: {values: [0.1]}, batch: {value: 16}}'
  submit_sweep 1
  ended "$job" 120 COMPLETED 0:0
  runs '{name} {state} {history}'
  job_log
}
