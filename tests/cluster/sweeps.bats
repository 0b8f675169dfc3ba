#!/usr/bin/env bats
# W&B sweeps with the real client, in real array jobs, and ../wandb_server.py, which says what it cannot prove. The jobs run at the same
# time, because an agent takes eleven seconds to start.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
  kit_environment=$(bash "$checkout/venv/create.sh" cpu)
  make_project_in "$BATS_FILE_TMPDIR"
  cp -R -- "$BATS_TEST_DIRNAME/programs" "$project/"
  key=canary0$(tr -dc a-f0-9 </dev/urandom 2>/dev/null | head -c 33 || true)
  export project kit_environment key
  start_server
  printf 'WANDB_API_KEY=%s\nWANDB_BASE_URL=%s\nWANDB_ERROR_REPORTING=false\n' "$key" "$url" >"$project/.env"
  watch_processes &
  echo "$!" >"$BATS_FILE_TMPDIR/watcher"

  make_sweep grid 'parameters: {lr: {values: [0.1, 0.2, 0.3]}, batch: {values: [16, 32]}, steps: {value: 60}, hold: {value: 5}, fail: {value: 3}}'
  keep grid
  make_plain_sweep "'parameters': {'lr': {'value': 0.5}, 'batch': {'value': 1}, 'text': {'value': '\${exp_name} \$5'}}"
  submit_sweep ranks 1 --exclude 'node[3-4]' --gpus 2 --num-nodes 2 -W torchrun --exp-name ranks
  make_plain_sweep "'parameters': {'lr': {'value': 1.0}}, 'command': ['sh', '-c', 'sleep 100']"
  submit_sweep direct 1 --exclude 'node[3-4]'
  make_sweep lost 'parameters: {lr: {value: 1.0}, batch: {value: -1}, no-such-option: {value: 1}}'
  submit_sweep lost 1 --exclude 'node[3-4]'
  sweep=entity/project/none
  submit_sweep unknown 1 --exclude 'node[3-4]'
}

teardown_file() {
  local -a jobs
  mapfile -t jobs <"$BATS_FILE_TMPDIR/jobs"
  scancel "${jobs[@]}" || true
  for job in "${jobs[@]}"; do wait_for_job "$job" 40 || true; done
  kill "$(<"$BATS_FILE_TMPDIR/watcher")" "$(<"$BATS_FILE_TMPDIR/server")" || true
  cluster_down
}

# Use the address at which the nodes see this machine.
start_server() {
  local address
  address=$(sed -n 's/^SlurmctldHost=.*(\(.*\))$/\1/p' "$SLURM_CONF")
  WANDB_API_KEY=$key "$kit_environment/bin/python" "$checkout/tests/wandb_server.py" "$BATS_FILE_TMPDIR" "$address" 3>&- 4>&- &
  echo "$!" >"$BATS_FILE_TMPDIR/server"
  wait_until 30 test -s "$BATS_FILE_TMPDIR/url"
  url=$(<"$BATS_FILE_TMPDIR/url")
  export url
}

# Look for the key in everything that each user of the machine can read.
watch_processes() {
  exec 3>&- 4>&-
  while sleep 0.3; do
    grep -lsF "$key" /proc/[0-9]*/cmdline >>"$BATS_FILE_TMPDIR/seen" || true
  done
}

# make_sweep NAME LINE...   Makes a grid of trial.py with these lines; sets `sweep`.
make_sweep() {
  printf '%s\n' 'method: grid' 'program: programs/trial.py' "${@:2}" >"$BATS_FILE_TMPDIR/$1.yaml"
  sweep=$(client python hpc/sweep/sweep.py create "$BATS_FILE_TMPDIR/$1.yaml")
}

# make_plain_sweep ENTRIES   Makes a sweep without the kit, from entries of a Python dictionary.
make_plain_sweep() {
  sweep=$(client python -c "import wandb
print(wandb.sweep({'method': 'grid', 'program': 'programs/trial.py', $1}, entity='entity', project='project'))" | tail -n 1)
  sweep=entity/project/$sweep
}

# client WORD...   Runs the client on the login node, in the project.
client() {
  (cd -- "$project" && WANDB_API_KEY=$key WANDB_BASE_URL=$url WANDB_ERROR_REPORTING=false bash venv/run.sh "$@" 3>&- 4>&-)
}

# submit_sweep NAME TASKS OPTION...   Submits an array job of TASKS tasks for `sweep`, also if it has fewer runs; `recall NAME` sets its job
# again.
submit_sweep() {
  submit --wandb-sweepid "$sweep" --sweep-runs "$2" --no-preflight --gpus 0 -c 1 --mem 2G -W srun "${@:3}"
  keep "$1"
}

keep() {
  printf '%s\n%s\n%s\n' "${job:-}" "${run_directory:-}" "$sweep" >"$BATS_FILE_TMPDIR/$1"
}

recall() {
  { read -r job && read -r run_directory && read -r sweep; } <"$BATS_FILE_TMPDIR/$1"
}

# runs FORMAT   Prints a line for each run of the sweep, as the server has it, sorted. FORMAT is a Python format of the run's fields;
# `steps` are those of its history, as W&B and as the program count them.
runs() {
  curl --silent "$url/_state" | python3 -c '
import json, sys
state, sweep, form = json.load(sys.stdin), sys.argv[1].split("/")[-1], sys.argv[2]
for run in state["runs"].values():
    if str(run["sweep"]) == sweep:
        steps = " ".join("%s:%s" % (line["_step"], line["seen"]) for line in run["history"])
        print(form.format(**{**(run["point"] or {}), **run, "steps": steps}))
' "$sweep" "$1" | sort
}

# unbroken STEPS   Prints the steps as `runs` prints them when each came once and in order.
unbroken() {
  local -i step
  for ((step = 1; step < $1; step++)); do printf '%s:%s ' "$((step - 1))" "$step"; done
  printf '%s:%s\n' "$((step - 1))" "$step"
}

# run_of TASK   Prints the W&B run of a task.
run_of() {
  tr '\0' '\n' <"$run_directory/task_$1/environment" | sed -n 's/^WANDB_RUN_ID=//p'
}

# task_of RUN   Prints the task of a W&B run.
task_of() {
  local file
  for file in "$run_directory"/task_*/environment; do
    if grep -qz "^WANDB_RUN_ID=$1\$" "$file"; then
      file=${file%/environment}
      echo "${file##*_}"
    fi
  done
}

# has_begun TASK
has_begun() {
  wait_until 120 compgen -G "${run_directory//[^a-zA-Z0-9_\/]/?}/task_$1/output/rank_*" >/dev/null || { squeue && cat -- "$run_directory/task_$1"/{,agent/}log.txt && return 1; }
}

# Waits until a task that will not fail has logged some steps; sets `task`.
has_steps() {
  local run
  run=$(runs '{name} {lr} {batch} {steps}' | sed -n '/ 0.2 32 /!s/ .* 1:2 .*//p' | head -n 1)
  [[ -n $run ]] && task=$(task_of "$run")
}

no_agent() {
  ! pgrep -f "wandb agent.* $sweep\$|$BATS_FILE_TMPDIR.*(hpc/job/sweep_trial|hpc/job/shims/)" >/dev/null
}

@test "a 3 x 2 grid: each point runs once, whatever happens to the tasks; one task more than points" {
  local node run
  local -i task
  recall grid
  submit_sweep grid 7 --exclude 'node[1-2]'
  # Preempt everything on the node of one of them while others wait for their agents.
  wait_until 120 has_steps || { squeue && cat -- "$run_directory"/task_*/{,agent/}log.txt && return 1; }
  node=$(<"$run_directory/task_$task/attempt_0/nodes")
  sbatch --parsable --partition=urgent --nodelist="$node" --exclusive --output=/dev/null --wrap 'sleep 1'
  wait_until 60 test -e "$run_directory/task_$task/attempt_0/cause"
  for task in {1..7}; do mkdir -p -- "$run_directory/task_$task/output" && : >"$run_directory/task_$task/output/go"; done
  wait_for_job "$job" 180
  same "$(sort <<<"$job_states" | uniq -c | tr -s ' ')" $' 6 COMPLETED\n 1 FAILED'
  same "$(runs '{lr} {batch} {state} {steps}')" "$(
    for run in 0.1\ 16 0.1\ 32 0.2\ 16 0.2\ 32 0.3\ 16 0.3\ 32; do
      case $run in
        0.2\ 32) echo "$run failed 0:1" ;;
        *) echo "$run finished $(unbroken 60)" ;;
      esac
    done
  )"
  # The failed task has the program's status; the preempted one has kept its run.
  task=$(task_of "$(runs '{lr} {batch} {name}' | sed -n 's/^0.2 32 //p')")
  same "$(<"$run_directory/task_$task/exit_status")" 3
  same "$(<"$run_directory/task_$task/attempt_0/cause")" "failed 3 0 $(<"$run_directory/task_$task/attempt_0/nodes")"
  same "$(cat -- "$run_directory"/task_*/attempt_1/cause | sort -u)" finished
  same "$(find "$run_directory" -name spare | wc -l)" 1
  [[ $(cat -- "$run_directory"/task_*/log.txt) == *'no run was left to hand out: this task is spare'* ]]
  no_agent
}

@test "2 nodes x 2 GPUs: a trial is one run, which only rank 0 reports; made by plain wandb sweep" {
  local rank
  recall ranks
  ended "$job" 150 COMPLETED 0:0
  same "$(runs '{state} {steps}')" "finished $(unbroken 3)"
  same "$(find "$run_directory" -name 'run-*-*' -type d | wc -l)" 1
  for rank in 0 1 2 3; do same "$(<"$run_directory/task_1/output/rank_$rank")" "$(run_of 1) ranks \$5"; done
}

@test "scancel, and a stop from the server: the agent ends, and the record shows which it was" {
  make_sweep long 'parameters: {lr: {values: [0.1, 0.2]}, batch: {value: 1}, steps: {value: 10000}}'
  submit_sweep long 2 --exclude 'node[3-4]'
  has_begun 1
  has_begun 2
  curl --silent -X POST "$url/_stop/$(run_of 1)"
  scancel "${job}_2"
  wait_for_job "$job" 60
  same "$(sort <<<"$job_states")" $'CANCELLED\nCOMPLETED'
  same "$(<"$run_directory/task_1/attempt_0/cause")" finished
  [[ $(job_log 1) == *'the server has stopped this trial'* ]]
  wait_until 12 test -e "$run_directory/task_2/attempt_0/cause"
  same "$(<"$run_directory/task_2/attempt_0/cause")" cancelled
  [[ ! -e $run_directory/task_2/attempt_0/stopped ]]
  wait_until 10 no_agent
}

@test "batch.sh is killed: the agent ends, too" {
  make_sweep killed 'parameters: {lr: {value: 0.1}, batch: {value: 1}, steps: {value: 10000}}'
  submit_sweep killed 1 --exclude 'node[3-4]' --max-restarts 0
  has_begun 1
  pkill -KILL -f "slurm_script $(sed 's/[^a-zA-Z0-9_/]/./g' <<<"$run_directory")"
  wait_until 30 no_agent
}

@test "a program that dies before its first report; an unknown sweep; a command that is not the kit's" {
  recall lost
  ended "$job" 120 FAILED 2:0
  [[ $(job_log) == *"the program failed before it reported run $(run_of 1) to W&B"* ]]
  recall unknown
  ended "$job" 60 FAILED 1:0
  [[ $(job_log) == *"sweep entity/project/none: W&B's agent got no run: "*'none not found'* ]]
  recall direct
  ended "$job" 60 FAILED 1:0
  [[ $(job_log) == *'its command does not start by sweep_trial: make the sweep by hpc/sweep.sh'* ]]
  no_agent
}

@test "in a container: the agent and the trial" {
  local folder image
  folder=$(bash "$checkout/tests/install_apptainer.sh")
  PATH=$folder:$PATH
  image=$(bash "$checkout/tests/make_image.sh")
  make_sweep container 'parameters: {lr: {value: 0.5}, batch: {value: 1}, steps: {value: 20}}'
  submit_sweep container 1 --exclude 'node[3-4]' --singularity-container "$image"
  has_begun 1
  : >"$run_directory/task_1/attempt_0/stop"
  ended "$job" 120 COMPLETED 0:0
  same "$(cat -- "$run_directory"/task_1/attempt_?/cause)" $'notice request\nfinished'
  same "$(runs '{state} {steps}')" "finished $(unbroken 20)"
  wait_until 10 no_agent
}

# asks_server   Each mistake in a sweep must give a message of one line; the server is that of url and key.
asks_server() {
  local left
  make_sweep fresh 'parameters: {lr: {values: [0.1, 0.2, 0.3]}, batch: {value: 1}}'
  left=$(client python hpc/sweep/sweep.py online "$sweep")
  same "$left" 3
  left=$(client python hpc/sweep/sweep.py online "$sweep" --runs 2)
  same "$left" 2
  fails_with 1 'has no such sweep' client python hpc/sweep/sweep.py online "${sweep%/*}/no-such-one"
  key=0${key%?} fails_with 1 '(not logged in|credentials)' client python hpc/sweep/sweep.py online "$sweep"
  client wandb sweep --cancel "$sweep"
  fails_with 1 "the sweep $sweep is cancel" client python hpc/sweep/sweep.py online "$sweep"
}

@test "before submission, each mistake in a sweep gives a message of one line" {
  asks_server
  recall lost
  wait_for_job "$job" 120
  fails_with 1 'has handed out all of its 1 runs' client python hpc/sweep/sweep.py online "$sweep"
  recall direct
  fails_with 1 "starts 'sh', which the kit cannot take over" client python hpc/sweep/sweep.py online "$sweep"
  make_sweep endless 'parameters: {lr: {min: 0.1, max: 0.2}}' 'method: random'
  fails_with 3 'has no end: give the number of runs' client python hpc/sweep/sweep.py online "$sweep"
  key='' HOME=$BATS_TEST_TMPDIR fails_with 1 'no W&B key' client python hpc/sweep/sweep.py online "$sweep"
  url=http://127.0.0.1:9 fails_with 1 'does not answer' client python hpc/sweep/sweep.py online "$sweep"
}

# Makes a sweep in your project `kit-test` and cancels it.
@test "the same with W&B's own server" {
  if [[ -z ${TEST_WANDB_API_KEY:-} ]]; then skip 'set TEST_WANDB_API_KEY to a key of your own'; fi
  key=$TEST_WANDB_API_KEY url=${TEST_WANDB_BASE_URL:-$(client python -c 'import wandb; print(wandb.Settings().base_url)')}
  WANDB_PROJECT=kit-test asks_server
}

@test "sweep.sh makes the sweep of the template and submits it" {
  local folder=$BATS_TEST_TMPDIR/project
  mkdir -- "$folder"
  cp -R -- "$checkout/hpc" "$checkout/venv" "$project/.env" "$project/.venv" "$folder/"
  echo 'printf "<%s>" "$@"' >"$folder/hpc/job_submitter.sh"
  run -0 --separate-stderr bash "$folder/hpc/sweep.sh" "$folder/hpc/sweeper.yml" --gpus 2 --note 'two words' 3>&- 4>&-
  [[ $output =~ ^'<--wandb-sweepid><'(entity/[a-z]+/sweep[0-9]+)'><--gpus><2><--note><two words>'$ ]]
  sweep=${BASH_REMATCH[1]}
  [[ $stderr == *"$sweep"* && $stderr != *"$key"* ]]
  same "$(client python hpc/sweep/sweep.py online "$sweep")" 12
  fails_with 2 'where the file should be' bash "$folder/hpc/sweep.sh" --gpus 2
  run -2 bash "$folder/hpc/sweep.sh" none.yml 3>&- 4>&-
  [[ $output == *'none.yml: No such file'* ]]
}

sync() {
  bash "$project/hpc/sync_wandb.sh" "$@" 3>&- 4>&-
}

# submit_points NAME [OPTION...]   Submits the points of NAME.yaml as the experiment NAME.
submit_points() {
  submit --sweep-config "$BATS_FILE_TMPDIR/$1.yaml" --offline --gpus 0 -c 1 --mem 2G -W srun --exp-name "$1" "${@:2}"
}

@test "offline points: run without the server, uploaded later, once, each as one history" {
  local before
  printf '%s\n' 'method: grid' 'program: programs/trial.py' \
    'parameters: {lr: {values: [0.1, 0.2]}, batch: {values: [16, 32]}, steps: {value: 40}, fail: {value: 3}}' >"$BATS_FILE_TMPDIR/offline.yaml"
  submit_points offline
  sweep=None
  has_begun 2
  : >"$run_directory/task_2/attempt_0/stop"
  # A recording that is still being written is not uploaded.
  wait_until 60 compgen -G "$SCRATCH/*/hpc_outputs/offline_*/task_3/wandb/offline-run-*/*.wandb" >/dev/null
  run -0 sync offline
  [[ $output == *'uploaded 0, before that 0, failed 0; still being written '[1-9]* ]] || { echo "$output" && return 1; }
  wait_for_job "$job" 120
  same "$(sort <<<"$job_states")" $'COMPLETED\nCOMPLETED\nCOMPLETED\nFAILED'
  same "$(cat -- "$run_directory/task_2"/attempt_?/cause)" $'notice request\nfinished'
  before=$(runs '{name}')
  WANDB_BASE_URL=http://127.0.0.1:9 run -1 sync offline
  [[ $output == *'http://127.0.0.1:9 does not answer'* ]]
  same "$(runs '{name}')" "$before"
  run -0 sync offline
  [[ $output == *'uploaded 5, before that 0, failed 0; still being written 0' ]]
  same "$(comm -13 <(echo "$before") <(runs '{name} {steps}'))" "$(
    {
      for task in 1 2 3; do echo "$(run_of "$task") $(unbroken 40)"; done
      echo "$(run_of 4) 0:1"
    } | sort
  )"
  before=$(runs '{name} {lines} {steps}')
  run -0 sync
  [[ $output == *'uploaded 0, before that 5, failed 0; still being written 0' ]]
  same "$(runs '{name} {lines} {steps}')" "$before"

  # --only-missing runs the failed point; a new point in the file does not change the others.
  sed -i 's/fail: {value: 3}/fail: {value: 0}/; s/lr: {values: \[0.1, 0.2\]}/lr: {values: [0.05, 0.1, 0.2]}/' "$BATS_FILE_TMPDIR/offline.yaml"
  run -2 --separate-stderr submitter --sweep-config "$BATS_FILE_TMPDIR/offline.yaml" --offline --gpus 0 -W srun --exp-name offline
  [[ $stderr == *'give --resume'* ]]
}

@test "--running: a recording is uploaded while it grows, and completely at the end" {
  local seen
  printf '%s\n' 'method: grid' 'program: programs/trial.py' \
    'parameters: {lr: {value: 7.5}, batch: {value: 1}, steps: {value: 250}, text: {value: much}, repeat: {value: 4000}}' >"$BATS_FILE_TMPDIR/growing.yaml"
  submit_points growing
  sweep=None
  wait_until 90 recorded 70000
  run -0 sync --running growing
  [[ $output == *'uploaded 1, before that 0, failed 0; still being written 0' ]]
  seen=$(runs '{name} {steps}' | sed -n "s/^$(run_of 1) //p")
  [[ $(unbroken 250) == "$seen "* ]]
  # A killed program leaves such a recording: it is uploaded once.
  cp -R -- "$run_directory" "$BATS_TEST_TMPDIR/killed"
  echo node_failed >"$BATS_TEST_TMPDIR/killed/task_1/attempt_0/cause"
  run -0 sync "$BATS_TEST_TMPDIR/killed"
  [[ $output == *'uploaded 1, before that 0, failed 0; still being written 0' ]]
  run -0 sync "$BATS_TEST_TMPDIR/killed"
  [[ $output == *'uploaded 0, before that 1, failed 0; still being written 0' ]]
  ended "$job" 90 COMPLETED 0:0
  run -0 sync growing
  [[ $output == *'uploaded 1, before that 0, failed 0; still being written 0' ]]
  seen=$(runs '{name} {steps}' | sed -n "s/^$(run_of 1) //p")
  same "$(tr ' ' '\n' <<<"$seen" | sort -nu)" "$(tr ' ' '\n' <<<"$(unbroken 250)" | sort -nu)"
}

# recorded BYTES   Succeeds if the only recording is larger than this.
recorded() {
  [[ -n $(find "$run_directory" -name '*.wandb' -size "+${1}c") ]]
}

# This is the last test, because it reads what all others have left.
@test "the key is in no file of a run, in no argument and in no log" {
  [[ ! -s $BATS_FILE_TMPDIR/seen ]]
  run -1 grep -rlF "$key" "$SCRATCH"
  run -1 grep -rlF "$key" "$POCKET_CLUSTER_DIR/log"
}
