# shellcheck shell=bash
# The table `recovery` of run.sh, which sources this file. A training on 2 nodes with 2 ranks each (interruptions_steps.py) is interrupted
# by a stop file, and by the unannounced end of a node.

declare -g here checkout base work project results rounds # run.sh's

bench::recovery() {
  local round
  if [[ -n $base ]]; then
    bench::recovery_beside
    return
  fi
  cp -- "$here/interruptions_steps.py" "$project/steps.py"
  echo 'python -m steps' >"$project/experiment_configurations.txt"
  for ((round = 0; round < ${rounds:-5}; round++)); do
    bench::recover noticed
    bench::recover died
  done
  python3 "$here/interruptions_table.py" "$results"
}

# bench::recover noticed|died   Adds to the results: the kind; the seconds of the notice, of the end of the attempt and of the start of the
# next; its last step; the next one's first step, and the seconds of that step.
bench::recover() {
  local job run steps noticed
  local -i last
  job=$(bash "$project/hpc/job_submitter.sh" --num-nodes 2 --gpus 2 --time 10 --mem-per-gpu 2G 2>"$work/error") ||
    bench::die_of job_submitter.sh
  run=$(dirname -- "$(grep -lx "$job" "$SCRATCH/${project##*/}"/hpc_outputs/*/job_id)")/task_1
  steps=$run/output/steps
  last=$((120 + RANDOM % 100)) # somewhere between two checkpoints
  until [[ -s $steps && $(wc -l <"$steps") -ge $last ]]; do sleep 0.02; done
  noticed=$EPOCHREALTIME
  if [[ $1 == noticed ]]; then
    : >"$run/attempt_0/stop"
  else
    kill -KILL "$(cut -d ' ' -f 1 "$POCKET_CLUSTER_DIR/pids/node2")"
    bash "$checkout/hpc/pocket_cluster.sh" up 2>"$work/error" # informs the controller
  fi
  until [[ $(scontrol --oneliner show job "$job") =~ JobState=(COMPLETED|FAILED|CANCELLED|TIMEOUT) ]]; do sleep 0.3; done
  [[ ${BASH_REMATCH[1]} == COMPLETED && -s $run/attempt_1/cause ]] || {
    cat -- "$run/log.txt" >&2
    common::die "job $job was not interrupted once, or did not end well"
  }
  printf '%s %s %s %s %s %s\n' "$1" "$noticed" "$(stat --format=%.6Y "$run/attempt_0/cause")" \
    "$(stat --format=%.6Y "$run/attempt_1/nodes")" "$(awk '$2 == 0 { last = $3 } END { print last }' "$steps")" \
    "$(awk '$2 == 1 { print $3, $1; exit }' "$steps")" >>"$results"
}
