#!/usr/bin/env bats
# Data on the nodes' own disks: what arrives there, what comes back, and that no job leaves anything, however it ends. One cluster makes a
# folder for each job there (site); on the other the kit makes it (none).

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
  # Use /tmp, because other users cannot enter the folders of bats.
  folder=$(mktemp -d /tmp/hpc_kit_test.XXXXXX)
  chmod 755 -- "$folder"
  export folder site_cluster=$POCKET_CLUSTER_DIR none_cluster=$folder/pocket
  # The two clusters must not use the same job numbers.
  mkdir -- "$none_cluster"
  echo 100000 >"$none_cluster/next_job_id"
  POCKET_CLUSTER_DIR=$none_cluster bash "$checkout/hpc/pocket_cluster.sh" up --tmpdir none 3>&- 4>&-
  # These jobs reach their time limit, which takes more than a minute; a later test waits for them.
  make_project_in "$BATS_FILE_TMPDIR"
  use_programs read_on.py
  export SCRATCH=$BATS_FILE_TMPDIR/scratch limited_jobs=''
  make_data
  local cluster
  for cluster in site none; do
    use_cluster "$cluster"
    submit -W srun --gpus 0 --time 1 --nodelist node4 --data-format image "--data=$one" --data "$two"
    limited_jobs+=" $cluster:$job"
  done
  use_cluster site
}

teardown_file() {
  POCKET_CLUSTER_DIR=$site_cluster cluster_down
  POCKET_CLUSTER_DIR=$none_cluster bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-
  rm -rf -- "$folder"
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  scratch=$SCRATCH/${project##*/}
  mkdir -p -- "$scratch"
  use_cluster site
}

teardown() {
  local cluster small
  if [[ -n ${watcher:-} ]]; then kill "$watcher" 2>/dev/null || true; fi
  for cluster in site none; do
    use_cluster "$cluster"
    cat -- "$SCRATCH"/*/hpc_outputs/*/job_id 2>/dev/null | xargs --no-run-if-empty scancel --quiet
  done
  for small in "${small_disks[@]}"; do remove_small_disk "$small"; done
}

# use_cluster site|none
use_cluster() {
  local -r cluster=${1}_cluster
  export POCKET_CLUSTER_DIR=${!cluster}
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env | grep -v ' SCRATCH=')
}

# on_each_node LINE...   Adds bash that each script of the kit on the nodes runs first, to cause faults or delays.
on_each_node() {
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf '%s\n' 'site[node_local_directory]=$POCKET_CLUSTER_DIR/localscratch' 'node_setup() {' "$@" '}' \
    >"$XDG_CONFIG_HOME/hpc_kit/clusters/pocket.sh"
}

# make_data   Makes the paths `one` and `two` on scratch, with difficult names and all kinds of entries.
make_data() {
  local name
  local -r scratch=$SCRATCH/${project##*/}
  one=$'-data "one"/it\'s\nhere\\n' two='data two'
  mkdir -p -- "$scratch/$one/closed" "$scratch/$one/empty" "$scratch/$one/sub folder"$'\n'/deep "$scratch/$two/sticky"
  for name in 'a b' "it's" '"' $'new\nline' $'new\nd line' -dash --checkpoint=1 $'\xff\xfe' "\\" '\n' '*' '$(touch canary)' ü ' ' .hidden; do
    printf '%s' "$name" >"$scratch/$one/$name"
  done
  : >"$scratch/$one/nothing"
  printf linked >"$scratch/$one/linked"
  ln -- "$scratch/$one/linked" "$scratch/$one/sub folder"$'\n'/again
  ln -- "$scratch/$one/linked" "$scratch/$one/sub folder"$'\n'/deep/'and again'
  ln -s -- 'sub folder'$'\n'/again "$scratch/$one/link"
  ln -s -- '../../data two/large' "$scratch/$one/to two"
  ln -s -- deep "$scratch/$one/sub folder"$'\n'/'to a folder'
  printf 'kept\n' >"$scratch/$one/closed/file"
  printf '#!/bin/sh\n' >"$scratch/$one/tool"
  head -c 3000000 /dev/urandom >"$scratch/$two/large"
  touch -d '1999-12-31 23:59:59.7' -- "$scratch/$one/tool"
  chmod 4751 -- "$scratch/$one/tool"
  chmod 400 -- "$scratch/$one/closed/file"
  chmod 1777 -- "$scratch/$two/sticky"
  chmod 500 -- "$scratch/$one/closed"
}

# expect_inventory   Lists all entries with `data` in their first name; the nodes must have the same.
expect_inventory() {
  python3 "$BATS_TEST_DIRNAME/programs/inventory.py" "$scratch" >"$BATS_TEST_TMPDIR/expected"
}

# send NAME OPTION...   Submits a job; keeps it, with its run directory and cluster, as NAME.
declare -gA jobs=() run_directories=() clusters=()
send() {
  submit -W srun --gpus 0 "${@:2}" 2>"$BATS_TEST_TMPDIR/said.$1" || {
    cat -- "$BATS_TEST_TMPDIR/said.$1" >&2
    return 1
  }
  jobs[$1]=$job run_directories[$1]=$run_directory clusters[$1]=$POCKET_CLUSTER_DIR
}

# recall NAME   Makes it the last submitted job again.
recall() {
  job=${jobs[$1]} run_directory=${run_directories[$1]}
  if [[ ${clusters[$1]} == "$none_cluster" ]]; then use_cluster none; else use_cluster site; fi
}

# arrived NAME SECONDS [NODE...]   The job must complete and must have found all data on each of its nodes. If nodes are named, they must be
# the job's nodes.
arrived() {
  local node
  local -a nodes
  recall "$1"
  ended "$job" "$2" COMPLETED 0:0
  mapfile -t nodes < <(scontrol show hostnames "$(job_field "$job" NodeList)")
  if (($# > 2)); then same "${nodes[*]}" "${*:3}"; fi
  for node in "${nodes[@]}"; do
    # The listing of a mounted file does not show its holes.
    run -0 diff <(sed 's/, true]$/]/; s/, false]$/]/' "$BATS_TEST_TMPDIR/expected") <(sed 's/, true]$/]/; s/, false]$/]/' "$run_directory/task_1/output/inventory.$node")
  done
  nothing_stays
}

# Prints what the job has on the nodes: folders, mounts and the servers of mounts.
traces() {
  local node process
  local_folders "$job"
  for node in "$POCKET_CLUSTER_DIR"/pids/node*; do
    process=$(cut -d ' ' -f 1 -- "$node")
    grep -E "/localscratch/[^ ]*[._]${job}[._]" "/proc/$process/mountinfo" || true
  done
  grep -lsaE "squashfuse.*$POCKET_CLUSTER_DIR/localscratch/[^/]*[._]${job}[._]" /proc/[0-9]*/cmdline || true
}

no_traces() {
  [[ -z $(traces) ]]
}

# nothing_stays   Fails and prints what stays after the job has ended. The site removes its part a moment later.
nothing_stays() {
  wait_until 5 no_traces || {
    traces >&2
    job_log >&2
    return 1
  }
}

# in_node NODE COMMAND...   Runs COMMAND where it sees the node's disks.
in_node() {
  nsenter --target "$(cut -d ' ' -f 1 -- "$POCKET_CLUSTER_DIR/pids/$1")" --mount -- "${@:2}"
}

has_own_disks() {
  bash "$checkout/hpc/pocket_cluster.sh" status | grep -q 'network hosts' || skip 'the nodes share a disk here'
}

# not_started   No rank must have run.
not_started() {
  run ! grep '^rank ' "$run_directory/task_1/log.txt"
}

@test "two paths with difficult names and a file of 5 GB with holes arrive bit by bit: read, broadcast, and as images" {
  make_data
  expect_inventory
  mkdir -- "$scratch/huge data"
  truncate --size=5G -- "$scratch/huge data/file"
  printf middle | dd of="$scratch/huge data/file" bs=1 seek=3000000000 conv=notrunc status=none
  printf end >>"$scratch/huge data/file"
  use_programs inventory.py
  send image --num-nodes 4 --data-format image "--data=$one" --data "$two"
  send read --num-nodes 4 --data-format tar --broadcast read "--data=./$one" --data "$two/" "$two/large" 'huge data'
  send sbcast --num-nodes 4 --data-format tar --broadcast sbcast "--data=$one" --data "$two"
  send huge --nodelist node2 --data-format image --data 'huge data'
  grep -xF "note: --data: 'data two/large' is in 'data two'" "$BATS_TEST_TMPDIR/said.read"
  arrived image 60 node{1..4}
  # It was mounted, not unpacked.
  run ! grep unpacking "$run_directory/task_1/log.txt"
  arrived sbcast 60 node{1..4}
  expect_inventory
  arrived read 60 node{1..4}
  (($(grep -h '"huge data/file", .* true]$' "$BATS_TEST_TMPDIR/expected" "$run_directory"/task_1/output/inventory.node{1..4} | sort -u | wc -l) == 1))
  sed -i '/^\["huge data/!d' "$BATS_TEST_TMPDIR/expected"
  arrived huge 90 node2
  [[ -z $(find "$BATS_TEST_TMPDIR" -name canary) ]]
}

@test "many small files: auto chooses an image; an archive has several parts" {
  mkdir -p -- "$scratch/many data/"{1..20}
  (cd -- "$scratch/many data" && for number in {1..20}; do (cd "$number" && seq 1020 | split --lines=1 --suffix-length=4 --additional-suffix=' x'); done)
  use_programs inventory.py
  send auto --nodelist node1 --data 'many data'
  grep "^packing 'many data' as squashfs: 20400 files" "$BATS_TEST_TMPDIR/said.auto"
  send parts --nodelist node2 --data-format tar --data 'many data'
  grep '^parts 3$' "$scratch"/.staging/*.tar.manifest
  send broadcast --nodelist node3 --data-format tar --broadcast sbcast --data 'many data'
  expect_inventory
  (($(wc -l <"$BATS_TEST_TMPDIR/expected") == 20421))
  arrived auto 60 node1
  arrived parts 60 node2
  arrived broadcast 60 node3
}

@test "two submitters at the same time pack once; a changed file is packed again, an unchanged one is not" {
  local -a submitters
  local number
  make_data
  expect_inventory
  use_programs inventory.py
  for number in 1 2; do
    submitter -W srun --gpus 0 --data-format tar "--data=$one" --data "$two" >"$BATS_TEST_TMPDIR/job.$number" 2>"$BATS_TEST_TMPDIR/said.$number" &
    submitters+=($!)
  done
  for number in 1 2; do
    wait "${submitters[number - 1]}"
    jobs[$number]=$(<"$BATS_TEST_TMPDIR/job.$number") clusters[$number]=$POCKET_CLUSTER_DIR
    run_directories[$number]=$(dirname -- "$(grep -lx "${jobs[$number]}" "$scratch"/hpc_outputs/*/job_id)")
  done
  (($(cat -- "$BATS_TEST_TMPDIR"/said.[12] | grep -c '^packed ') == 2))
  (($(cat -- "$BATS_TEST_TMPDIR"/said.[12] | grep -c ': packed before, unchanged$') == 2))

  printf changed | dd of="$scratch/$two/large" bs=1 conv=notrunc status=none
  send third --data-format tar "--data=$one" --data "$two"
  (($(grep -c '^packed ' "$BATS_TEST_TMPDIR/said.third") == 1))
  (($(grep -c ': packed before, unchanged$' "$BATS_TEST_TMPDIR/said.third") == 1))
  arrived 1 30
  arrived 2 30
  expect_inventory
  arrived third 30
}

@test "packing in a job of its own: the training waits for it, and is cancelled if it fails" {
  make_data
  expect_inventory
  mkdir -- "$scratch/data with a pipe"
  use_programs inventory.py
  send good --pack-in-job --nodelist node1 "--data=$one" --data "$two"
  [[ $(<"$BATS_TEST_TMPDIR/said.good") == *'packs the data first; its log: '"$run_directory/pack_log.txt" ]]
  send afterwards --pack-in-job --dependency "afterok:$job" --nodelist node1 "--data=$one" --data "$two"
  mkfifo -- "$scratch/data with a pipe/pipe"
  send bad --pack-in-job --data 'data with a pipe'
  wait_for_job "$job" 40
  [[ $job_states == CANCELLED && ! -s $run_directory/task_1/log.txt ]]
  grep "error: 'data with a pipe' has 1 pipes" "$run_directory/pack_log.txt"
  arrived good 60 node1
  grep "^packed " "$run_directory/pack_log.txt"
  arrived afterwards 60 node1
}

# small_disk NODE MEGABYTES [INODES]   Mounts a file system of this size as the node's own disk.
declare -ga small_disks=()
small_disk() {
  local -r node=$1 image=$BATS_TEST_TMPDIR/$1.disk
  truncate --size="$2M" -- "$image"
  mkfs.ext4 -q -F ${3:+-N "$3"} -- "$image"
  small_disks+=("$node")
  in_node "$node" mount -o loop -- "$image" "$POCKET_CLUSTER_DIR/localscratch" 2>/dev/null ||
    in_node "$node" mount -t tmpfs -o "size=$2M${3:+,nr_inodes=$3}" none "$POCKET_CLUSTER_DIR/localscratch"
  in_node "$node" chmod 1777 -- "$POCKET_CLUSTER_DIR/localscratch"
}

remove_small_disk() {
  use_cluster site
  if in_node "$1" test -e "$POCKET_CLUSTER_DIR/localscratch/lost+found"; then
    wait_until 20 in_node "$1" umount -- "$POCKET_CLUSTER_DIR/localscratch"
  fi
}

@test "a node's disk without enough space or inodes: node, needed and free are named, and nothing starts or stays" {
  has_own_disks
  small_disk node2 64
  small_disk node3 64 64
  mkdir -- "$scratch/large data" "$scratch/many data"
  head -c 100000000 /dev/urandom >"$scratch/large data/file"
  (cd -- "$scratch/many data" && seq 200 | xargs touch)
  use_programs inventory.py
  send space --nodelist node1,node2 --num-nodes 2 --data 'large data'
  send image --nodelist node1,node2 --num-nodes 2 --data-format image --data 'large data'
  send inodes --nodelist node1,node3 --num-nodes 2 --data 'many data'
  local name
  for name in space image inodes; do
    recall "$name"
    ended "$job" 30 FAILED 1:0
    not_started
    nothing_stays
  done
  for name in node2 node3; do
    [[ -z $(in_node "$name" find "$POCKET_CLUSTER_DIR/localscratch" -mindepth 1 ! -name lost+found) ]]
  done
  recall space
  job_log | grep -E "^keep_node.sh: error: no space on node2: the data need 10[0-9]MB in $POCKET_CLUSTER_DIR/localscratch/[^ ]*, and [0-9]+MB are free$"
  recall image
  job_log | grep -E '^keep_node.sh: error: no space on node2: the data need 10[0-9]MB '
  recall inodes
  job_log | grep -E '^keep_node.sh: error: no space on node3: the data are 201 files and folders, and .* has room for [0-9]+ \(inodes\); try --data-format image$'
}

@test "data that differ from what was packed are staged twice, then the job fails before a rank starts" {
  local archive
  make_data
  use_programs inventory.py
  # Both jobs are queued while their archives are damaged.
  send tar --sbatch-arg=--hold --nodelist node1,node2 --num-nodes 2 --data-format tar --data "$two"
  send image --sbatch-arg=--hold --nodelist node3 --data-format image --data "$two"
  printf more >"$scratch/$two/one more"
  send short --sbatch-arg=--hold --nodelist node4 --broadcast sbcast --data-format image --data "$two"
  archive=$(tr '\0' '\n' <"${run_directories[tar]}/staging" | sed -n 2p)
  tar --create --directory="$scratch/$two" --file="$scratch/.staging/$archive.tar" .
  truncate --size=4096 -- "$scratch/.staging/$archive.squashfs" # for the image, which takes whole pages
  archive=$(tr '\0' '\n' <"${run_directories[short]}/staging" | sed -n 2p)
  truncate --size=+4096 -- "$scratch/.staging/$archive.squashfs"
  local name
  for name in tar image short; do scontrol release "${jobs[$name]}"; done
  for name in tar image short; do
    recall "$name"
    ended "$job" 30 FAILED 1:0
    not_started
    nothing_stays
    job_log | grep "^keep_node.sh: error: node[1-4]: 'data two' does not arrive as it was packed; is the disk of "
  done
  recall tar
  local node
  for node in node1 node2; do
    (($(job_log | grep -c "^keep_node.sh: warning: $node: 'data two' has not arrived as it was: 2 files, 2 folders, 0 links, 3000004 bytes; 1, 2, 0, 3000000 were packed (try [12])$") == 2))
  done
  recall image
  (($(job_log | grep -c "has not arrived as it was: an image of 4096 bytes in place of [0-9]* (try [12])$") == 2))
}

@test "no rank starts before all nodes have their data" {
  make_data
  use_programs inventory.py
  on_each_node 'tar() { if [[ $SLURMD_NODENAME == node2 ]]; then sleep 3; fi' 'command tar "$@"' \
    'date +%s.%N >>"$run_directory/unpacked"; }'
  send late --nodelist node1,node2,node3 --num-nodes 3 --data-format tar "--data=$one" --data "$two"
  expect_inventory
  arrived late 30 node{1,2,3}
  (($(wc -l <"$run_directory/unpacked") == 6))
  local began last
  last=$(sort -n -- "$run_directory/unpacked" | tail -n 1)
  for began in "$run_directory"/task_1/output/began.*; do
    [[ $(printf '%s\n' "$last" "$(<"$began")" | sort -n | head -n 1) == "$last" ]]
  done
}

# wait_for_reading   Waits until the ranks have read the data once.
wait_for_reading() {
  wait_until 90 grep -qs 'right: ' "$run_directory/task_1/output/read.0"
}

# read_for SECONDS FILE   Succeeds if the rank of attempt 0, which has written FILE, read without failure until more than SECONDS after its notice.
read_for() {
  awk -v seconds="$1" '
    / attempt 0 told / && !told { told = $1 }
    / attempt 0 .* failed/ { bad = !told || $1 - told <= seconds; if (bad) exit }
    / attempt 0 told right: / { last = $1 }
    END { exit bad || last - told <= seconds }' "$2"
}

# batch_script   Prints the process of the last job's batch script, not a fork of it, which has the same arguments.
batch_script() {
  local process parent
  for process in /proc/[0-9]*; do
    if ! runs_batch_script "$process"; then continue; fi
    parent=$(sed -n 's/^PPid:[[:blank:]]*//p' "$process/status")
    if ! runs_batch_script "/proc/$parent"; then
      printf '%s\n' "${process##*/}"
      return
    fi
  done
  return 1
}

runs_batch_script() {
  [[ $(tr '\0' '\n' 2>/dev/null <"$1/cmdline") == *slurm_script$'\n'"$run_directory" ]]
}

@test "scancel, a killed batch script, a preemption: nothing stays, also during staging; a preempted job can read its data to the end" {
  local cluster name
  local -A urgent=()
  make_data
  use_programs read_on.py
  on_each_node 'tar() { if [[ -n ${SLOW:-} && ${SLURM_RESTART_COUNT:-0} == 0 ]]; then sleep 5; fi' 'command tar "$@"; }'
  for cluster in site none; do
    use_cluster "$cluster"
    send "preempted $cluster" --nodelist node3 --cpus 16 --mem 1G --data-format image "--data=$one" --data "$two"
    send "cancelled $cluster" --nodelist node1,node2 --num-nodes 2 --data-format image "--data=$one" --data "$two"
    send "killed $cluster" --nodelist node1,node2 --num-nodes 2 --data-format image "--data=$one" --data "$two"
  done
  for cluster in site none; do
    for name in preempted cancelled killed; do
      recall "$name $cluster"
      wait_for_reading
      traces | grep -E ' fuse[. ]'
    done
    SLOW=1 send "bringing $cluster" --nodelist node1 --data-format tar "--data=$one" --data "$two"
    SLOW=1 send "early $cluster" --nodelist node2 --cpus 10 --data-format tar "--data=$one" --data "$two"
    for name in bringing early; do
      recall "$name $cluster"
      wait_until 10 is_bringing
    done
    urgent[$cluster]=$(sbatch --parsable --partition=urgent --nodelist=node3 --cpus-per-task=16 --mem=100M --chdir=/ --output=/dev/null --wrap='sleep 600')
    sbatch --partition=urgent --nodelist=node2 --cpus-per-task=10 --mem=100M --chdir=/ --output=/dev/null --wrap='sleep 1'
    recall "bringing $cluster"
    scancel "$job"
    recall "cancelled $cluster"
    scancel "$job"
    recall "killed $cluster"
    kill -s KILL "$(batch_script)"
  done
  # KillWait is 10 s; allow more, because the machine may be busy.
  SECONDS=0
  for cluster in site none; do
    for name in bringing cancelled killed; do
      recall "$name $cluster"
      wait_for_job "$job" 60
      nothing_stays
    done
  done
  ((SECONDS <= $(patience 60)))
  for cluster in site none; do
    recall "preempted $cluster"
    wait_until 40 state_is "${urgent[$cluster]}" RUNNING
    nothing_stays
    scancel "${urgent[$cluster]}"
    # After the notice it must still read for the grace time. Then Slurm kills all processes, the image's daemon perhaps before the rank.
    read_for 10 "$run_directory/task_1/output/read.0"
    ended "$job" 60 COMPLETED 0:0
    grep 'attempt 1 .* right: ' "$run_directory/task_1/output/read.0"
    nothing_stays
    # A job that was preempted during staging is requeued, too.
    recall "early $cluster"
    ended "$job" 60 COMPLETED 0:0
    [[ $(restarts "$job") == 1 ]]
    nothing_stays
  done
}

# The last job has its folder on a node and no rank yet.
is_bringing() {
  compgen -G "$POCKET_CLUSTER_DIR/disks/*/*[._]${job}[._]*/.hpc_kit/archives"
}

# state_is JOB PATTERN
state_is() {
  job_field "$1" JobState | grep -qx "$2"
}

@test "the time limit: nothing stays" {
  local limited
  for limited in $limited_jobs; do
    use_cluster "${limited%%:*}"
    job=${limited#*:}
    wait_for_job "$job" 130
    [[ $job_states == TIMEOUT ]]
    wait_until 5 no_traces
  done
}

@test "a node that died: its job finds the data again, and a later job removes what another job left there" {
  has_own_disks
  make_data
  use_cluster none
  use_programs read_on.py
  on_each_node 'brought() { echo "$SLURMD_NODENAME ${SLURM_RESTART_COUNT:-0}" >>"$run_directory/brought"; }' \
    'tar() { brought; command tar "$@"; }' 'cp() { brought; command cp "$@"; }'
  send again --nodelist node2,node3 --num-nodes 2 --data-format tar "--data=$one" --data "$two"
  send images --nodelist node3 --data-format image "--data=$one" --data "$two"
  send left --nodelist node3 --data-format image "--data=$one" --data "$two"
  local name
  for name in again images left; do
    recall "$name"
    wait_for_reading
  done
  # End all processes of the node, as a power cut does.
  kill -s KILL "$(cut -d ' ' -f 1 -- "$POCKET_CLUSTER_DIR/pids/node3")"
  scancel "${jobs[left]}"
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&-
  recall left
  wait_for_job "$job" 30
  for name in again images; do
    recall "$name"
    ended "$job" 60 COMPLETED 0:0
    [[ $(job_field "$job" Restarts) == 1 ]]
    grep 'attempt 1 .* right: ' "$run_directory/task_1/output/read.0"
    nothing_stays
  done
  recall again
  (($(grep -c '^node3: .* is there from an earlier attempt$' "$run_directory/task_1/log.txt") == 2))
  same "$(sort -u -- "$run_directory/brought")" $'node2 0\nnode2 1\nnode3 0'
  recall images
  same "$(sort -u -- "$run_directory/brought")" 'node3 0'
  (($(grep -c '^node3: .* is there from an earlier attempt$' "$run_directory/task_1/log.txt") == 2))
  cat -- "${run_directories[again]}/task_1/log.txt" "${run_directories[images]}/task_1/log.txt" |
    grep -xF "node3: removing $POCKET_CLUSTER_DIR/localscratch/$(id -un)_${jobs[left]}_0, which a job of yours has left"
  recall left
  nothing_stays
}

# Tests of results.sh: files that a program leaves in SLURM_TMPDIR.
make_results_program() {
  mkdir -p -- "$project/programs"
  cat >"$project/programs/results.sh" <<'PROGRAM'
cd -- "$SLURM_TMPDIR" || exit
mkdir -p "results/a folder/deep" "data two/mine"
for number in $(seq 300); do printf '%s' "$number" >"results/file $number"; done
printf 'x' >"results/a folder/deep/it's
new"
printf 'y' >-dash.log
printf 'z' >other.txt
chmod 500 "results/a folder/deep"
touch "$OUTPUT_PATH/here.$RANK"
case $1 in
  end) ;;
  fail) # when the other has all, too: the first failure ends it
    until [ -e "$OUTPUT_PATH/here.0" ] && [ -e "$OUTPUT_PATH/here.1" ]; do sleep 0.1; done
    exit 7
    ;;
  stay)
    trap '' TERM
    sleep 100 &
    while :; do wait; done
    ;;
esac
PROGRAM
}

@test "results come back complete: at the end, after a failure, after a cancel; staged data do not" {
  local how name node
  make_data
  make_results_program
  for how in end fail stay; do
    experiments "bash programs/results.sh $how"
    use_cluster none
    if [[ $how == fail ]]; then use_cluster site; fi
    send "$how" --nodelist node1,node2 --num-nodes 2 --data-format tar --data "$two" --collect 'results/**' '*.log' 'data*' 'none*'
  done
  watch_collected 3>&- 4>&- &
  watcher=$!
  recall stay
  wait_until 30 test -e "$run_directory/task_1/output/here.0" -a -e "$run_directory/task_1/output/here.1"
  scancel "$job"
  for how in end fail stay; do
    recall "$how"
    wait_for_job "$job" 30
    nothing_stays
    for node in node1 node2; do
      same "$(cd -- "$run_directory/task_1/attempt_0/collected/$node" && find . -type f ! -name 'file *' | LC_ALL=C sort)" $'./-dash.log\n./results/a folder/deep/it\'s\nnew'
      (($(find "$run_directory/task_1/attempt_0/collected/$node/results" -name 'file *' | wc -l) == 300))
      [[ $(<"$run_directory/task_1/attempt_0/collected/$node/results/file 300") == 300 ]]
    done
    same "$(ls -A -- "$run_directory/task_1/attempt_0/collected")" $'node1\nnode2'
    grep "^--collect 'none\*': nothing on node1$" "$run_directory/task_1/log.txt"
  done
  recall fail
  same "$(job_field "$job" ExitCode)" 7:0
  kill "$watcher"
  # Whoever looked always saw all files.
  [[ -s $BATS_TEST_TMPDIR/seen ]]
  run ! grep -vx 302 "$BATS_TEST_TMPDIR/seen"
}

# Prints again and again how many files each folder of results has.
watch_collected() {
  local found
  while :; do
    for found in "$scratch"/hpc_outputs/*/task_1/attempt_0/collected/node*; do
      if [[ -d $found ]]; then find "$found" -type f -printf x | wc -c; fi
    done >>"$BATS_TEST_TMPDIR/seen"
    sleep 0.02
  done
}

# Make a small environment in place of the project's own. It has torch from the real one, and two scripts as pip makes them.
make_environment() {
  local real environment
  use_libraries common environment
  environment=$(environment::find "$project")
  real=$(realpath -- "$environment")
  rm -- "$project/.venv"
  mkdir -- "$project/.venv"
  "$real/bin/python" -m venv --without-pip "$environment" # torch is for that Python
  "$real/bin/python" - "$environment" <<'PYTHON'
import pathlib, site, sys
from pip._vendor.distlib.scripts import ScriptMaker
environment = pathlib.Path(sys.argv[1])
packages = next(environment.glob("lib/python*/site-packages"))
(packages / "real.pth").write_text(site.getsitepackages()[0])
(packages / "mine.py").write_text("import sys\ndef main():\n    print('script', sys.prefix, __file__, sys.argv[1:], flush=True)\n")
maker = ScriptMaker(None, str(environment / "bin"))
maker.executable = str(environment / "bin/python")
maker.variants = {""}
maker.make("mine = mine:main")
maker.make("torchrun = torch.distributed.run:main")
PYTHON
}

@test "the environment on the node's disk: python, torchrun and a script run from there, in a path with spaces" {
  local format prefix
  make_environment
  mkdir -p -- "$project/programs"
  cat >"$project/programs/where.sh" <<'PROGRAM'
mine 'a  b' ''
python -c 'import mine, sys; print("python", sys.prefix, mine.__file__, sys.executable, flush=True)'
if [ "$LOCAL_RANK" = 0 ]; then torchrun --standalone --nproc-per-node=2 --no-python sh -c 'echo "torchrun $RANK of $WORLD_SIZE: $(command -v python)"'; fi
PROGRAM
  experiments 'bash programs/where.sh'
  send tar --nodelist node1 --stage-venv --data-format tar
  use_cluster none
  send image --nodelist node2 --stage-venv --data-format image --pack-in-job
  # Run one job under torchrun, too.
  submit --gpus 0 --nodelist node3 --stage-venv
  jobs[torchrun]=$job run_directories[torchrun]=$run_directory clusters[torchrun]=$POCKET_CLUSTER_DIR
  for format in tar image torchrun; do
    recall "$format"
    ended "$job" 90 COMPLETED 0:0
    nothing_stays
    prefix=$POCKET_CLUSTER_DIR/localscratch/$(id -un)_${job}_0/.hpc_kit/environment
    if [[ $format == tar ]]; then prefix=$POCKET_CLUSTER_DIR/localscratch/$(id -un).$job.0/.hpc_kit/environment; fi
    job_log | grep -xE "script $prefix $prefix/lib/python[0-9.]*/site-packages/mine.py \['a  b', ''\]"
    job_log | grep -xE "python $prefix $prefix/lib/python[0-9.]*/site-packages/mine.py $prefix/bin/python"
    job_log | grep -xF "torchrun 1 of 2: $prefix/bin/python"
  done
  # The job that packed it packed nothing else.
  same "$(tr '\0' '\n' <"${run_directories[image]}/staging" | wc -l)" 4
}

@test "an ordinary user's data: archive and image; what a dead job of this user left is removed" {
  ((EUID == 0)) || skip 'only root can be somebody else'
  local -r user=nobody
  use_cluster none
  # This user may not be able to read the checkout, its environment and the Python of that environment.
  local python
  for python in "$(command -v python3)" /usr/bin/python3; do
    if runuser -u "$user" -- "$python" -c '' 2>/dev/null; then break; fi
  done
  "$python" -m venv --without-pip "$folder/environment"
  mkdir -p -- "$folder"/{home,config/hpc_kit/clusters,scratch}
  export XDG_CONFIG_HOME=$folder/config
  printf '%s\n' "site[environment]=${folder@Q}/environment" 'site[node_local_directory]=$POCKET_CLUSTER_DIR/localscratch' \
    >"$XDG_CONFIG_HOME/hpc_kit/clusters/pocket.sh"
  make_project_in "$folder"
  rm -- "$project/.venv"
  export SCRATCH=$folder/scratch
  scratch=$SCRATCH/${project##*/}
  mkdir -p -- "$scratch"
  make_data
  use_programs inventory.py
  chown -R -- "$user": "$folder"/{home,scratch,environment} "$project"
  expect_inventory
  in_node node1 install -d -o "$user" "$POCKET_CLUSTER_DIR/localscratch/${user}_900001_0" "$POCKET_CLUSTER_DIR/localscratch/${user}_900001_0/data"
  in_node node1 install -d "$POCKET_CLUSTER_DIR/localscratch/${user}_900002_0" # another's
  local format
  for format in tar image; do
    run --separate-stderr runuser -u "$user" -- env HOME="$folder/home" bash -c '
      source <(bash "$1/hpc/pocket_cluster.sh" env | grep -v " SCRATCH=")
      cd -- "$1"
      exec bash hpc/job_submitter.sh -W srun --gpus 0 --num-nodes 2 --nodelist node1,node2 --data-format "$4" "--data=$2" --data "$3"' \
      - "$project" "$one" "$two" "$format" 3>&- 4>&-
    printf '%s\n' "$stderr" >&2
    ((status == 0))
    jobs[$format]=$output clusters[$format]=$POCKET_CLUSTER_DIR
    run_directories[$format]=$(dirname -- "$(grep -lx "$output" "$scratch"/hpc_outputs/*/job_id)")
  done
  for format in tar image; do
    arrived "$format" 60 node{1,2}
    [[ $(job_field "$job" UserId) == "$user("* ]]
  done
  in_node node1 test ! -e "$POCKET_CLUSTER_DIR/localscratch/${user}_900001_0"
  in_node node1 test -e "$POCKET_CLUSTER_DIR/localscratch/${user}_900002_0"
  in_node node1 rmdir "$POCKET_CLUSTER_DIR/localscratch/${user}_900002_0"
}
