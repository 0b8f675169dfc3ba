# shellcheck shell=bash disable=SC2154 # project and SCRATCH are the tests'
# Run directories of the experiment `seeds`, as batch.sh leaves them. Source ../helpers.bash first.

# run_directories   Call it in setup, after make_project. Slurm answers only if the file $QUEUE exists.
run_directories() {
  mkdir -- "$BATS_TEST_TMPDIR/slurm"
  export QUEUE=$BATS_TEST_TMPDIR/slurm/queue
  printf '#!/bin/sh\ncat -- "$QUEUE"\n' >"$BATS_TEST_TMPDIR/slurm/squeue"
  chmod +x -- "$BATS_TEST_TMPDIR/slurm/squeue"
  PATH=$BATS_TEST_TMPDIR/slurm:$PATH
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  folder=$SCRATCH/${project##*/}
  mkdir -p -- "$folder/seeds"
}

# task RUN NUMBER ID TEXT STATE [RESULT]
task() {
  local -r directory=$folder/hpc_outputs/$1
  if [[ ! -d $directory ]]; then echo "$1" >>"$folder/seeds/runs"; fi
  mkdir -p -- "$directory/task_$2/output"
  printf '%s\t%s\t%s\n' "$2" "$3" "$4" >>"$directory/tasks"
  echo "$5" >"$directory/task_$2/state"
  if [[ -n ${6:-} ]]; then printf '%s\n' "$6" >"$directory/task_$2/output/result.json"; fi
}

# request RUN JOB GPU_TYPE NAME=VALUE...   Records the request: 2 nodes of 2 GPUs, 8 cores, 20 GiB and an hour, or other facts.
request() {
  local -r directory=$folder/hpc_outputs/$1
  local name
  local -A fact=([exp_name]=seeds [nodes]=2 [gpus]=2 [processes_per_node]=2 [cpus]=8 [mem_megabytes]=20480 [time]=01:00:00)
  for name in "${@:4}"; do fact[${name%%=*}]=${name#*=}; done
  for name in "${!fact[@]}"; do printf 'fact[%s]=%s\n' "$name" "${fact[$name]@Q}"; done >"$directory/facts"
  echo "$2" >"$directory/job_id"
  printf '%s\0' sbatch --parsable "--gpus-per-node=$3:${fact[gpus]}" --partition=main --time=60 batch.sh >"$directory/sbatch_argv"
}

# attempt RUN TASK NUMBER CAUSE BEGAN ENDED   Makes an attempt; an empty CAUSE or ENDED is not recorded.
attempt() {
  local -r directory=$folder/hpc_outputs/$1/task_$2/attempt_$3
  mkdir -- "$directory"
  printf 'began %s\n' "$5" >"$directory/times"
  if [[ -n $6 ]]; then printf 'ended %s\n' "$6" >>"$directory/times"; fi
  if [[ -n $4 ]]; then printf '%s\n' "$4" >"$directory/cause"; fi
}

# usage RUN TASK ATTEMPT NODE LINE...   Writes samples. A line has time, CPU seconds, bytes, GPU use and GPU memory; - for none.
usage() {
  local -r file=$folder/hpc_outputs/$1/task_$2/attempt_$3/usage_$4.tsv
  local line
  printf 'time\tcpu_seconds\tmemory_bytes\tgpu_percent\tgpu_memory_mib\n' >"$file"
  for line in "${@:5}"; do
    line=${line// /$'\t'}
    printf '%s\n' "${line//-/}" >>"$file"
  done
}

# drawing_path   Puts a python3 with matplotlib first in PATH: the one of tests/run.sh.
drawing_path() {
  local python
  for python in "$checkout"/.venv/tests-*/bin/python3; do
    if "$python" -c 'import matplotlib' 2>/dev/null; then
      PATH=${python%/*}:$PATH
      return
    fi
  done
  python3 -c 'import matplotlib'
}
