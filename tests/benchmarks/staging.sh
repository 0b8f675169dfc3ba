# shellcheck shell=bash
# The table `staging` of run.sh, which sources this file: the cost of --data, at submission and on the nodes. The sets are 50,000 files of
# 10.7 kB in 500 folders (small), a file of 2 GB in a folder (big), and both. Each node's disk is its own ext4 file system; in the pocket
# cluster's own folder the nodes would share one. An ext4 without a journal, as some virtual machines have, takes a millisecond to make a
# file if many were removed within the last five minutes, because it tries every inode that was used recently.
#   packing      the archives of small and big, beside `tar -cf`
#   unchanged    the second submission's work for data that is already packed, beside `find | sha256sum`
#   bringing     from the start of staging until 1, 2 and 4 nodes have all data: staging_job.sh
#   shared side  what was opened and read on the shared side meanwhile, in separate runs under strace
# Needs root, bench::time of run.sh, rsync, squashfs-tools, squashfuse and strace.

declare -g here work project results rounds # run.sh's

readonly staging_folders=500 staging_files=100 staging_file_bytes=10700 staging_big_bytes=2000000000
readonly -a staging_nodes=(1 2 4)

bench::staging() {
  data=${SCRATCH:?}/${project##*/}
  plain=$data/plain # peers' archives
  bench::staging_require
  bench::staging_make_disks
  bench::staging_make_data
  bench::staging_packing
  bench::staging_unchanged
  bench::staging_plan
  bench::staging_bringing
  bench::staging_shared_side
}

bench::staging_require() {
  local program
  ((EUID == 0)) || common::die "staging needs root, for nodes with disks of their own"
  for program in rsync mksquashfs squashfuse strace; do
    common::has_command "$program" || common::die "no $program on this machine: it is one of Debian's packages rsync, squashfs-tools, squashfuse and strace"
  done
}

# They are unmounted when the cluster stops, together with the nodes that see them.
bench::staging_make_disks() {
  local node process device
  for ((node = 1; node <= staging_nodes[-1]; node++)); do
    truncate --size=8G "$work/disk$node"
    mkfs.ext4 -q -E nodiscard "$work/disk$node"
    device=$(losetup --find --show --direct-io=on "$work/disk$node")
    read -r process _ <"$POCKET_CLUSTER_DIR/pids/node$node"
    nsenter --target "$process" --mount mount "$device" "$POCKET_CLUSTER_DIR/localscratch" || {
      losetup --detach "$device"
      common::die "cannot give node$node a disk"
    }
    losetup --detach "$device" # when it is not mounted
  done
}

bench::staging_make_data() {
  local -i folder
  mkdir -p -- "$data/small" "$data/big" "$plain"
  echo 'python -m train' >"$project/experiment_configurations.txt"
  for ((folder = 0; folder < staging_folders; folder++)); do
    mkdir -- "$data/small/$folder"
    head -c "$((staging_files * staging_file_bytes))" /dev/urandom |
      split --bytes="$staging_file_bytes" --suffix-length=3 --numeric-suffixes - "$data/small/$folder/"
  done
  head -c "$staging_big_bytes" /dev/urandom >"$data/big/file"
}

# The kit flushes what it has packed, and checks the tree before and after; `tar -cf` does neither. The first round, in which this machine
# touches its memory, is not counted.
bench::staging_packing() {
  local -r store=$work/store
  local set format round
  for ((round = -1; round < ${rounds:-3}; round++)); do
    for set in small big; do
      for format in tar squashfs; do
        bench::staging_clear "$store"
        bench::time "${set}_$format" bench::staging_pack "$store" "$format" "$set"
      done
      bench::staging_clear "$store"
      bench::time "${set}_plain" tar -cf "$store/plain.tar" -C "$data" "$set"
      bench::staging_clear "$store"
      bench::time "${set}_flushed" bench::staging_tar_and_flush "$store/plain.tar" "$set"
    done
    if ((round < 0)); then : >"$results"; fi
  done
  bench::staging_clear "$store"
  for set in small big; do
    python3 "$here/table.py" "packing $set (seconds)" 1 "${set}_plain" "$results" \
      "${set}_tar=the kit: tar" "${set}_squashfs=the kit: image" \
      "${set}_plain=tar -cf" "${set}_flushed=tar -cf, and sync of the archive"
  done
  : >"$results"
}

bench::staging_clear() {
  rm -rf -- "$1"
  mkdir -- "$1"
  sync
}

# bench::staging_pack STORE FORMAT SET   Packs as job_submitter.sh does, without its checks of the request.
bench::staging_pack() (
  source "$project/hpc/lib/files.sh"
  source "$project/hpc/lib/packing.sh"
  packing::open "$1"
  packing::describe "$data/$3" .
  packing::pack "${packing_tree[key]}" "$2" "$data/$3" . "$3"
)

bench::staging_tar_and_flush() {
  tar -cf "$1" -C "$data" "$2"
  sync -- "$1"
}

bench::staging_unchanged() {
  local round
  bench::staging_submit tar small >/dev/null 2>"$work/error" || bench::die_of job_submitter.sh
  for ((round = -1; round < ${rounds:-3}; round++)); do
    bench::time kit bench::staging_prepare small
    bench::time plain bench::staging_find_and_sum small
    bench::time with bench::staging_submit tar small
    bench::time without bash "$project/hpc/job_submitter.sh" --no-snapshot --no-preflight --begin now+1hour
    if ((round < 0)); then : >"$results"; fi
  done
  scancel --user="$(id -un)"
  python3 "$here/table.py" 'unchanged data, small (seconds)' 1 plain "$results" \
    "kit=the kit's part: check and prepare" \
    'plain=find -printf of names, sizes, times, and sha256sum' \
    'with=job_submitter.sh --no-snapshot --no-preflight --data small' \
    'without=the same without --data'
  : >"$results"
}

# bench::staging_prepare SET   Does what job_submitter.sh does for --data SET.
bench::staging_prepare() (
  local -A fact=([scratch_dir]=$data [data_format]=auto [stage_venv]='' [staging_days]=30 [staging_megabytes]=512000)
  source "$project/hpc/lib/files.sh"
  source "$project/hpc/lib/slurm.sh"
  source "$project/hpc/lib/packing.sh"
  source "$project/hpc/lib/staging.sh"
  source "$project/hpc/job_submitter/data.sh"
  options_list_data=("$1")
  data::check
  staging::prepare
)

bench::staging_find_and_sum() {
  (cd -- "$data" && find "$1" -printf '%p %s %T@\0') | sha256sum
}

# bench::staging_submit FORMAT SET...   Submits a job that does not start; its run directory has the plan.
bench::staging_submit() {
  local -r format=$1
  shift
  bash "$project/hpc/job_submitter.sh" --no-snapshot --no-preflight --begin now+1hour --num-nodes 4 --data-format "$format" --data "$@"
}

# Make a run directory of each set and format, as the submitter does, $work/plans/SET_FORMAT, and the peer's archives.
bench::staging_plan() {
  local set format job
  local -a sets
  mkdir -- "$work/plans"
  for set in small big both; do
    sets=("$set")
    if [[ $set == both ]]; then sets=(small big); else tar -cf "$plain/$set.tar" -C "$data" "$set"; fi
    for format in tar image; do
      job=$(bench::staging_submit "$format" "${sets[@]}" 2>"$work/error") || bench::die_of job_submitter.sh
      ln -s -- "$(grep -lx "$job" "$data"/hpc_outputs/*/job_id | xargs dirname)" "$work/plans/${set}_$format"
    done
  done
  scancel --user="$(id -un)"
}

# bench::staging_allocate NODES time|count SET...   Runs staging_job.sh in its own job; its lines go to results.
bench::staging_allocate() {
  salloc --quiet --nodes="$1" --ntasks-per-node=1 --cpus-per-task=4 --mem=20480M --time=60 \
    bash "$here/staging_job.sh" "$project" "$data" "$work/plans" "$work/counts" "${@:2}" >"$work/output" 2>"$work/error" ||
    bench::die_of staging_job.sh
  cat -- "$work/output" >>"$results"
}

# All nodes also stage both sets; that is the round that is not counted, as above.
bench::staging_bringing() {
  local round nodes
  bench::staging_allocate "${staging_nodes[-1]}" time both
  : >"$results"
  for ((round = 0; round < ${rounds:-3}; round++)); do
    for nodes in "${staging_nodes[@]}"; do bench::staging_allocate "$nodes" time small big; done
    bench::staging_allocate "${staging_nodes[-1]}" time both
  done
  python3 "$here/staging_table.py" time "$results" "${staging_nodes[@]}"
  : >"$results"
}

bench::staging_shared_side() {
  local nodes
  for nodes in "${staging_nodes[@]}"; do bench::staging_allocate "$nodes" count small; done
  python3 "$here/staging_table.py" count "$results" "${staging_nodes[@]}"
}
