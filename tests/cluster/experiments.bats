#!/usr/bin/env bats
# experiments.sh with the real Slurm. tests/faults tests `why` on all faults, and tests/unit on many more ends.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
}

teardown_file() {
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -- "$SCRATCH"
}

teardown() {
  local -r accounted=$BATS_FILE_TMPDIR/accounted
  if [[ -d $accounted ]]; then POCKET_CLUSTER_DIR=$accounted bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-; fi
}

command_of() {
  bash "$project/hpc/experiments.sh" "$@" 3>&- 4>&-
}

shows() {
  command_of | grep -qE "$1"
}

@test "jobs that wait, run and fail: the table, why, the logs of ranks, cancel, resubmit; the same without Slurm" {
  local waiting running failing
  use_programs 'steps.py 100000'
  submit -W torchrun --gpus 2 --num-nodes 2 --exp-name running --nodelist 'node[1-2]'
  running=$job
  local -r run=$run_directory
  submit -W srun --gpus 0 --exp-name waiting --begin now+1hour
  waiting=$job
  submit -W srun --gpus 0 --exp-name later --dependency "afterok:$waiting"
  run -0 command_of why "$job"
  [[ $output == *": pending: it waits: for job $waiting (afterok) (Dependency)"* ]]
  run -0 command_of cancel "$job"
  rm -r -- "$run_directory"
  use_programs 'fail.py raise 1'
  submit -W srun --gpus 0 --num-nodes 2 --exp-name failing --nodelist 'node[3-4]'
  failing=$job
  ended "$failing" 60 FAILED 3:0 || ended "$failing" 60 FAILED 1:0
  wait_until 60 test -e "$run/task_1/output/rank_3"

  run -0 --separate-stderr command_of
  [[ -z $stderr && ${lines[1]} =~ ^"$failing "\ *failing\ +2\ +failed\ +1\ .*"/hpc_outputs/failing_" ]]
  [[ ${lines[2]} =~ ^"$waiting "\ *waiting\ +1\ +enqueued\ +0\  ]]
  [[ ${lines[3]} =~ ^"$running "\ *running\ +2\ +running\ +1\  ]]

  run -0 command_of why "$failing"
  [[ ${lines[0]} == "job $failing (failing): exception: rank 1 on node4 raised RuntimeError: raised on purpose" ]]
  [[ ${lines[1]} == 'first to fail: rank 1 on node4, status 1' && $output == *'    RuntimeError: raised on purpose'* ]]
  [[ ${lines[-1]} == 'to submit again: bash hpc/job_submitter.sh --exp-name failing --resume --gpus 0 --num-nodes 2 --which-distributed srun --nodelist '* ]]
  run -0 command_of why waiting
  [[ $output == *': pending: it waits: its time to begin has not come (--begin)'*'Slurm expects to start it at '* ]]
  run -0 command_of why running
  [[ $output == *': running: attempt 0 on node[1-2], the last beat '* ]]

  run -0 command_of logs running --rank 3
  [[ $output == *'rank 3 of 4: node 1, node2 ('* && $output != *'rank 2 of 4'* ]]
  run -0 command_of logs running --node 0
  [[ $output == *'rank 0 of 4: node 0, node1 ('*'rank 1 of 4: node 0, node1 ('* && $output != *node2* ]]
  [[ $(grep -c '^rank [0-3] of 4' "$run/task_1/log.txt") == 4 ]]

  run -0 command_of cancel running "$waiting"
  wait_until 30 shows "^$running .* cancelled "
  shows "^$waiting .* cancelled "
  run -0 command_of why "$run"
  [[ $output == *': cancelled: it was cancelled by the user (scancel)'* ]]

  job=$(command_of resubmit "$failing" --time 5)
  [[ $(job_field "$job" TimeLimit) == 00:05:00 ]]
  ended "$job" 60 FAILED 3:0 || ended "$job" 60 FAILED 1:0
  run -0 command_of why failing
  [[ ${lines[0]} == "job $job (failing): exception: rank 1 on "* ]]

  SLURM_CONF=$BATS_TEST_TMPDIR/none run -0 --separate-stderr command_of list --name failing
  [[ ${#lines[@]} == 3 && $stderr == *'Slurm does not answer'* ]]
}

@test "remove: an ended run goes with its checkpoints, one that waits or runs stays, another submits the name again" {
  local waiting running
  use_programs 'steps.py 100000'
  submit -W srun --gpus 0 --exp-name running
  running=$run_directory
  submit -W srun --gpus 0 --exp-name waiting --begin now+1hour
  waiting=$run_directory
  wait_until 60 test -e "$running/task_1/output/rank_0"
  use_programs 'fail.py raise 0'
  submit -W srun --gpus 0 --exp-name failing
  ended "$job" 60 FAILED 1:0
  run -1 --separate-stderr command_of remove running waiting "$job"
  [[ $stderr == "kept $running: it has not ended: "*"kept $waiting: it has not ended: "* && $output == *$'\n'"removed $run_directory ("* ]]
  [[ -e $running/facts && -e $waiting/facts && ! -e $run_directory && ! -e ${run_directory%/hpc_outputs/*}/failing ]]
  command_of cancel running waiting
  wait_until 60 no_jobs
  run -0 --separate-stderr command_of remove running waiting
  [[ -z $stderr && ! -e $running && ! -e $waiting ]]
  submit -W srun --gpus 0 --exp-name failing
  ended "$job" 60 FAILED 1:0
}

@test "with accounting: sacct gives the state and the memory, and why uses both" {
  if ((EUID != 0)) && [[ ! -x /usr/sbin/slurmdbd || ! -x /usr/sbin/mariadbd ]]; then skip 'no slurmdbd and mariadb-server here (not root)'; fi
  export POCKET_CLUSTER_DIR=$BATS_FILE_TMPDIR/accounted
  mkdir -- "$POCKET_CLUSTER_DIR"
  bash "$checkout/hpc/pocket_cluster.sh" up --nodes 1 --accounting 3>&- 4>&-
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  experiments "python -c 'held = [bytearray(10**8) for _ in range(40)]; import time; time.sleep(20)'"
  submit -W srun --gpus 0 --mem 1G --exp-name memory
  wait_for_job "$job" 60
  wait_until 120 accounted "$job"
  same "$(cat -- "$run_directory/task_1/attempt_0/cause")" out_of_memory

  # Slurm prints these words where it limits memory by cgroups; they have no number.
  sed -i '/exceeded memory limit/d' "$run_directory/task_1/log.txt"
  run -0 command_of why memory
  [[ $output =~ out\ of\ memory:\ .*the\ most\ that\ was\ measured\ is\ ([0-9]+)M ]]
  ((BASH_REMATCH[1] > 500 && BASH_REMATCH[1] < 4000))

  # This is the state after the node went down with its batch script, long ago.
  rm -- "$run_directory/task_1/attempt_0/cause"
  echo running >"$run_directory/task_1/state"
  touch --date='1 hour ago' -- "$run_directory/task_1/state"
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/scontrol"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/scontrol"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run -0 command_of why memory
  [[ $output == *'was killed before it could record why: Slurm says FAILED '* ]]
}

accounted() {
  [[ $(sacct --noheader --parsable2 --jobs="$1" --format=JobID,State,MaxRSS) =~ "$1.0|"[^|]+"|"[1-9][0-9]*K ]]
}
