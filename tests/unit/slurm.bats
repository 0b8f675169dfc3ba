#!/usr/bin/env bats
# hpc/lib/slurm.sh: questions to a controller that answers, refuses, does not answer or is slow; and the output of sbatch.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  use_libraries common slurm
  tries=$BATS_TEST_TMPDIR/tries
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  mkdir -- "$BATS_TEST_TMPDIR/stubs"
}

# controller LINE...   Sets what the stub of squeue does; it counts its calls in `tries`.
controller() {
  printf '%s\n' '#!/bin/bash' "echo >>$tries" "${@}" >"$BATS_TEST_TMPDIR/stubs/squeue"
  chmod +x -- "$BATS_TEST_TMPDIR/stubs/squeue"
  rm -f -- "$tries"
}

# gives STATUS ANSWER TRIES SECONDS   slurm::ask must end like this within this time. The variables have the names of the function's own.
gives() {
  local words=none status=0 got=0
  local -r begin=$SECONDS
  slurm::ask words "$4" squeue 'a b' '*' || got=$?
  if [[ $got != "$1" || $words != "$2" || $(wc -l <"$tries") != "$3" ]]; then
    printf 'status %s, %s tries: %s\n' "$got" "$(wc -l <"$tries")" "$words" >&2
    return 1
  fi
  ((SECONDS - begin <= $4 + $(patience 2)))
}

@test "an answer: all of its lines, without standard error" {
  controller 'printf "%s|" "$@"; echo; echo " two  "; echo; echo "sbatch: a warning" >&2'
  gives 0 $'a b|*|\n two  ' 1 5
  controller 'exit 0'
  gives 0 '' 1 5
  local status=none
  slurm::ask status 5 squeue
  [[ -z $status ]]
}

@test "a refusal is not tried again: the last line of its message" {
  controller 'echo half; echo "some banner" >&2; echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
  gives 1 'slurm_load_jobs error: Invalid job id specified' 1 9
  controller 'exit 3'
  gives 1 '' 1 9
}

@test "without an answer the question is repeated until there is one" {
  controller "if ((\$(wc -l <$tries) < 3)); then echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1; fi" 'echo 7'
  gives 0 7 3 9
  controller "if ((\$(wc -l <$tries) < 2)); then echo 'squeue: error: Socket timed out on send/recv operation' >&2; exit 1; fi" \
    'echo "Invalid job id specified" >&2; exit 1'
  gives 1 'Invalid job id specified' 2 9
}

@test "no answer before the time-out: no answer, not a refusal" {
  controller 'echo "Unable to contact slurm controller" >&2; exit 1'
  gives 2 'Unable to contact slurm controller' 2 3
  gives 2 'Unable to contact slurm controller' 3 0 # once, when no time is given
  controller 'exec sleep 30'
  gives 2 'no answer for 1 s' 1 1
}

@test "a question in a trap, while another is waiting, has its own status" {
  controller 'exec sleep 5'
  cat >"$BATS_TEST_TMPDIR/script" <<SCRIPT
set -euo pipefail
source '$checkout/hpc/lib/slurm.sh'
leave() { local said=none; slurm::ask said 5 echo cancelled && echo "\$said"; }
trap leave EXIT
trap 'exit 130' INT
slurm::ask answer 0 squeue
SCRIPT
  run timeout --foreground --preserve-status --signal=INT 1 bash "$BATS_TEST_TMPDIR/script"
  [[ $status == 130 && $output == cancelled ]]
}

@test "the id in the output of sbatch" {
  [[ $(slurm::job_id 4711) == 4711 ]]
  [[ $(slurm::job_id '4711;pocket') == 4711 ]]
  [[ $(slurm::job_id 'Submitted batch job 4711') == 4711 ]]
  [[ $(slurm::job_id 'Submitted batch job 4711 on cluster pocket') == 4711 ]]
  [[ $(slurm::job_id $'-----\n   Welcome to 12 nodes\n-----\n--> Verifying valid submit host (login1)...OK\n4711') == 4711 ]]
  [[ $(slurm::job_id $'4711\nsbatch: warning: can not run 5 processes\nBalance | 100\n  | 12 |\n') == 4711 ]]
  [[ $(slurm::job_id $'4711;pocket\nhours left\n5000') == 4711 ]]
  [[ $(slurm::job_id $'2026\nSubmitted batch job 4711\n5000') == 4711 ]]
  [[ $(slurm::job_id $'4711\r') == 4711 ]]
  local text
  for text in $'4711\n5000' $'2026\n4711\n' $'12\n4711\n5000' '' 'Usage: sbatch' 0 '47 11' 'job 4711' '4711 jobs' -5 4711.5 'sbatch: error: 12'; do
    run -1 slurm::job_id "$text"
    [[ -z $output ]]
  done
}

@test "sbatch prints no id: the job is found by its folder, and a task of an array by its index, too, because others are submitted beside it" {
  use_libraries common sending
  local -r run=$BATS_TEST_TMPDIR/run
  local id status=0
  mkdir -- "$run"
  printf '%s\n' '#!/bin/bash' 'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1' >"$BATS_TEST_TMPDIR/stubs/sbatch"
  chmod +x -- "$BATS_TEST_TMPDIR/stubs/sbatch"
  echo '7 train' >"$run/jobs"
  controller "printf '%s\n' '9|2|$run' '8|1|$run' '7|1|$run' '7|2|$run' '10|N/A|/elsewhere'"
  sending::send id "$run" continue sbatch --array=1 script 2>/dev/null
  [[ $id == 8 ]]
  sending::send id "$run" continue sbatch --array=2 script 2>/dev/null
  [[ $id == 9 && $(<"$run/jobs") == $'7 train\n8 continue\n9 continue' ]]
  sending::send id "$run" continue sbatch --array=1 script 2>/dev/null || status=$?
  [[ $status == 2 && $id == *'squeue shows no job of '* ]]

  controller "printf '%s\n' '11|N/A|$run'"
  sending::send id "$run" train sbatch script 2>/dev/null
  [[ $id == 11 ]]
}
