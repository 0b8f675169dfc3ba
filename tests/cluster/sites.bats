#!/usr/bin/env bats
# The kit's jobs on each shape of the pocket cluster, with only that shape's profile (hpc/clusters/SHAPE.sh): a main job with ranks on two
# nodes that is interrupted and restarted; a sweep of three points, one of which fails, and the answer of why; a request that the site
# forbids, and the message for it. shapes.bats tests the shapes themselves. With SITES_DIGITS=1 in the environment the README's first job
# also trains on each shape; otherwise only on foreign-launcher.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup() {
  POCKET_CLUSTER_DIR=$(mktemp -d "$BATS_TMPDIR/site.XXXXXX")
  export POCKET_CLUSTER_DIR
  chmod 755 -- "$POCKET_CLUSTER_DIR"
}

teardown() {
  bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-
  rm -rf -- "$POCKET_CLUSTER_DIR"
}

# site SHAPE   Makes a project on that site, in the cluster's own scratch, because lownoise's nodes see nothing else of /tmp.
site() {
  ((EUID == 0)) || skip 'only root can give nodes a network and homes of their own'
  bash "$checkout/hpc/pocket_cluster.sh" up --shape "$1" 3>&- 4>&-
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
  make_project_in "$SCRATCH/projects"
  use_programs 'steps.py 60 --wait 50'
  environment=$SCRATCH/environment
  mkdir -p -- "$environment/bin"
  # Do not take a command of the shape, whose folder is first in PATH.
  ln -s -- "$(python3 -c 'import sys; print(sys.executable)')" "$environment/bin/python"
  printf '%s\n' 'method: grid' 'program: programs/point.py' 'parameters: {a: {values: [1, 2, 3]}, b: {values: [2]}}' >"$project/sweep.yml"
}

# send OPTION...   Submits a job without torch.
send() {
  submit -W srun --environment "$environment" "$@"
}

# main_job RANKS OPTION...   Submits it and interrupts it: by a request to stop, or as INTERRUPT says.
main_job() {
  local -r ranks=$1
  local rank
  send "${@:2}"
  for ((rank = 0; rank < ranks; rank++)); do
    wait_until 60 began_or_ended "$rank"
    [[ -s $run_directory/task_1/output/rank_$rank ]] || { job_log >&2 && return 1; }
  done
  ${INTERRUPT:-ask_to_stop}
}

began_or_ended() {
  [[ -s $run_directory/task_1/output/rank_$1 ]] || job_has_ended "$job"
}

ask_to_stop() {
  : >"$run_directory/task_1/attempt_0/stop"
}

# main_job_went_on RANKS   Each rank must have done each step once, in two attempts.
main_job_went_on() {
  local rank
  wait_for_job "$job" 90
  [[ $job_states == COMPLETED ]] || { job_log >&2 && return 1; }
  for ((rank = 0; rank < $1; rank++)); do
    same "$(cut -d ' ' -f 1 "$run_directory/task_1/output/rank_$rank" | sort -nu)" "$(seq 60)"
    same "$(cut -d ' ' -f 2 "$run_directory/task_1/output/rank_$rank" | sort -u)" $'0\n1'
  done
}

# three_points OPTION...   Submits the sweep.
three_points() {
  send --exp-name points --sweep-config "$project/sweep.yml" --offline "$@"
  wait_for_job "$job" 90
  same "$(cat -- "$run_directory"/task_*/state | sort | uniq -c | xargs)" '2 completed 1 failed' || { head -n 50 "$run_directory"/task_*/log.txt >&2 && return 1; }
  run -0 bash "$project/hpc/experiments.sh" why "$run_directory"
  [[ $output == *'ended with status 4'* ]] || { printf '%s\n' "$output" >&2 && return 1; }
}

# all_of RANKS SWEEP_OPTIONS OPTION...   Runs the main job and the sweep at the same time.
all_of() {
  local main_id main_directory
  local -a of_sweep
  read -ra of_sweep <<<"$2"
  main_job "$1" "${@:3}"
  main_id=$job main_directory=$run_directory
  three_points "${of_sweep[@]}"
  job=$main_id run_directory=$main_directory
  main_job_went_on "$1"
  if [[ -n ${SITES_DIGITS:-} ]]; then digits_job "${@:3}"; fi
}

# digits_job OPTION...   Runs the README's first job with torchrun and torch.
digits_job() {
  local -r digits=$SCRATCH/${project##*/}/datasets/digits
  shorter_digits
  if [[ ! -d $digits ]]; then prepare_digits "$digits"; fi
  submit "$@" --exp-name digits
  wait_for_job "$job" 180
  [[ $job_states == COMPLETED ]] || { job_log >&2 && return 1; }
}

# forbidden WORDS OPTION...   The request must be refused with these words, which name the site's rule.
forbidden() {
  run --separate-stderr submitter -W srun --environment "$environment" "${@:2}"
  [[ $status != 0 && -z $output && $stderr == *"$1"* ]] || { printf 'status %s: %s\n' "$status" "$stderr" >&2 && return 1; }
}

@test "routed: a type, a time and an account, and no partition" {
  site routed
  forbidden 'a plugin chooses the partition' --gpus 1 --time 60 --partition gpubase_bygpu_b1
  (unset SBATCH_ACCOUNT && forbidden account --gpus 1 --time 60)
  all_of 4 '--gpus 1 --time 60' --gpus 2 --num-nodes 2 --time 60
}

@test "readonly-home: one GPU or four" {
  site readonly-home
  forbidden 'several nodes have four each' --gpus 2
  all_of 8 '--gpus 1' --gpus 4 --num-nodes 2
}

@test "all-or-nothing: all GPUs of each node" {
  site all-or-nothing
  export SBATCH_ACCOUNT=aip-me
  forbidden 'takes all GPUs of each node' --gpus 2
  all_of 8 '--gpus 4' --gpus 4 --num-nodes 2
}

@test "no-gres: the partition is the GPU, and sbatch prints a banner" {
  site no-gres
  forbidden 'all the memory of their nodes' --mem 4G
  main_job 2 --num-nodes 2
  main_job_went_on 2
  three_points
  if [[ -n ${SITES_DIGITS:-} ]]; then digits_job --num-nodes 2; fi
}

@test "constraint-qos: a constraint, an account, a QOS" {
  site constraint-qos
  forbidden account --gpus 1
  export SBATCH_ACCOUNT=m1_g
  all_of 4 '--gpus 1 --time 20' --gpus 2 --num-nodes 2 --qos regular
}

@test "lownoise: 56 cores, time by nodes, a disk by constraint" {
  site lownoise
  export SBATCH_ACCOUNT=abc123
  forbidden '2:00:00' --gpus 2 --num-nodes 2 --time 3:00:00
  forbidden 56 --gpus 2 --cpus 64
  all_of 4 '--gpus 1' --gpus 2 --num-nodes 2
}

@test "account-at: the kind of GPU by account and constraint, no memory" {
  site account-at
  export SBATCH_ACCOUNT=abc@v100
  forbidden 'memory comes with the CPUs' --gpus 1 --mem 4G
  all_of 4 '--gpus 1' --gpus 2 --num-nodes 2
}

@test "foreign-launcher: its own srun; torchrun finds the head by its name with an i" {
  site foreign-launcher
  export SBATCH_ACCOUNT=budget
  forbidden 'knows no types of GPU' --gpus 1 --gpu-type a100
  all_of 4 '--gpus 1' --gpus 2 --num-nodes 2
  if [[ -z ${SITES_DIGITS:-} ]]; then digits_job --gpus 2 --num-nodes 2; fi # all_of has submitted it
}

@test "quanta-and-disk: shares of a node, a disk by gres" {
  site quanta-and-disk
  forbidden 'quarters of a node' --gpus 1 --mem-per-gpu 20G
  # By default a job has the name of the project, which this site forbids.
  forbidden 'use letters, digits and . _ / -' --gpus 1
  all_of 4 '--gpus 1' --gpus 2 --num-nodes 2 --exp-name main
}

preempt() {
  sbatch --partition unkillable --nodelist=cn-a001 --gres=gpu:4 --output=/dev/null --wrap 'sleep 1' >&2
}

@test "preempt-now: preempted without notice, and restarted" {
  site preempt-now
  forbidden '5-00:00:00' --gpus 1 --time 6-00:00:00
  INTERRUPT=preempt all_of 4 '--gpus 1 --gpu-type a100l' --gpus 2 --num-nodes 2 --gpu-type 48gb
}

@test "condo: a partition that is not the default one; nodes without python3" {
  site condo
  forbidden '2-00:00:00' --gpus 1 --time 3-00:00:00
  all_of 4 '--gpus 1 --gpu-type a100' --gpus 2 --num-nodes 2 --gpu-type v100
}

@test "cloud-elastic: nodes that start on demand" {
  site cloud-elastic
  forbidden '16' --gpus 1 --cpus 64
  all_of 4 '--gpus 1' --gpus 2 --num-nodes 2
}
