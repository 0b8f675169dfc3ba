#!/usr/bin/env bats
# hpc/clean_nodes.sh on a cluster that makes no SLURM_TMPDIR, so that the kit makes it.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup_file() {
  unset POCKET_CLUSTER_DIR # the others' cluster is of another shape
  cluster_up_with --nodes 3 --tmpdir none
}

teardown_file() { cluster_down; }

setup() {
  disk=$POCKET_CLUSTER_DIR/localscratch
  me=$(id -un)
  clean=$checkout/hpc/clean_nodes.sh
  # The ids of the old jobs are larger than those of the test's own jobs.
  old=${me}_900001
}

teardown() {
  scancel --user="$me"
  wait_until 60 no_jobs
}

has_own_disks() {
  bash "$checkout/hpc/pocket_cluster.sh" status | grep -q 'network hosts' || skip 'the nodes share a disk here'
}

# on NODE COMMAND...
on() {
  srun --quiet --overlap --nodelist="$1" --nodes=1 --ntasks=1 --mem=10M "${@:2}" 3>&- 4>&- </dev/null
}

# leave_behind NODE NAME...   Makes folders with content, as a job leaves them.
leave_behind() {
  on "$1" sh -c 'for name; do mkdir -p "$name/data" && head -c 50000 /dev/zero >"$name/data/file" && chmod 500 "$name/data"; done' \
    leave_behind "${@:2}"
}

@test "folders of dead jobs are removed on each node; those of live jobs, other users' and links are kept" {
  has_own_disks
  make_project
  experiments 'sh -c "touch \"$1/held\"; sleep 600" sh ${SLURM_TMPDIR}'
  submit --gpus 0 --num-nodes 2 --mem 1G --no-snapshot -W srun
  live=$disk/${me}_${job}_0
  wait_until 60 on node1 test -e "$live/held"
  wait_until 60 on node2 test -e "$live/held"

  leave_behind node1 "$disk/${old}_0" "$disk/${old}_12"
  leave_behind node3 "$disk/${old}_"
  target=$BATS_TEST_TMPDIR/target
  mkdir -- "$target"
  touch -- "$target/file"
  on node3 sh -c 'ln -s "$2" "$1_7" && ln -s "$2" "$1_/inside" && mkdir "$1_x" "$1" "${1}0_1_1" && mkdir "$1_9" && chown nobody "$1_9"' \
    sh "$disk/$old" "$target"
  before=$(on node3 ls -A "$disk")

  run --separate-stderr bash "$clean" --dry-run
  ((status == 0))
  [[ $output =~ node1\ +${old}_0\ +[0-9]{5,} && $output =~ node3\ +${old}_\ +[0-9]{5,} && $output =~ all\ +3\ folders ]]
  [[ $(on node3 ls -A "$disk") == "$before" ]]
  on node1 test -e "$disk/${old}_12/data/file"

  # The user's settings for squeue must not hide the live job.
  SQUEUE_PARTITION=urgent SBATCH_GPUS_PER_NODE=1 run --separate-stderr bash "$clean" --partition urgent
  ((status == 0))
  [[ $output =~ node1\ +2\ +1[0-9]{5} && $output =~ node2\ +0\ +0 && $output =~ node3\ +1\ +[0-9]{5,} && $output =~ all\ +3\ folders ]]
  run ! on node1 ls -d "$disk/${old}_0"
  [[ $(on node3 ls -A "$disk") == "$(grep -vx -- "${old}_" <<<"$before")" ]]
  [[ -e $target/file ]]
  on node1 test -e "$live/held"
  on node2 test -e "$live/held"
  on node3 rm -rf -- "$disk/${old}_7" "$disk/${old}_x" "$disk/$old" "$disk/${old}0_1_1" "$disk/${old}_9"
}

@test "nodes that are down or drained are skipped, and named" {
  scontrol update nodename=node2 state=drain reason=test
  run --separate-stderr bash "$clean" --dry-run
  scontrol update nodename=node2 state=resume
  ((status == 0))
  [[ $stderr == 'skipped node2: it is drained' && $output == *all* && $output != *node2* ]]
}

@test "when Slurm does not answer on a node, nothing is removed there" {
  leave_behind node1 "$disk/${old}_0"
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\nif [ -n "$SLURM_JOB_ID" ]; then %s; fi\nexec %q "$@"\n' 'echo "no controller" >&2; exit 1' \
    "$(command -v squeue)" >"$BATS_TEST_TMPDIR/bin/squeue"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/squeue"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run --separate-stderr bash "$clean"
  ((status == 1))
  [[ $stderr == *'node1: no controller'* ]]

  # If squeue does not list the current job, its answer is incomplete.
  sed -i 's/echo "no controller" >&2; exit 1/exit 0/' "$BATS_TEST_TMPDIR/bin/squeue"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run --separate-stderr bash "$clean"
  ((status == 1))
  [[ $stderr == *'which asks: nothing is removed'* ]]
  on node1 test -e "$disk/${old}_0/data/file"
  on node1 rm -rf -- "$disk/${old}_0"
}

@test "Ctrl-C cancels its jobs and says what was done" {
  sbatch --quiet --nodelist=node2 --exclusive --mem=0 --output=/dev/null --wrap='sleep 60'
  wait_until 30 no_jobs --states=PENDING,CONFIGURING
  run --separate-stderr timeout --foreground --preserve-status --signal=INT 4 bash "$clean" --dry-run
  ((status == 130))
  [[ $stderr == *'cancelled on: node2' && $output == *all* ]]
  wait_until 30 no_jobs --name=clean_nodes
  run ! ls -d "$SCRATCH"/.clean_nodes.*
}

@test "wrong input ends with a message of one line and submits nothing" {
  fails_with 1 "--partition 'nowhere': this cluster has main urgent$" bash "$clean" --partition nowhere
  fails_with 2 'unknown option .*--dryrun.*--dry-run' bash "$clean" --dryrun
  fails_with 2 "unexpected argument 'node1'" bash "$clean" node1
  fails_with 2 "--cluster 'nowhere': no such profile" bash "$clean" --cluster nowhere
  SCRATCH='' fails_with 1 'SCRATCH is not set' bash "$clean"
  SCRATCH=/nowhere fails_with 1 "cannot write into SCRATCH='/nowhere'" bash "$clean"
  [[ -z $(squeue --noheader --name=clean_nodes) ]]
}
