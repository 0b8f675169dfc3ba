# shellcheck shell=bash
# The table `experiments` of run.sh, which sources this file: experiments.sh on 2,000 run directories, beside `find` on them.

declare -g here other project results rounds # run.sh's

bench::experiments() {
  local -r outputs=$SCRATCH/${project##*/}/hpc_outputs
  local round
  mkdir -p -- "$outputs"
  if [[ -n $other ]]; then
    rm -rf -- "$SCRATCH/other"
    ln -s -- "${project##*/}" "$SCRATCH/other"
  fi
  python3 "$here/make_runs.py" "$outputs" 2000
  for ((round = 0; round < ${rounds:-10}; round++)); do
    bench::time find find "$outputs" -newermt 2000-01-01 -type f
    bench::time table bash "$project/hpc/experiments.sh" list
    bench::time newest bash "$project/hpc/experiments.sh" list --last 20
    bench::time why bash "$project/hpc/experiments.sh" why 7
  done
  rm -rf -- "$outputs"
  python3 "$here/table.py" '2,000 experiments (seconds)' 1 find "$results" \
    'find=find over their files' \
    'table=experiments.sh list' \
    'newest=experiments.sh list --last 20' \
    'why=experiments.sh why JOB'
}
