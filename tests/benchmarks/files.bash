# shellcheck shell=bash
# The table `files` of run.sh, which sources this file: what ended runs leave on disk, an hour after their end. Nothing is timed.

declare -g against other project rounds work # run.sh's

bench::files() {
  local build
  printf '\n| what %s runs of a project of 1,000 files leave, each of 2 nodes with 2 ranks | files a run | kB a run | unpacked sources | archives of sources | kB beside the runs |\n|---|---|---|---|---|---|\n' \
    "${rounds:-100}"
  for build in "$project" ${other:+"$other"}; do bench::files_of "$build"; done
}

bench::files_of() {
  local -r outputs=$SCRATCH/${1##*/}/hpc_outputs name=$([[ $1 == "$other" ]] && echo "$against" || echo 'the kit')
  local -i runs=${rounds:-100} run left=0
  bench::make_project_of 1000 "$1"
  echo 'echo done' >"$1/experiment_configurations.txt"
  for ((run = 0; run < runs; run++)); do bench::files_submit "$1" --num-nodes 2 --gpus 2 -W srun --time 10; done
  until [[ -z $(squeue --noheader) ]]; do sleep 0.5; done
  # The hour has passed. A submission removes sources for ten seconds, the next one goes on.
  find "$outputs" -name state -exec touch --date='2 hours ago' -- {} +
  until ((left == (left = $(bench::files_sources "$outputs" | wc -l)))); do
    rm -f -- "$outputs/.pruned"
    bench::files_submit "$1" --begin now+1hour
    scancel --user="$(id -un)"
  done
  # du counts a file with several links once: first in the folders beside the runs.
  find "$outputs" -name state -newermt '1 hour ago' -printf '%h\0' | xargs -0 dirname -z -- | xargs -0 rm -rf --
  printf '| %s | %.1f | %.0f | %s | %s | %s |\n' "$name" "$(awk "BEGIN { print $(find "$outputs"/*/ -type f | wc -l) / $runs }")" \
    "$(du -c --block-size=1K -s "$outputs"/.[!.]* "$outputs"/*/ | awk -v runs="$runs" -v outputs="$outputs/" '
      $2 == "total" { next } index($0, outputs ".") == 0 { sum += $1 } END { print sum / runs }')" \
    "$left" "$(find "$outputs/.sources" -name '*.tar' | wc -l)" "$(du -c --block-size=1K -s "$outputs"/.[!.]* | tail -n 1 | cut -f 1)"
}

bench::files_sources() {
  find "$1" -mindepth 2 -maxdepth 2 -name 'source*' -type d
}

bench::files_submit() {
  bash "$1/hpc/job_submitter.sh" "${@:2}" >"$work/output" 2>"$work/error" || bench::die_of job_submitter.sh
}
