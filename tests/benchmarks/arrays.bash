# shellcheck shell=bash
# The table `arrays` of run.sh, which sources this file. It submits 1,000 tasks with MaxArraySize 100: as repeats, as the points of a sweep,
# and once more with --only-missing after they were cancelled. The peer is eleven plain sbatch calls for arrays.

declare -g here checkout work other project results rounds # run.sh's

bench::arrays() {
  local -r kit=(bash "$project/hpc/job_submitter.sh" --gpus 0 -W srun --begin now+1hour)
  local round
  bench::limit_arrays
  for round in "$project" ${other:+"$other"}; do echo 'python -m train {seed}' >"$round/experiment_configurations.txt"; done
  printf 'method: grid\nprogram: train.py\nparameters: {a: {min: 1, max: 100}, b: {min: 1, max: 10}}\n' >"$work/sweep.yml"
  for ((round = 0; round < ${rounds:-10}; round++)); do
    bench::time sbatch bench::send_bare_arrays
    bench::time repeats "${kit[@]}" --repeat 1000 --exp-name "repeats_$round"
    scancel --user="$(id -un)"
    bench::time missing "${kit[@]}" --repeat 1000 --exp-name "repeats_$round" --only-missing
    bench::time points "${kit[@]}" --sweep-config "$work/sweep.yml" --offline
    scancel --user="$(id -un)"
  done
  python3 "$here/table.py" '1,000 tasks (milliseconds)' 1000 sbatch "$results" \
    'sbatch=11 x bare sbatch of an array' \
    'repeats=job_submitter.sh --repeat 1000' \
    'missing=the same with --only-missing, after a cancel' \
    'points=job_submitter.sh --sweep-config FILE --offline'
}

bench::limit_arrays() {
  echo 'MaxArraySize=100' >>"$SLURM_CONF"
  kill -KILL "$(cut -d ' ' -f 1 "$POCKET_CLUSTER_DIR/pids/slurmctld")"
  bash "$checkout/hpc/pocket_cluster.sh" up
}

bench::send_bare_arrays() {
  local -i array
  for ((array = 0; array < 11; array++)); do
    sbatch --parsable --array=1-$((array < 10 ? 99 : 10)) --begin=now+1hour --output=/dev/null "$here/handwritten.sh" || return
  done
}
