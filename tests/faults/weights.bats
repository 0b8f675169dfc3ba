#!/usr/bin/env bats
# The fault matrix: a training that is interrupted in any way must end with the weights of an uninterrupted one, bit by bit. It trains the
# digits of train/ with two or four ranks on the real Slurm. If a fault ends a job for good, the test submits it again with --resume. Most
# faults are caused in setup_file, one after another, so that the rows wait at the same time; the tests then check the results.
# tests/train/test_checkpoint.py tests the level below Slurm: it kills processes at random moments, and at each call of the file system,
# while they save.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/../cluster/reports.bash"
source "$BATS_TEST_DIRNAME/matrix.bash"

setup_file() {
  cluster_up
  make_project_in "$BATS_FILE_TMPDIR"
  # In a path with a per cent sign the log lacks Slurm's own messages, and the cause of an end is less exact.
  mv -T -- "$project" "$BATS_FILE_TMPDIR/project with a space"
  project="$BATS_FILE_TMPDIR/project with a space"
  export project bucket="file://$BATS_FILE_TMPDIR/a bucket" data=$BATS_FILE_TMPDIR/digits
  cp -R -- "$BATS_TEST_DIRNAME/programs" "$project/"
  prepare_digits "$SCRATCH/${project##*/}/datasets/digits"
  even_data "$data"

  begin reference_2 '' "${two[@]}" "${quiet[@]}"
  begin reference_4 '' "${four[@]}" -W srun "${quiet[@]}"
  # A busy machine may need a minute to save.
  begin warned hold=47 "${two[@]}" "${quiet[@]}" --time 3 --grace-seconds 90
  begin hung hang=47 "${two[@]}" "${quiet[@]}" --hang-minutes 1
  begin controller hold=47 "${two[@]}" "${quiet[@]}"
  begin preempted hold=47 "${two_on_one[@]}" --nodelist node4
  if [[ $(network) == hosts ]]; then
    begin cut 'slow=47 hold=150' "${two[@]}" --nodelist 'node[2-3]'
  fi
  begin killed hold=47 "${two[@]}" "${quiet[@]}"
  begin memory memory=47 "${two[@]}" "${quiet[@]}"
  CHECKPOINT_URL=$bucket begin cancelled hold=47 "${two[@]}" "${quiet[@]}"
  begin twice 'hold=47 hold=55' "${four[@]}" "${quiet[@]}"
  begin damaged 'hold=47 hold=55' "${two[@]}" "${quiet[@]}" --max-restarts 1
  begin saving 'slow=31 slow_saves=1 --save-every 10' "${two[@]}" "${quiet[@]}"
  experiments "python -m programs.faulty $digits hold=47"{,}
  submit --exp-name array "${two[@]}" "${quiet[@]}"
  keep array
  if [[ $(network) == hosts ]]; then
    make_small_disk
    begin full 'slow=47 --save-every 5' "${two_on_one[@]}" --nodelist node1
  fi

  strike controller hold_47 restart_controller # with all of the others there
  strike saving slow_31 signal_in_save
  strike preempted hold_47 preempt node4
  if [[ $(network) == hosts ]]; then strike cut slow_47 cut_network; fi
  strike killed hold_47 kill_rank 1
  strike cancelled hold_47 cancel
  strike twice hold_47 ask_to_stop 0
  strike damaged hold_47 stop_and_truncate
  strike array/2 hold_47 ask_to_stop 0 2
  goes_on controller
  begin fewer "hold=47 --data-dir ${data@Q}" "${four[@]}" -W srun "${quiet[@]}"
  begin died hold=47 "${two[@]}" --nodelist node1,node4
  if [[ $(network) == hosts ]]; then
    strike full slow_47 fail_saves
    strike cut slow_47 send_elsewhere
  fi
  strike fewer hold_47 cancel
  strike twice hold_55 ask_to_stop 1
  strike damaged hold_55 ask_to_stop 1
  if [[ $(network) == hosts ]]; then strike cut hold_150 link node3 up; fi # the controller looks for it now and then
  local name
  for name in reference_2 reference_4; do
    recall "$name"
    ended "$job" 120 COMPLETED 0:0
    cp -- "$(checkpoints "$name")/final.pt" "$BATS_FILE_TMPDIR/$name.pt"
  done
}

teardown() {
  add_row
  if [[ -d $BATS_TEST_TMPDIR/second ]]; then
    POCKET_CLUSTER_DIR=$BATS_TEST_TMPDIR/second bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-
  fi
}

teardown_file() {
  if [[ -e $BATS_FILE_TMPDIR/matrix ]]; then print_matrix; fi
  if [[ $(network) == hosts ]]; then
    link node3 up
    if in_node node1 mountpoint --quiet "$(checkpoints full)"; then in_node node1 umount -- "$(checkpoints full)"; fi
  fi
  cluster_down
}

@test "a rank is killed with SIGKILL; --resume" {
  recall killed
  given_up FAILED "failed 137 1 node2" 0
  begin killed '' --resume "${two[@]}" "${quiet[@]}"
  survived killed 2 0 finished
  [[ $(job_log) == *'resumed at step 40 of '* ]]
}

@test "a rank runs out of memory; --resume" {
  recall memory
  given_up FAILED out_of_memory 0
  begin memory '' --resume "${two[@]}" "${quiet[@]}"
  survived memory 2 0 finished
}

@test "slurmctld is killed and restarted during the training" {
  recall controller
  survived controller 2 0 finished
}

@test "a disk without free bytes or without free inodes during a save" {
  has_own_networks
  local -r folder=$(checkpoints full)
  local last
  recall full
  survived full 2 1 'notice request, finished' "/proc/$(node_process node1)/root$folder"
  why_says 'note: disk full: '
  [[ $(job_log) == *'was not saved: it needs '*'No space left on device'*': NOT saved'* ]]
  last=$(sed -nE 's/.*; that of step ([0-9]+) is unharmed$/\1/p' "$run_directory/task_1/log.txt" | tail -n 1)
  [[ $(job_log) == *"resumed at step $last of "* ]]
}

@test "SIGTERM to the ranks during a save" {
  recall saving
  survived saving 2 1 'notice signal, finished'
  [[ -e "$BATS_FILE_TMPDIR/signalled in a save" ]]
}

@test "one task of an array is restarted alone" {
  recall array
  [[ $(cause 0 2) == 'notice request' ]]
  goes_on array/1
  wait_for_job "$job" 150
  seen "${job}_1" 1 0 finished
  seen "${job}_2" 2 1 'notice request, finished'
  same_weights 2 "$(checkpoints array)/task_1/final.pt"
  same_weights 2 "$(checkpoints array)/task_2/final.pt"
  nothing_left "$(job_field "${job}_1" JobId)"
  nothing_left "$(job_field "${job}_2" JobId)"
}

@test "two interruptions in one epoch" {
  recall twice
  survived twice 4 2 'notice request, notice request, finished'
  [[ $(grep -c '^resumed at step .*, in epoch 3$' "$run_directory/task_1/log.txt") == 2 ]]
}

@test "a truncated checkpoint; no restarts left; a checkpoint with a flipped bit; --resume" {
  local name
  recall damaged
  given_up FAILED 'notice request, notice request' 1
  why_says 'no restarts left: '
  why_says 'note: damaged checkpoint: '
  [[ $(job_log) == *'skipped '*': __0_0.distcp has '*' bytes in place of '*'resumed at step 40 of '*'not started again'* ]]
  name=$(newest damaged)
  flip_bit "$name/__1_0.distcp"
  begin damaged '' --resume "${two[@]}" "${quiet[@]}"
  survived damaged 2 0 finished
  [[ $(job_log) == *"skipped $name: __1_0.distcp has changed since it was written"*'resumed at step 40 of '* ]]
}

@test "preemption" {
  recall preempted
  survived preempted 2 1 'preempted, finished'
}

@test "the network of a node fails, for a moment and for good; it comes back while the training continues elsewhere" {
  has_own_networks
  recall cut
  wait_until 120 node_is_up node3
  goes_on cut
  wait_for_job "$job" 150
  # This folder belongs to the site. If the steps ended without the network, Slurm runs the epilog that removes it late or never.
  rm -rf -- "$POCKET_CLUSTER_DIR/disks/node3/$(id -un).$job."*
  survived cut 2 1 'node_failed, finished'
  same "$(<"$run_directory/task_1/attempt_1/nodes")" 'node[1-2]'
}

@test "slurmd and all processes of a node are killed with SIGKILL" {
  comes died hold_47
  kill_process node4
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&-
  survived died 2 1 'node_failed, finished'
}

@test "a rank that hangs" {
  recall hung
  survived hung 2 1 'hung, finished'
  why_says 'interrupted 1 time: 1 hung'
  [[ $(job_log) == *'programs/faulty.py", line '*' in hang'* ]]
}

@test "the warning before the time limit" {
  local all
  recall warned
  wait_for_job "$job" 200
  all=$(causes)
  # Slurm may warn up to a minute early, in which case there is a second warning; on a busy machine three minutes may be too few again.
  [[ $all =~ ^('notice time_limit, ')+finished$ ]] || { printf '%s\n' "$all" >&2 && false; }
  all=${all//[^,]/}
  survived warned 2 "${#all}" "$(causes)"
}

@test "scancel; --resume on another cluster with an empty disk, with only CHECKPOINT_URL" {
  recall cancelled
  given_up CANCELLED cancelled 0
  export POCKET_CLUSTER_DIR=$BATS_TEST_TMPDIR/second CHECKPOINT_URL=$bucket
  bash "$checkout/hpc/pocket_cluster.sh" up --nodes 2 3>&- 4>&-
  cluster_env
  SCRATCH=$BATS_TEST_TMPDIR/scratch
  prepare_digits "$SCRATCH/${project##*/}/datasets/digits"
  begin cancelled '' --resume "${two[@]}"
  survived cancelled 2 0 finished
  [[ $(job_log) == *"bringing step_"*" from $bucket/"*'resumed at step '* ]]
}

@test "4 ranks saved, 2 resumed: every sample of an epoch is seen exactly once" {
  local first
  recall fewer
  given_up CANCELLED cancelled 0
  first=$run_directory
  begin fewer "--data-dir ${data@Q}" --resume "${two[@]}" "${quiet[@]}"
  ended "$job" 150 COMPLETED 0:0
  seen "$job" 1 0 finished
  [[ $(job_log) == *'resumed at step '* ]]
  each_once "$first"/task_1/output/samples_[0-3] "$run_directory"/task_1/output/samples_[01]
  seen_equal='each sample once'
}
