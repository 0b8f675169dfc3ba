# shellcheck shell=bash
# The table `recovery` of run.sh with --base: how the kit and another build of it restart a training on the digits of train/ after a stop
# file, one after the other.

declare -g here checkout base other work project results rounds # run.sh's

bench::recovery_beside() {
  local -r theirs=$work/base
  local round launcher
  mkdir -- "$theirs"
  cp -R -- "$base"/{hpc,venv,train} "$theirs/"
  # The environment has another name in another build (against.bash).
  if [[ $base == "$other" ]]; then cp -R -- "$base/.venv" "$theirs/"; else ln -s -- "$checkout/.venv" "$theirs/.venv"; fi
  # shellcheck source=../cluster/reports.bash
  source "$checkout/tests/cluster/reports.bash"
  prepare_digits "$SCRATCH/project/datasets/digits" || common::die "no scikit-learn: run  bash tests/run.sh  once"
  mkdir -p -- "$SCRATCH/base" && ln -s -- "$SCRATCH/project/datasets" "$SCRATCH/base/datasets"
  for round in "$project" "$theirs"; do
    cp -- "$here/first_step.py" "$round/first_step.py"
    echo 'python -m first_step' >"$round/experiment_configurations.txt"
  done
  for ((round = 0; round < ${rounds:-5}; round++)); do
    for launcher in torchrun srun; do # by turns who is first
      if ((round % 2 == 1)); then bench::restart "kit_$launcher" "$project" "$launcher"; fi
      bench::restart "base_$launcher" "$theirs" "$launcher"
      if ((round % 2 == 0)); then bench::restart "kit_$launcher" "$project" "$launcher"; fi
    done
  done
  for launcher in torchrun srun; do
    python3 "$here/table.py" "recovery, $launcher: seconds from the second start to its first step" 1 "base_$launcher" <(grep "_$launcher " "$results") \
      "kit_$launcher=the kit" "base_$launcher=$(git -C "$base" rev-parse --short HEAD 2>/dev/null || echo "the build at ${base##*/}")"
  done
}

# bench::restart NAME PROJECT LAUNCHER   Measures from the moment at which the controller gives the job its nodes for the second time.
bench::restart() {
  local job run began first
  job=$(bash "$2/hpc/job_submitter.sh" --num-nodes 1 --gpus 2 -W "$3" --time 10 --mem-per-gpu 2G 2>"$work/error") ||
    bench::die_of job_submitter.sh
  run=$(dirname -- "$(grep -lx "$job" "$SCRATCH/${2##*/}"/hpc_outputs/*/job_id)")/task_1
  until [[ -s $run/output/steps ]]; do sleep 0.1; done
  : >"$run/attempt_0/stop"
  until [[ $(scontrol --oneliner show job "$job") =~ JobState=(COMPLETED|FAILED|CANCELLED|TIMEOUT) ]]; do sleep 0.3; done
  first=$(awk '$2 == 1 { print $1 }' "$run/output/steps")
  began=$(sed -nE "s/^\[([^]]*)\].* (Allocate|Started) JobId=$job .*/\1/p" "$POCKET_CLUSTER_DIR/log/slurmctld.log" | tail -n 1)
  [[ ${BASH_REMATCH[1]} == COMPLETED && -n $first ]] || {
    cat -- "$run/log.txt" >&2
    common::die "job $job was not interrupted once, or did not end well"
  }
  # The parts of that time: until the start of the batch script, of node.sh (its sampler makes the file), and until the first step.
  awk -v name="$1" -v began="$(date -d "$began" +%s.%3N)" -v batch="$(stat --format=%.3Y "$run/attempt_1/nodes")" \
    -v node="$(stat --format=%.3W "$run/attempt_1"/usage_*.tsv)" -v first="$first" -v results="$results" 'BEGIN {
      printf "%s %.3f\n", name, first - began >>results
      printf "%s: batch.sh %.2f s, node.sh %.2f s, the first step %.2f s after the start\n", name, batch - began, node - began, first - began
    }' >&2
}
