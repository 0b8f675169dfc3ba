# shellcheck shell=bash
# The table `controller` of run.sh, which sources this file: the requests of one job to Slurm's controller from submission to the last look,
# by the kit with --follow, and by sbatch of a script with one srun and a `squeue` every 30 seconds.

declare -g here work project rounds # run.sh's

bench::controller() {
  local -r light=$work/light counts=$work/counts
  local seconds
  mkdir -p -- "$light/bin"
  ln -s -- "$(command -v python3)" "$light/bin/python"
  : >"$counts"
  for seconds in 40 ${rounds:+180}; do
    echo "sleep $seconds" >"$project/experiment_configurations.txt"
    bench::count_calls "kit_$seconds" bash "$project/hpc/job_submitter.sh" --follow --environment "$light" -W srun --gpus 0 --time 10 --mem 300M
    bench::count_calls "bare_$seconds" bench::bare_job "$seconds"
  done
  python3 "$here/controller_table.py" "$counts"
}

# bench::count_calls NAME COMMAND...   Counts with the controller's own counters, until the job has ended completely.
bench::count_calls() {
  local sort number
  sdiag --reset >/dev/null
  "${@:2}" >"$work/output" 2>"$work/error" || bench::die_of "${*:2}"
  until [[ -z $(squeue --noheader) ]]; do sleep 1; done
  sdiag | LC_ALL=C sed -nE '/statistics by message type/,/statistics by user/s/^\s*([A-Z_]+)\s.* count:([0-9]+) .*/\1 \2/p' |
    while read -r sort number; do printf '%s %s %s\n' "$1" "$sort" "$number"; done >>"$work/counts"
}

bench::bare_job() {
  local job
  job=$(sbatch --parsable --nodes=1 --ntasks=1 --mem=300M --time=10 --output=/dev/null --chdir=/ <<<"#!/bin/sh
srun sleep $1")
  while [[ -n $(squeue --noheader --job="$job") ]]; do sleep 30; done
}
