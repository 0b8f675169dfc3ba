#!/usr/bin/env bats
# Running jobs on the real Slurm with several nodes.

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

# own_cluster OPTION...   Starts the test's own cluster, with options of pocket_cluster.sh up.
own_cluster() {
  # Use /tmp, because other users cannot enter the folders of bats.
  own_folder=$(mktemp -d /tmp/hpc_kit_test.XXXXXX)
  chmod 755 -- "$own_folder"
  export POCKET_CLUSTER_DIR=$own_folder/pocket
  bash "$checkout/hpc/pocket_cluster.sh" up "$@" 3>&- 4>&-
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
}

teardown() {
  if [[ -n ${follower:-} ]]; then kill -s KILL -- "-$follower" 2>/dev/null || true; fi
  if [[ -n ${job:-} ]]; then scancel --quiet "$job"; fi
  if [[ -n ${own_folder:-} ]]; then
    bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-
    rm -rf -- "$own_folder"
  fi
}

@test "the shipped experiment: four ranks on two nodes with addresses of their own" {
  cp -- "$checkout/experiment_configurations.txt" "$project/"
  prepare_digits "$SCRATCH/${project##*/}/datasets/digits"

  cd -- "$project/hpc"
  run --separate-stderr timeout "$(patience 150)" bash job_submitter.sh --gpus 2 --num-nodes 2 --follow 3>&- 4>&-
  printf '%s\n' "$stderr" >&2
  ((status == 0))
  [[ $output =~ ^[0-9]+$ ]]

  local rank
  for rank in 0 1 2 3; do
    [[ $stderr == *$'\n'"rank $rank of 4: node $((rank / 2)), node$((rank / 2 + 1)) ("* ]]
  done
  local -r address='^rank [0-9] of 4: node [0-9], [^ ]+ \(([0-9a-f.:]+)\),.*'
  same "$(sed -nE "s/$address/\1/p" <<<"$stderr" | sort -u | wc -l)" 2
  if grep -E "$address" <<<"$stderr" | grep -F '(127.'; then return 1; fi

  [[ $stderr == *'job '"$output"': completed'* ]]
  python3 - "$SCRATCH/${project##*/}"/hpc_outputs/*/task_1/output/result.json <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[1]))
assert result["validation_accuracy"] >= 0.95, result
assert result["world_size"] == 4, result
PYTHON

  # The attempt's records of times and usage, and the report that prints them.
  local -r attempt=$(echo "$SCRATCH/${project##*/}"/hpc_outputs/*/task_1/attempt_0)
  [[ $(cut -d ' ' -f 1 "$attempt/times") == $'began\nended' ]]
  local node
  for node in node1 node2; do
    awk -F '\t' '$3 + 0 > most { most = $3 } END { exit !(NR > 2 && $2 > 1 && $2 < 600 && most > 1e8 && most < 1e11) }' "$attempt/usage_$node.tsv"
  done
  run -0 bash "$project/hpc/experiments.sh" report "${attempt%/task_1/*}" --rate-per-hour 3600
  printf '%s\n' "$output" >&2
  # A GPU second costs 1, so the cost is four times the duration.
  [[ $output =~ finished\ +1\ +00:0([0-9]):([0-9]+)\ +0\.[0-9]+\ +([0-9]+)\.00$'\n' ]]
  ((BASH_REMATCH[3] == 4 * (60 * BASH_REMATCH[1] + 10#${BASH_REMATCH[2]})))
  [[ $output =~ validation_accuracy\ +1\ of\ 1\ +0\.9 && $output =~ 'memory of a node, highest'\ +20\.0\ GiB\ +[0-9.]+\ GiB ]]
  [[ $output =~ --mem-per-gpu\ +[0-9]+[GM]\ .*--time\ +00:05:00\  ]]
}

# failing HOW STATUS OPTION...   Runs a job whose rank 2 ends as HOW says; the others would run for ten minutes.
failing() {
  local -r how=$1 expected=$2
  use_programs "fail.py $how 2"
  SECONDS=0
  run --separate-stderr timeout "$(patience 60)" bash "$project/hpc/job_submitter.sh" --gpus 2 --num-nodes 2 --follow "${@:3}" 3>&- 4>&-
  printf '%s\n' "$stderr" >&2
  ((status == expected))
  ((SECONDS < $(patience 30)))
  same "$(job_field "$output" JobState) $(job_field "$output" ExitCode)" "FAILED $expected:0"
  [[ $stderr == *$'\n'"the first rank that failed: rank 2 on node2, exit status $expected"$'\n'* ]]
  same "$(cat -- "$SCRATCH/${project##*/}"/hpc_outputs/*/task_1/exit_status)" "$expected"
}

@test "a rank that exits with 3, under torchrun: the job fails with 3 in time and names the rank" {
  failing exit 3
}

@test "a rank that exits with 3, under srun: the same" {
  failing exit 3 -W srun
}

@test "a rank that is killed: 137" {
  failing kill 137 -W srun
}

@test "a rank that raises: 1, and its traceback is in the log" {
  failing raise 1 -W srun
  [[ $stderr == *'RuntimeError: raised on purpose'* ]]
}

@test "a command that is not there: 127" {
  experiments 'no-such-command --flag'
  run -127 --separate-stderr submitter -W srun --follow
  [[ $stderr == *'no-such-command'*'not found'* ]]
}

@test "two jobs at once on the same nodes use different ports" {
  use_programs "all_reduce.py ${BATS_TEST_TMPDIR@Q}/meeting 2"
  local low first second
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  submit --num-nodes 2 --nodelist 'node[1-2]'
  first=$job
  local -r first_run=$run_directory
  submit --num-nodes 2 --nodelist 'node[1-2]'
  second=$job
  ended "$second" 60 COMPLETED 0:0
  ended "$first" 60 COMPLETED 0:0
  local -a ports
  mapfile -t ports < <(sed -nE 's/^sum 3 at [0-9.]+ port ([0-9]+)$/\1/p' "$first_run/task_1/log.txt" "$run_directory/task_1/log.txt")
  ((${#ports[@]} == 2))
  ((ports[0] != ports[1]))
  ((ports[0] < low && ports[1] < low))
}

@test "nodes that are one machine: they meet at its loopback address" {
  own_cluster --nodes 2 --network loopback
  use_programs all_reduce.py
  submit --num-nodes 2
  ended "$job" 60 COMPLETED 0:0
  job_log | grep -E '^sum 3 at 127\.0\.0\.1 port [0-9]+$'
}

# expect_environment PROCESSES_PER_NODE TASKS_PER_NODE CPUS_PER_TASK   Checks the environment of the ranks on two nodes.
expect_environment() {
  local -r processes=$1 tasks=$2 cpus=$3
  local -r scratch_dir=$SCRATCH/${project##*/}
  local rank cores low port
  cores=$(($(nproc) / (2 * tasks))) # all nodes are this machine
  cores=$((cores < cpus ? cores : cpus))
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  for ((rank = 0; rank < 2 * processes; rank++)); do
    same "$(told "$rank" source_dir project_name scratch_dir exp_name RUN_DIRECTORY CHECKPOINT_DIRECTORY \
      CHECKPOINT_ARTIFACT_PATH LOSSY_ARTIFACT_PATH OUTPUT_PATH STOP_FILE HEARTBEAT_FILE ATTEMPT MASTER_ADDR NNODES NODE_RANK N_PROC RANK LOCAL_RANK \
      WORLD_SIZE LOCAL_WORLD_SIZE SLURM_CPUS_PER_TASK OMP_NUM_THREADS node cpus folder writable)" "\
source_dir=$run_directory/source
project_name=${project##*/}
scratch_dir=$scratch_dir
exp_name=$exp_name
RUN_DIRECTORY=$run_directory
CHECKPOINT_DIRECTORY=$scratch_dir/$exp_name/checkpoints
CHECKPOINT_ARTIFACT_PATH=$scratch_dir/$exp_name/checkpoints
LOSSY_ARTIFACT_PATH=$run_directory/task_1/output
OUTPUT_PATH=$run_directory/task_1/output
STOP_FILE=$run_directory/task_1/attempt_0/stop
HEARTBEAT_FILE=$run_directory/task_1/attempt_0/heartbeat
ATTEMPT=0
MASTER_ADDR=$(scontrol --oneliner show node node1 | sed -nE 's/.* NodeAddr=([^ ]+) .*/\1/p')
NNODES=2
NODE_RANK=$((rank / processes))
N_PROC=$processes
RANK=$rank
LOCAL_RANK=$((rank % processes))
WORLD_SIZE=$((2 * processes))
LOCAL_WORLD_SIZE=$processes
SLURM_CPUS_PER_TASK=$cpus
OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores * tasks > processes ? cores * tasks / processes : 1))}
node=\"node$((rank / processes + 1))\"
cpus=$(nproc --all)
folder=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1], ensure_ascii=False))' "$run_directory/source")
writable=[\"RUN_DIRECTORY\", \"CHECKPOINT_DIRECTORY\", \"OUTPUT_PATH\", \"SLURM_TMPDIR\", \"scratch_dir\", \"source_dir\"]"
    port=$(told "$rank" MASTER_PORT)
    ((${port#*=} >= 1024 && ${port#*=} < low))
    same "$port" "$(told 0 MASTER_PORT)"
  done
  same "$(local_folders "$job")" ''
}

@test "the environment of each rank, under srun" {
  use_programs report.py
  submit -W srun --gpus 2 --num-nodes 2 --cpus 6 --nodelist 'node[1-2]'
  ended "$job" 30 COMPLETED 0:0
  local -r exp_name=${run_directory##*/}
  expect_environment 2 2 3
}

@test "the environment of each rank, under torchrun, with a name for the experiment" {
  use_programs report.py
  local -r exp_name='two words'
  submit --gpus 2 --num-nodes 2 --cpus 6 --nodelist 'node[1-2]' --exp-name "$exp_name"
  ended "$job" 60 COMPLETED 0:0
  expect_environment 2 1 6
  # torchrun's files on a node are removed with the job's folder.
  local -r temporary=$(told 3 SLURM_TMPDIR)
  [[ $(told 3 TORCHELASTIC_ERROR_FILE) == "TORCHELASTIC_ERROR_FILE=${temporary#*=}/"* ]]
}

@test "where Slurm makes no folder on the nodes' disks, the job makes it and removes it, also when it fails" {
  own_cluster --nodes 2 --tmpdir none
  use_programs report.py
  local -r exp_name=named
  OMP_NUM_THREADS=5 submit -W srun --gpus 1 --num-nodes 2 --exp-name named
  ended "$job" 30 COMPLETED 0:0
  OMP_NUM_THREADS=5 expect_environment 1 1 2
  same "$(told 1 SLURM_TMPDIR)" "SLURM_TMPDIR=$POCKET_CLUSTER_DIR/localscratch/$(id -un)_${job}_0"

  use_programs 'fail.py exit 1 told'
  submit -W srun --num-nodes 2
  wait_until 20 local_folders_are 2
  : >"$run_directory/task_1/output/go"
  ended "$job" 30 FAILED 3:0
  same "$(local_folders "$job")" ''

  # A cancelled job must be able to clean its own node. The kit takes shares of KillWait; those of the cluster's 10 s are too short on a busy machine.
  sed -i 's/^KillWait=.*/KillWait=60/' "$POCKET_CLUSTER_DIR/etc/slurm.conf"
  scontrol reconfigure
  use_programs stay.py
  submit -W srun
  wait_until 20 local_folders_are 1
  scancel "$job"
  wait_for_job "$job" 60
  wait_until 20 local_folders_are 0
}

local_folders_are() {
  (($(local_folders "$job" | wc -l) == $1))
}

@test "an ordinary user submits a job to a cluster that root started" {
  ((EUID == 0)) || skip 'only root can be somebody else'
  local -r user=nobody
  own_cluster --nodes 2 --tmpdir none
  # This user may not be able to read the checkout, its environment and the Python of that environment.
  local python
  for python in "$(command -v python3)" /usr/bin/python3; do
    if runuser -u "$user" -- "$python" -c '' 2>/dev/null; then break; fi
  done
  "$python" -m venv --without-pip "$own_folder/environment"
  mkdir -p -- "$own_folder"/{home,config/hpc_kit/clusters}
  export XDG_CONFIG_HOME=$own_folder/config
  cat >"$XDG_CONFIG_HOME/hpc_kit/clusters/pocket.sh" <<PROFILE
site[environment]=${own_folder@Q}/environment
site[node_local_directory]=\$POCKET_CLUSTER_DIR/localscratch
PROFILE
  make_project_in "$own_folder"
  rm -- "$project/.venv"
  use_programs report.py
  chown -R -- "$user": "$own_folder/home" "$project"

  run --separate-stderr runuser -u "$user" -- env -u SCRATCH HOME="$own_folder/home" bash -c '
    source <(bash "$1/hpc/pocket_cluster.sh" env)
    cd -- "$1"
    exec bash hpc/job_submitter.sh -W srun --gpus 2 --num-nodes 2 --follow' - "$project" 3>&- 4>&-
  printf '%s\n' "$stderr" >&2
  ((status == 0))
  [[ $(job_field "$output" UserId) == "$user("* ]]
  run_directory=$(echo "$POCKET_CLUSTER_DIR/scratch/$user/${project##*/}"/hpc_outputs/*/)
  same "$(told 3 node USER WORLD_SIZE)" $'node="node2"\nUSER='"$user"$'\nWORLD_SIZE=4'
  same "$(stat -c %U -- "$run_directory/task_1/output/rank_3.json")" "$user"
  same "$(local_folders "$output")" ''
}

@test "a path with a newline, quotes, a backslash and a per cent sign; arguments arrive unchanged" {
  make_project_in "$BATS_TEST_TMPDIR/a"$'\n''b \n %j'
  mv -- "$project" "$project"$'\n'"c"
  project+=$'\n'c
  use_programs "report.py 'a  b' \"it's\" '' '\$HOME' '\$(touch canary)' '*' -- 'two
lines' \"\${exp_name}\" ü \\\\ %j --x='1 2'"
  submit -W srun --gpus 2 --exp-name 'of its own'
  ended "$job" 30 COMPLETED 0:0
  same "$(told 1 arguments)" 'arguments=["a  b", "it'\''s", "", "$HOME", "$(touch canary)", "*", "--", "two\nlines", "of its own", "ü", "\\", "%j", "--x=1 2"]'
  job_log | grep '^rank 1 of 2: '
  local -a canaries
  mapfile -t canaries < <(find "$BATS_TEST_TMPDIR" -name canary)
  ((${#canaries[@]} == 0))
}

@test "three lines are an array whose tasks run one after the other, each with its own folders and status" {
  use_programs 'report.py first' 'fail.py exit 0' 'report.py third'
  run --separate-stderr submitter -W srun --max-parallel 1 --exp-name several --follow
  printf '%s\n' "$stderr" >&2
  ((status == 3))
  [[ $output =~ ^[0-9]+$ ]]
  job=$output
  run_directory=$(echo "$SCRATCH/${project##*/}"/hpc_outputs/several_*/)
  run_directory=${run_directory%/}

  local -a states statuses starts ends
  mapfile -t states < <(job_field "${job}_1" JobState && job_field "${job}_2" JobState && job_field "${job}_3" JobState)
  same "${states[*]}" 'COMPLETED FAILED COMPLETED'
  mapfile -t statuses < <(cat -- "$run_directory"/task_{1,2,3}/exit_status)
  same "${statuses[*]}" '0 3 0'

  local number
  for number in 1 3; do
    same "$(told "$number:0" OUTPUT_PATH CHECKPOINT_DIRECTORY writable)" "\
OUTPUT_PATH=$run_directory/task_$number/output
CHECKPOINT_DIRECTORY=$SCRATCH/${project##*/}/several/checkpoints/task_$number
writable=[\"RUN_DIRECTORY\", \"CHECKPOINT_DIRECTORY\", \"OUTPUT_PATH\", \"SLURM_TMPDIR\", \"scratch_dir\", \"source_dir\"]"
  done
  same "$(told 3:0 arguments)" 'arguments=["third"]'
  # --follow printed the logs of all tasks.
  (($(grep -c '^rank 0 of 1: ' <<<"$stderr") == 3))
  # Two tasks never ran at the same time.
  mapfile -t starts < <(for number in 2 3; do date +%s -d "$(job_field "${job}_$number" StartTime)"; done)
  mapfile -t ends < <(for number in 1 2; do date +%s -d "$(job_field "${job}_$number" EndTime)"; done)
  ((starts[0] >= ends[0] && starts[1] >= ends[1]))
}

# followed_job   Starts stay.py on two nodes, with a follower in its own process group, and waits for it.
followed_job() {
  use_programs stay.py
  setsid env --default-signal=INT bash "$project/hpc/job_submitter.sh" -W srun --gpus 2 --num-nodes 2 --follow \
    >"$BATS_TEST_TMPDIR/job" 2>"$BATS_TEST_TMPDIR/followed" 3>&- 4>&- &
  follower=$!
  wait_until 30 all_are_here
  job=$(<"$BATS_TEST_TMPDIR/job")
  run_directory=$(echo "$SCRATCH/${project##*/}"/hpc_outputs/*/)
  run_directory=${run_directory%/}
}

all_are_here() {
  (($(find "$SCRATCH" -path '*/task_1/output/here.*' | wc -l) == 4))
}

# Prints the processes that name the run directory: ranks, shells, the batch script, a reader of the log.
processes() {
  grep -lsaF -f <(printf '%s\n' "$run_directory") /proc/[0-9]*/{environ,cmdline} || true
}

no_processes() {
  [[ -z $(processes) ]]
}

# A user presses Ctrl-C again, too: bash may lose the signal while it starts a process.
interrupted() {
  kill -s INT -- "-$follower" 2>/dev/null || true
  ! kill -0 "$follower" 2>/dev/null
}

@test "Ctrl-C ends --follow, not the job" {
  followed_job
  wait_until 30 grep -qF 'running' "$BATS_TEST_TMPDIR/followed"
  wait_until 10 interrupted
  local status=0
  wait "$follower" || status=$?
  same "$status" 130
  grep -F "job $job goes on" "$BATS_TEST_TMPDIR/followed"
  sleep 1
  same "$(job_field "$job" JobState)" RUNNING
  [[ -n $(processes) ]]
}

@test "scancel: the follower reports it, and within KillWait no process and no folder is left" {
  followed_job
  (($(local_folders "$job" | wc -l) == 2))
  (($(processes | wc -l) >= 8))
  local status=0
  SECONDS=0
  scancel "$job"
  wait "$follower" || status=$?
  ((status > 0))
  cat -- "$BATS_TEST_TMPDIR/followed" >&2
  grep -iE "^job $job ended: cancelled" "$BATS_TEST_TMPDIR/followed"
  wait_until 15 no_processes # KillWait is 10 s
  ((SECONDS <= $(patience 16)))
  wait_until 5 local_folders_are 0
}
