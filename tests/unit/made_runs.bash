# shellcheck shell=bash disable=SC2034,SC2154 # the tests read these; ../helpers sets `project`
# Makes run directories as jobs leave them, for the tests of experiments.sh:  source ../helpers.bash first
# The stubs of Slurm print the files queue, job (scontrol) and account (sacct) of $STUB. Without the file queue, Slurm does not answer.
# $STUB/calls has a line for each squeue, $STUB/cancelled the arguments of scancel.

made_runs_setup() {
  local name
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch STUB=$BATS_TEST_TMPDIR/slurm
  outputs=$SCRATCH/${project##*/}/hpc_outputs
  made=0
  mkdir -p -- "$outputs" "$STUB"
  : >"$STUB/queue"
  cat >"$STUB/squeue" <<'STUB'
#!/bin/sh
echo "$*" >>"$STUB/calls"
cat -- "$STUB/queue" 2>/dev/null || { echo 'slurm_load_jobs error: no controller' >&2; exit 1; }
STUB
  {
    printf '#!/bin/sh\ncat -- "$STUB/job" 2>/dev/null\n' >"$STUB/scontrol"
    printf '#!/bin/sh\ncat -- "$STUB/account" 2>/dev/null\n' >"$STUB/sacct"
    printf '#!/bin/sh\necho "$*" >>"$STUB/cancelled"\n' >"$STUB/scancel"
  }
  for name in squeue scontrol sacct scancel; do chmod +x -- "$STUB/$name"; done
  PATH=$STUB:$PATH
}

# made_run NAME JOB TASKS [FACT=VALUE...]   Makes a run that is newer than all before; sets run.
made_run() {
  local -r name=$1 job=$2 tasks=$3
  local word value
  local -i task
  made=$((made + 1))
  run=$outputs/${name}_20260101-$(printf '%06d' "$made")_1
  mkdir -p -- "$run"
  printf '%s\n' "$job" >"$run/job_id"
  for word in exp_name="$name" job_name="$name" run_id="${run##*/}" run_directory="$run" tasks="$tasks" nodes=2 gpus=1 \
    mem_megabytes=4096 time=0-01:00:00 launcher=srun hang_seconds=1800 max_restarts=50 scratch_dir="${outputs%/*}" \
    source_dir="$run/source" checkpoint_directory="${outputs%/*}/$name/checkpoints" sweep= "${@:4}"; do
    value=${word#*=}
    printf 'fact[%s]=%s\n' "${word%%=*}" "${value@Q}"
  done >"$run/facts"
  printf '%s\0' sbatch --parsable >"$run/sbatch_argv"
  if ((tasks > 1)); then printf '%s\0' "--array=1-$tasks%2" >>"$run/sbatch_argv"; fi
  for ((task = 1; task <= tasks; task++)); do
    printf '%s\ttask_%s\tcommand %s\n' "$task" "$task" "$task" >>"$run/tasks"
    state "$task" enqueued
  done
  touch --date='2026-01-01' -- "$run"
}

# state TASK STATE   Sets it long ago, so that the queue is newer.
state() {
  mkdir -p -- "$run/task_$1/output"
  echo "$2" >"$run/task_$1/state"
  touch --date='2026-01-01 12:00' -- "$run/task_$1/state"
}

# attempt TASK NUMBER CAUSE [LINE...]   Makes an attempt of ten minutes with LINEs as its part of the log. An empty CAUSE means that none
# was recorded.
attempt() {
  local -r folder=$run/task_$1
  local -r attempt=$folder/attempt_$2
  mkdir -p -- "$attempt"
  echo 'node[1-2]' >"$attempt/nodes"
  touch --date="2026-01-01 13:${2}0" -- "$attempt/nodes"
  if [[ -n $3 ]]; then
    echo "$3" >"$attempt/cause"
    touch --date="2026-01-01 13:$(($2 + 1))0" -- "$attempt/cause"
  fi
  printf '%s\n' "== job $(head -n 1 "$run/job_id"), attempt $2, on node[1-2], now" "${@:4}" >>"$folder/log.txt"
  touch --date="2026-01-01 13:$(($2 + 1))0" -- "$folder/log.txt"
}

# failed_rank TASK ATTEMPT RANK NODE STATUS [LINE...]   Records the first rank that failed, and its output.
failed_rank() {
  echo "$3 $4 $5" >"$run/task_$1/attempt_$2/failed_rank"
  printf '%s\n' "== attempt $2" "rank $3 of 4: node 1, $4 (10.0.0.2), local rank 0, 2 CPUs, GPUs 0" "${@:6}" >>"$run/task_$1/rank_$3.txt"
}

# queued ARRAY_OR_JOB INDEX STATE REASON [PREFIX]   Adds a line of squeue for the last run. INDEX: N/A or a number; PREFIX: a prefix of the
# job's name, such as cycle_.
queued() {
  local -r name=${run##*/}
  printf '%s|%s|%s|%s|%s|%s|%s|%s\n' "$1" "$2" "$3" "$4" 59:00 2026-01-02T00:00:00 "${5:-}${name%_*_*}" "$run" >>"$STUB/queue"
}

command_of() {
  bash "$project/hpc/experiments.sh" "$@" 3>&- 4>&-
}
