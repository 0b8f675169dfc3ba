#!/usr/bin/env bats
# experiments.sh remove, on run directories as jobs leave them, with a stub of Slurm.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  made_runs_setup
  scratch=${outputs%/*}
  : >"$STUB/by_id"
  # squeue prints queue for the user, and by_id for ids; scontrol has the name of the cluster.
  cat >"$STUB/squeue" <<'STUB'
#!/bin/sh
case $* in *--jobs=*) exec cat -- "$STUB/by_id" ;; esac
sed 's/^\([^|]*\)|.*|/\1 /' -- "$STUB/queue" 2>/dev/null || { echo 'slurm_load_jobs error: no controller' >&2; exit 1; }
STUB
  printf '#!/bin/sh\necho "ClusterName = here"\n' >"$STUB/scontrol"
  ln -s -- squeue "$STUB/sbatch"
  chmod +x -- "$STUB"/*
}

# ended NAME JOB [FACT=VALUE...]   Makes a run that has completed, with checkpoints of 1000 bytes; sets run and checkpoints.
ended() {
  made_run "$1" "$2" 1 "${@:3}"
  state 1 completed
  attempt 1 0 finished
  head -c 2000 /dev/zero >"$run/task_1/output/model.pt"
  local name=$1 word
  for word in "${@:3}"; do
    if [[ $word == exp_name=* ]]; then name=${word#*=}; fi
  done
  checkpoints=$scratch/$name/checkpoints
  mkdir -p -- "$checkpoints/step_1"
  head -c 1000 /dev/zero >"$checkpoints/step_1/weights"
  echo "$2" >"$scratch/$name/.job"
  printf '%s\n' "${run##*/}" >>"$scratch/$name/runs"
}

# remains PATH...   Nothing else is in the project's folder on scratch (hpc_outputs: all but locks).
remains() {
  local path
  diff <(for path in "$@"; do printf '%s\n' "$path"; done | LC_ALL=C sort) \
    <(find "$scratch" -mindepth 1 -maxdepth 2 ! -name '.*.lock' ! -path "$outputs" -printf '%P\n' | LC_ALL=C sort)
}

remove() {
  run --separate-stderr command_of remove "$@"
  printf '%s: %s\n%s\n' "$status" "$output" "$stderr" # bats shows it if the test fails
}

@test "runs by job, name and folder, with their checkpoints; what it printed was removed, and nothing else" {
  local first second
  ended one 1
  first=$run
  ended two 2
  second=$run
  ended three 3
  mkdir -p -- "$outputs/.kits/a" "$outputs/.sources" "$scratch/datasets/d" "$scratch/.staging"
  echo archive >"$outputs/.sources/a.tar"
  ln -- "$outputs/.sources/a.tar" "$run/source.tar"
  ln -s ../.kits/a "$run/kit"
  ln -s "$scratch/datasets" "$run/task_1/output/data"
  echo of-the-user >"$scratch/three/notes"
  : >"$scratch/datasets/d/x"
  mkdir -- "$scratch/three/checkpoints.20260101-000000" # --fresh moved it aside
  cp -R -- "$scratch" "$BATS_TEST_TMPDIR/before"

  remove --dry-run 1 two "$run"
  [[ $status == 0 && -z $stderr && ${lines[0]} == "would have removed $scratch/one/checkpoints (1000B)" ]]
  [[ ${lines[1]} == "would have removed $first (2"*'KiB)' && ${lines[-1]} == 'would have removed 7 folders, '*KiB ]]
  diff -r -- "$scratch" "$BATS_TEST_TMPDIR/before"

  remove 1 two "$run"
  [[ $status == 0 && -z $stderr && ${lines[0]} == "removed $scratch/one/checkpoints (1000B)" && ${lines[3]} == "removed $second ("* ]]
  [[ ${lines[-1]} == 'removed 7 folders, '*KiB ]]
  remains datasets datasets/d hpc_outputs/.kits hpc_outputs/.sources .staging three three/notes
  [[ -e $scratch/datasets/d/x && -e $outputs/.kits/a && $(<"$outputs/.sources/a.tar") == archive ]]
  remove 1
  [[ $status == 1 && -z $output && $stderr == *"'1' is neither a job"* ]]
}

@test "an experiment means all of its runs; checkpoints stay as long as another run uses them" {
  local first
  ended many 1
  first=$run
  ended many 2
  ended other 3
  remove 1
  [[ $status == 0 && $stderr == "kept $checkpoints/../../many"* || $stderr == "kept $scratch/many/checkpoints: $outputs/many_20260101-000002_1 uses it" ]]
  [[ ! -e $first && -e $scratch/many/checkpoints/step_1/weights ]]
  ended many 4
  rm -- "$scratch/many/runs" # the disk was full: only the runs know
  remove 4
  [[ $status == 0 && $stderr == *'000002_1 uses it' && -e $scratch/many/checkpoints/step_1/weights ]]
  ended many 5
  remove --dry-run many
  [[ ${#lines[@]} == 4 ]]
  remove many
  [[ $status == 0 && -z $stderr && ! -e $scratch/many ]]
  remains hpc_outputs/other_20260101-000003_1 other other/checkpoints other/.job other/runs
}

@test "runs without --exp-name: one of its job, not all that have the project's name; a resubmitted one has the same checkpoints" {
  local first
  ended kit 1 exp_name=kit_20260101-000001_1
  first=$run
  ended kit 2 exp_name=kit_20260101-000002_1
  remove kit
  [[ $status == 1 && $stderr == *'2 runs without --exp-name have the name kit: give their jobs or folders' && -e $run && -e $first ]]
  ended kit 3 exp_name=kit_20260101-000001_1
  remove 1
  [[ $status == 0 && -e $scratch/kit_20260101-000001_1/checkpoints ]]
  remove kit_20260101-000001_1
  [[ $status == 0 && -z $stderr && ! -e $scratch/kit_20260101-000001_1 ]]
  remove kit # there is only one
  [[ $status == 0 && -z $stderr ]]
  [[ -z $(find "$scratch" -mindepth 1 ! -path "$outputs") ]]
}

@test "what is live, waits, is being sent or belongs to another cluster stays, with its checkpoints" {
  local name
  ended packing 1
  queued 77 N/A PENDING None pack_ # of its folder
  ended many 2
  queued 2 N/A RUNNING None
  ended many 3
  made_run hidden 4 1
  state 1 running
  echo 4 >"$STUB/by_id" # missing in the list of the user's jobs
  ended unsent 5
  rm -- "$run/job_id"
  ended far 6 cluster=there
  ended cloud 7
  touch -- "$run/task.yaml"
  ended good 8
  cp -R -- "$scratch" "$BATS_TEST_TMPDIR/before"
  remove packing many hidden unsent far cloud
  [[ $status == 1 && $(grep -c '^kept .*it has not ended' <<<"$stderr") == 4 && $stderr == *'sent to the cluster there, and this is here'* && $stderr == *'sent to a cloud'* ]]
  [[ $output == 'removed '*many_20260101-000003*$'\n'* && $stderr == *"kept $scratch/many/checkpoints: "*000002_1* && $output == *'removed 1 folders, '* ]]
  for name in packing many hidden unsent far cloud; do [[ -e $(echo "$outputs/$name"_*) ]]; done
  [[ -e $scratch/many/checkpoints/step_1/weights && -e $scratch/far/checkpoints/step_1/weights ]]
  # The submission was refused, or its answer was lost; an hour later the queue has no such job.
  touch -d '2 hours ago' -- "$outputs"/unsent_*/facts
  remove unsent
  [[ $status == 0 && ! -e $scratch/unsent ]]
}

@test "a silent controller: nothing is removed" {
  ended one 1
  rm -- "$STUB/queue"
  remove one
  [[ $status == 1 && -z $output && $stderr == *'nothing was removed: squeue does not say'* && -e $run && -e $checkpoints/step_1/weights ]]
  printf '#!/bin/sh\necho "no controller" >&2\nexit 1\n' >"$STUB/scontrol"
  remove one
  [[ $status == 1 && -z $output && $stderr == *'nothing was removed: Slurm does not answer'* && -e $run && -e $checkpoints/step_1/weights ]]
}

@test "W&B's recordings that were not uploaded keep the run; those that were, and empty ones, do not" {
  ended one 1
  mkdir -p -- "$run"/task_1/wandb/offline-run-{1,2,3}
  echo recording | tee -- "$run"/task_1/wandb/offline-run-{1,2}/run.wandb >/dev/null
  : >"$run/task_1/wandb/offline-run-3/run.wandb"
  : >"$run/task_1/wandb/offline-run-1/run.wandb.synced"
  remove one
  [[ $status == 1 && $stderr == *'1 of its recordings were not uploaded to W&B'*'bash hpc/sync_wandb.sh '* && -e $run && -e $checkpoints/step_1 ]]
  : >"$run/task_1/wandb/offline-run-2/run.wandb.synced"
  remove one
  [[ $status == 0 && ! -e $run && ! -e $scratch/one ]]
}

@test "links are not followed, a copied run is not taken for its original, others' files stay" {
  local copy=$BATS_TEST_TMPDIR/copy_20260101-000009_1 elsewhere=$BATS_TEST_TMPDIR/elsewhere
  ended one 1
  cp -R -- "$run" "$copy"
  remove "$copy"
  [[ $status == 1 && $stderr == *"is a copy of $run"* && -e $copy && -e $run && -e $checkpoints ]]
  mv -- "$checkpoints" "$elsewhere"
  ln -s -- "$elsewhere" "$checkpoints"
  remove one
  [[ $status == 1 && ! -e $run && -e $elsewhere/step_1/weights && -L $checkpoints && $stderr == *"kept $checkpoints: another user"* ]]
  ended two 2
  mv -- "$run" "$elsewhere/run"
  ln -s -- "$elsewhere/run" "$run"
  remove two
  [[ $status == 1 && -e $elsewhere/run/facts && -e $checkpoints/step_1/weights ]]
  ((EUID == 0)) || return 0
  ended three 3
  chown 12345 -- "$checkpoints/step_1/weights" # another user has continued it
  remove three
  [[ $status == 1 && ! -e $run && -e $checkpoints/step_1/weights ]]
  ended four 4
  chown -R 12345 -- "$run"
  remove four
  [[ $status == 1 && $stderr == *"kept $run: another user"* && -e $run && -e $checkpoints/step_1/weights ]]
}

@test "an interrupted removal is finished by the next one; another submission keeps the run" {
  local lock
  ended one 1
  ended two 2
  printf '#!/bin/sh\ncase $* in *.removing*) kill -9 $PPID; exit ;; esac\nexec /bin/rm "$@"\n' >"$STUB/rm"
  chmod +x -- "$STUB/rm"
  remove one two
  [[ $status == 137 && ! -e $scratch/one/checkpoints && -e $scratch/one/.checkpoints.removing && -e $outputs/one_20260101-000001_1 ]]
  rm -- "$STUB/rm"
  hash -r
  chmod 500 -- "$scratch/one/.checkpoints.removing"
  remove --dry-run one two
  [[ $status == 0 && ${lines[0]} == *"the rest of an interrupted removal, $scratch/one/.checkpoints.removing ("* ]]
  exec {lock}>"$outputs/.two.lock"
  flock "$lock"
  remove one two
  exec {lock}>&-
  [[ $status == 1 && ${lines[0]} == 'removed the rest of an interrupted removal, '* && $stderr == "kept $run: another command is at work on the experiment two" ]]
  remains hpc_outputs/two_20260101-000002_1 two two/checkpoints two/.job two/runs
  remove two
  [[ $status == 0 ]]
  remains
}

@test "wrong arguments, and a task of an array" {
  made_run many 10 3
  fails_with 2 'remove needs experiments, jobs or run directories' command_of remove
  fails_with 2 "unknown option '--force'" command_of remove --force many
  fails_with 1 'is a task of .*: name the whole run' command_of remove 10_2
  fails_with 1 "'nothing' is neither a job" command_of remove many nothing
  [[ -e $run ]]
}
