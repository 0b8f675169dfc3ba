# shellcheck shell=bash
# The table `here` of run.sh, which sources this file: the time from the command to the first line of rank 0, on 2 nodes with 2 ranks each,
# through an empty queue and inside an allocation of salloc (--here).

declare -g here work project rounds results other # run.sh's

bench::here() {
  local -r log=$work/here_log
  local round job begun build suffix
  for build in "$project" ${other:+"$other"}; do
    cp -- "$here/first_line.py" "$build/"
    echo 'python first_line.py' >"$build/experiment_configurations.txt"
  done
  for ((round = 0; round < ${rounds:-7}; round++)); do
    for build in "$project" ${other:+"$other"}; do
      suffix=''
      if [[ $build == "$other" ]]; then suffix=@other; fi
      bench::empty_queue
      begun=$(date +%s.%N)
      job=$(bash "$build/hpc/job_submitter.sh" --num-nodes 2 --gpus 2 --time 10 --mem-per-gpu 2G --follow 2>"$log") || bench::die_of job_submitter.sh
      bench::note_first "queue$suffix" "$begun" "$log" "$job"
      bench::empty_queue
      salloc --quiet --nodes=2 --gpus-per-node=2 --cpus-per-task=4 --mem=4G --time=10 \
        bash "$here/here_start.sh" "$build" >"$work/begun" 2>"$log" || bench::die_of salloc
      read -r begun <"$work/begun"
      bench::note_first "here$suffix" "$begun" "$log" --here
    done
  done
  python3 "$here/table.py" 'from the command to the first line (seconds)' 1 queue "$results" \
    'queue=job_submitter.sh, an empty queue' \
    'here=job_submitter.sh --here, from the shell of salloc'
}

bench::empty_queue() {
  until [[ -z $(squeue --noheader) && -z $(sinfo --noheader --states=alloc,comp --format=%n) ]]; do sleep 0.3; done
}

# bench::note_first NAME BEGUN LOG JOB
bench::note_first() {
  local first
  first=$(sed -n 's/^FIRST LINE //p' "$3")
  [[ -n $first ]] || {
    cat -- "$3" >&2
    common::die "job $4 has not told its time"
  }
  printf '%s %s\n' "$1" "$(awk "BEGIN { print $first - $2 }")" >>"$results"
}
