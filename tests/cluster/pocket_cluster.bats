#!/usr/bin/env bats
# hpc/pocket_cluster.sh: what it gives to jobs, which failures it survives, and what it leaves. The clusters belong to this file; the names
# of their folders have a space and a quote.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup_file() {
  # Do not use bats' own folder, which other users cannot enter.
  folder=$(mktemp -d "$BATS_TMPDIR/it's a test.XXXXXX")
  chmod 755 -- "$folder"
  # Other users may not be able to enter the checkout's folder either.
  mkdir -- "$folder.kit"
  cp -R -- "$checkout/hpc" "$folder.kit/"
  chmod -R a+rX -- "$folder.kit"
  export folder POCKET_CLUSTER_DIR="$folder/first cluster"
  pocket up --nodes 3 --gpus-per-node 2
}

teardown_file() {
  local cluster
  for cluster in "$folder"/*/; do
    POCKET_CLUSTER_DIR=$cluster pocket down
    as_user env -u BASH_ENV POCKET_CLUSTER_DIR="$cluster" bash "$folder.kit/hpc/pocket_cluster.sh" down || true
  done
  rm -rf -- "$folder" "$folder.kit"
}

setup() {
  use env
}

teardown() {
  [[ -e $conf ]] || return 0
  slurm scancel --full --signal=KILL --state=RUNNING --user="$(id -un)"
  slurm scancel --user="$(id -un)"
  SLURM_CONF=$conf wait_until 20 no_jobs
}

# pocket VERB...   Descriptors 3 and 4 stay open on purpose: bats waits for every process that holds them.
pocket() {
  bash "$folder.kit/hpc/pocket_cluster.sh" "$@"
}

# use [COMMAND...]   Sets `conf`, as another user with COMMAND. It is not exported, so that `processes` finds the processes of the cluster
# and not those of the test.
use() {
  conf=$("$@" bash "$folder.kit/hpc/pocket_cluster.sh" env | sed -n "s/^export SLURM_CONF='\\(.*\\)'$/\\1/p")
}

slurm() {
  SLURM_CONF=$conf "$@"
}

as_user() {
  runuser -u daemon -- "$@"
}

state() {
  slurm squeue --noheader --states=all --jobs="$1" --format=%T
}

is() {
  [[ $(state "$2") == "$1" ]]
}

has() {
  grep -qs -- "$2" "$1"
}

# Prints all processes of the cluster of $conf: each has that path in its arguments or its environment.
processes() {
  grep -lsF -f <(printf '%s/\n' "${conf%/etc/slurm.conf}") /proc/[0-9]*/{cmdline,environ} | cut -d/ -f3 | sort -u
}

form() {
  sed -n 's/^network=//p' "$POCKET_CLUSTER_DIR/cluster"
}

no_mount() {
  ! grep -F cluster /proc/mounts
}

needs_hosts() {
  [[ $(form) == hosts ]] || skip 'no network namespaces here'
}

@test "wrong options end with status 2 and a message of one line" {
  fails_with 2 'say what to do' pocket
  fails_with 2 "unknown command 'start'" pocket start
  fails_with 2 "unknown option '--node'" pocket up --node 3
  fails_with 2 'needs a value' pocket up --nodes
  fails_with 2 "'banana' is not a whole number" pocket up --nodes banana
  fails_with 2 "'0' is not a whole number" pocket up --nodes=0
  fails_with 2 "'17' is not a whole number" pocket up --gpus-per-node 17
  fails_with 2 "'201' is not a whole number" pocket up --nodes 201
  fails_with 2 'is not a name' pocket up --gpu-type 'a b'
  fails_with 2 "'wifi' is none of: auto, hosts" pocket up --network wifi
  fails_with 2 "'' is none of: site" pocket up --tmpdir ''
  fails_with 2 "'maybe' is none of: no, yes" pocket up --accounting=maybe
  fails_with 2 'no options' pocket down --all
  [[ $(pocket --help) == *--gpus-per-node* ]]
}

@test "where no cluster is up, env and status fail and down has nothing to do" {
  export POCKET_CLUSTER_DIR=$folder/none
  fails_with 1 'no pocket cluster is up' pocket env
  fails_with 1 'no pocket cluster is up' pocket status
  pocket down
  [[ ! -e $folder/none ]]
}

@test "a folder that holds something else, or belongs to another user, is refused and not changed" {
  mkdir -- "$folder/taken"
  touch -- "$folder/taken/thesis"
  chmod 700 -- "$folder/taken"
  POCKET_CLUSTER_DIR=$folder/taken fails_with 1 thesis pocket up
  [[ $(stat -c %a -- "$folder/taken") == 700 && $(ls -A -- "$folder/taken") == thesis ]]
  ((EUID == 0)) || skip 'only root can be somebody else'
  fails_with 1 'belongs to root' as_user env -u BASH_ENV POCKET_CLUSTER_DIR="$POCKET_CLUSTER_DIR" bash "$folder.kit/hpc/pocket_cluster.sh" up
  fails_with 1 'belongs to root' as_user env -u BASH_ENV POCKET_CLUSTER_DIR="$POCKET_CLUSTER_DIR" bash "$folder.kit/hpc/pocket_cluster.sh" down
}

@test "a second up is quick and changes nothing; with other options it is refused; several at once make one cluster" {
  local before
  before=$(processes)
  SECONDS=0
  pocket up
  pocket up --nodes=3 --network auto
  ((SECONDS < $(patience 5)))
  fails_with 1 'nodes 3, not 2' pocket up --nodes 2
  pocket up 2>/dev/null &
  pocket up 2>/dev/null &
  wait
  [[ $(processes) == "$before" ]]
  run --separate-stderr pocket status
  ((status == 0))
  [[ $output == *"network $(form)"* && $output =~ slurmctld\ +[0-9]+ && $output =~ node3\ +[0-9]+\ +[0-9.]+\ +IDLE ]]
}

@test "env prints shell code that leads to the cluster" {
  (
    cd /
    eval "$(pocket env)"
    [[ $POCKET_CLUSTER_DIR == "$folder/first cluster" && -w ${SCRATCH:?} ]]
    [[ $(sinfo --noheader --format=%P) == $'main*\nurgent' && $(sinfo --noheader --partition=main --format=%D) == 3 ]]
  )
}

@test "hosts: each node has its own address, host name, table of hosts, disk and shared memory" {
  needs_hosts
  local -r disk=$POCKET_CLUSTER_DIR/localscratch
  local name address
  slurm srun -N3 sh -c 'echo "$(hostname) $(hostname --ip-address)"; hostname >"$1/mine"; sleep 0.3; cat "$1/mine"; rm "$1/mine"' sh "$disk" | sort >"$BATS_TEST_TMPDIR/out"
  [[ $(wc -l <"$BATS_TEST_TMPDIR/out") == 6 && $(sort -u "$BATS_TEST_TMPDIR/out" | wc -l) == 6 ]]
  for name in node1 node2 node3; do
    # The second address is its IPv6 form, which the table also has.
    address=$(slurm scontrol -o show node "$name" | sed -E 's/.* NodeAddr=([^ ]+) .*/\1/')
    grep -qxE "$name $address( ::ffff:$address)?" "$BATS_TEST_TMPDIR/out"
    [[ $(slurm srun -w node1 getent hosts "$name" | wc -l) == 1 ]]
  done
  slurm srun -w node1 sh -c 'touch "/dev/shm/of_node1_$1" && ls /dev/shm' sh "$$" >"$BATS_TEST_TMPDIR/shared"
  [[ $(<"$BATS_TEST_TMPDIR/shared") == "of_node1_$$" && ! -e /dev/shm/of_node1_$$ && -z $(slurm srun -w node2 ls /dev/shm) ]]
  slurm srun -w node1 bash -c 'exec 3<>"/dev/tcp/node2/$1"' - "$(slurm scontrol -o show node node2 | sed -E 's/.* Port=([0-9]+) .*/\1/')"
  [[ -z $(ls -A -- "$disk") ]]
  no_mount
}

@test "SLURM_TMPDIR belongs to the node and the job, and is removed with the job" {
  slurm srun -N3 sh -c 'stat -c "%a %U %n" "$SLURM_TMPDIR"; mkdir -p "$SLURM_TMPDIR/a/b"; chmod 500 "$SLURM_TMPDIR/a"; sleep 0.3; ls "$SLURM_TMPDIR"' >"$BATS_TEST_TMPDIR/out"
  [[ $(grep -cE "^700 $(id -un) $POCKET_CLUSTER_DIR/localscratch/.*$(id -un)\.[0-9]+\.0$" "$BATS_TEST_TMPDIR/out") == 3 ]]
  [[ $(grep -cx a "$BATS_TEST_TMPDIR/out") == 3 ]]
  job=$(slurm sbatch --parsable --output="$BATS_TEST_TMPDIR/batch" --wrap 'touch "$SLURM_TMPDIR/x" && echo "$SLURM_TMPDIR"')
  wait_until 10 is COMPLETED "$job"
  has "$BATS_TEST_TMPDIR/batch" "/$(id -un).$job.0$"
  none_left() { [[ -z $(find "$POCKET_CLUSTER_DIR"/{disks,localscratch} -mindepth 2 2>/dev/null) ]]; }
  wait_until 5 none_left
}

@test "GPUs that do not exist are allocated, each only once" {
  [[ $(slurm srun -N1 --gres=gpu:v100l:2 sh -c 'echo "$CUDA_VISIBLE_DEVICES"') == 0,1 ]]
  run slurm srun -N1 --gres=gpu:3 true
  ((status != 0))
  [[ $output == *'not available'* ]]
  local first second
  first=$(slurm sbatch --parsable --nodelist=node1 --gres=gpu:2 --output=/dev/null --wrap 'sleep 30')
  second=$(slurm sbatch --parsable --nodelist=node1 --gres=gpu:1 --output=/dev/null --wrap true)
  wait_until 10 is RUNNING "$first"
  sleep 2
  is PENDING "$second"
  slurm scancel "$first"
  wait_until 20 is COMPLETED "$second"
}

@test "requeue and preemption: SIGTERM at once, the node after the grace time, and jobs run again within seconds" {
  local preempted requeued urgent
  cat >"$BATS_TEST_TMPDIR/job" <<'JOB'
#!/bin/bash
echo "attempt ${SLURM_RESTART_COUNT:-0}"
srun bash -c 'trap "echo rank got TERM; exit 75" TERM; echo ready; sleep 100 & wait'
sleep 100
JOB
  preempted=$(slurm sbatch --parsable --nodelist=node1,node2 --exclusive --open-mode=append \
    --output="$BATS_TEST_TMPDIR/preempted" "$BATS_TEST_TMPDIR/job")
  requeued=$(slurm sbatch --parsable --nodelist=node3 --open-mode=append --output="$BATS_TEST_TMPDIR/requeued" \
    --wrap 'echo "attempt ${SLURM_RESTART_COUNT:-0}"; sleep 600')
  wait_until 10 has "$BATS_TEST_TMPDIR/preempted" ready
  wait_until 10 has "$BATS_TEST_TMPDIR/requeued" 'attempt 0'

  urgent=$(slurm sbatch --parsable --partition=urgent --nodelist=node2 --exclusive --output=/dev/null --wrap true)
  slurm scontrol requeue "$requeued"
  wait_until 5 has "$BATS_TEST_TMPDIR/preempted" 'rank got TERM'
  wait_until 15 has "$BATS_TEST_TMPDIR/requeued" 'attempt 1'
  wait_until 30 is COMPLETED "$urgent"
  wait_until 20 has "$BATS_TEST_TMPDIR/preempted" 'attempt 1'
  is RUNNING "$preempted"
}

@test "up repairs: a dead node, whose job runs again; a dead controller and munged; a drained node" {
  job=$(slurm sbatch --parsable --nodelist=node2 --open-mode=append --output="$BATS_TEST_TMPDIR/log" --wrap 'echo "attempt ${SLURM_RESTART_COUNT:-0}"; sleep 600')
  wait_until 10 has "$BATS_TEST_TMPDIR/log" 'attempt 0'
  kill -KILL "$(cut -d' ' -f1 "$POCKET_CLUSTER_DIR/pids/node2")"
  wait_until 5 fails_with_dead node2
  pocket up
  pocket status
  if [[ $(form) == hosts ]]; then wait_until 15 has "$BATS_TEST_TMPDIR/log" 'attempt 1'; fi
  slurm scancel "$job"

  kill -KILL "$(cut -d' ' -f1 "$POCKET_CLUSTER_DIR/pids/slurmctld")" "$(cut -d' ' -f1 "$POCKET_CLUSTER_DIR/pids/munged")"
  wait_until 5 fails_with_dead munged
  fails_with 1 slurmctld pocket env
  slurm_up=$(pocket up 2>&1)
  [[ $slurm_up == *'is up'* ]]
  slurm scontrol update nodename=node3 state=drain reason=test
  pocket up
  pocket status
  [[ $(slurm srun -N3 true && echo ran) == ran ]]
}

fails_with_dead() {
  run pocket status
  ((status == 1)) && [[ $output =~ $1\ +dead ]]
}

@test "all processes are gone, as after a reboot: up starts the cluster as it was, and jobs continue" {
  job=$(slurm sbatch --parsable --begin=now+1hour --output=/dev/null --wrap true)
  sleep 6 # Slurm saves its state every few seconds
  local -a pids
  mapfile -t pids < <(cut -d' ' -f1 "$POCKET_CLUSTER_DIR"/pids/*)
  kill -KILL "${pids[@]}"
  wait_until 5 fails_with_dead slurmctld
  pocket up
  use env
  pocket status
  is PENDING "$job"
  slurm scancel "$job"
}

@test "an ordinary user submits to the cluster that root started" {
  ((EUID == 0)) || skip 'only root can be somebody else'
  needs_hosts
  run --separate-stderr as_user bash -c 'cd /; eval "$(bash "$1/hpc/pocket_cluster.sh" env)" && stat -c "%a %U" "$SCRATCH" && srun -N2 sh -c "id -un; stat -c %U \"\$SLURM_TMPDIR\""' - "$folder.kit"
  [[ $output == $'755 daemon\ndaemon\ndaemon\ndaemon\ndaemon' ]]
}

# ignores_none PROCESS   Checks with the kernel's mask that it ignores none of HUP, INT, QUIT, USR1 and TERM.
ignores_none() {
  (((16#$(sed -n 's/^SigIgn:[[:space:]]*//p' "/proc/$1/status") & 16#4207) == 0))
}

@test "up under nohup, or in a script that ignores signals: its daemons and jobs ignore no signals" {
  export POCKET_CLUSTER_DIR="$folder/nohup cluster"
  local form process count mask
  # Test the second form also on a machine whose env does not know --default-signal.
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\nif [ "$1" = --default-signal ]; then exit 125; fi\nexec /usr/bin/env "$@"\n' >"$BATS_TEST_TMPDIR/bin/env"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/env"
  for form in auto loopback; do
    (
      trap '' HUP INT QUIT USR1 TERM
      if [[ $form == loopback ]]; then PATH=$BATS_TEST_TMPDIR/bin:$PATH; fi
      pocket up --nodes 1 --network "$form"
    )
    use env
    count=0
    for process in $(processes); do
      if [[ $(<"/proc/$process/comm") == @(munged|slurmctld|slurmd) ]]; then
        ignores_none "$process"
        count=$((count + 1))
      fi
    done
    ((count >= 3))
    mask=$(slurm srun sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status)
    (((16#$mask & 16#4207) == 0))
    job=$(slurm sbatch --parsable --output="$BATS_TEST_TMPDIR/$form" --wrap 'trap "echo got INT" INT; kill -INT $$')
    wait_until 20 is COMPLETED "$job"
    has "$BATS_TEST_TMPDIR/$form" 'got INT'
    pocket down
  done
}

@test "64 nodes on loopback at the same time as the first cluster, without GPUs and SLURM_TMPDIR" {
  local -r first=$conf
  export POCKET_CLUSTER_DIR="$folder/second cluster"
  SECONDS=0
  pocket up --nodes 64 --network loopback --gpus-per-node 0 --tmpdir none
  ((SECONDS < $(patience 15)))
  use env
  [[ $conf != "$first" ]]
  slurm srun -N64 sh -c 'echo "$SLURMD_NODENAME ${SLURM_TMPDIR:-none}"' >"$BATS_TEST_TMPDIR/out"
  [[ $(sort -u "$BATS_TEST_TMPDIR/out" | wc -l) == 64 ]]
  ! grep -v ' none$' "$BATS_TEST_TMPDIR/out" || false
  pocket down
  [[ -z $(processes) ]]
  POCKET_CLUSTER_DIR="$folder/first cluster" pocket status
}

@test "an ordinary user's own cluster; down ends what a job detached" {
  local -r mine="$folder/nobody's cluster"
  local -a whoever=(env)
  mkdir -- "$mine"
  if ((EUID == 0)); then
    chown daemon: "$mine"
    whoever=(as_user env)
  fi
  export POCKET_CLUSTER_DIR=$mine
  "${whoever[@]}" bash "$folder.kit/hpc/pocket_cluster.sh" up --nodes 2 --network=loopback
  use "${whoever[@]}"
  job=$("${whoever[@]}" SLURM_CONF="$conf" sbatch --chdir=/ --parsable --output="$mine/scratch/log" --wrap 'srun setsid sleep 1234 & setsid sleep 1234 & wait')
  both() { (($(processes | xargs -I{} cat /proc/{}/cmdline 2>/dev/null | tr '\0' ' ' | grep -o 'sleep 1234' | wc -l) >= 2)); }
  wait_until 10 both
  "${whoever[@]}" bash "$folder.kit/hpc/pocket_cluster.sh" status
  "${whoever[@]}" bash "$folder.kit/hpc/pocket_cluster.sh" down
  [[ -z $(processes) ]]
}

@test "an up or down that was interrupted or killed leaves nothing that the next one cannot handle" {
  export POCKET_CLUSTER_DIR="$folder/third cluster"
  local how
  for how in 'TERM 0.05' 'INT 0.1' 'TERM 0.15' 'INT 0.2' 'TERM 0.25' 'TERM 0.35' 'INT 0.5'; do
    timeout --signal="${how% *}" "${how#* }" bash "$folder.kit/hpc/pocket_cluster.sh" up --nodes 2 || true
    if [[ $how == *.25 ]]; then pocket down; else pocket up; fi
    timeout --signal="${how% *}" 0.08 bash "$folder.kit/hpc/pocket_cluster.sh" down || true
  done
  pocket up
  use env
  [[ $(slurm srun -N2 true && echo ran) == ran ]]
  pocket down
  [[ -z $(processes) ]]
}

@test "down leaves no process, mount, interface or file but results and logs; ids of jobs continue" {
  local interface
  interface=$(sed -n 's/^interface=//p' "$POCKET_CLUSTER_DIR/cluster")
  job=$(slurm sbatch --parsable -N3 --output=/dev/null --wrap 'setsid sleep 1234 & srun sleep 1234')
  wait_until 10 is RUNNING "$job"
  touch -- "$POCKET_CLUSTER_DIR/scratch/result"
  (cd / && pocket down)
  [[ -z $(processes) ]]
  [[ ! -e ${conf%/etc/slurm.conf} && ! -L ${conf%/etc/slurm.conf} ]]
  [[ -z $interface || ! -e /sys/class/net/$interface ]]
  no_mount
  [[ $(ls -A -- "$POCKET_CLUSTER_DIR") == $'log\nnext_job_id\nscratch' && -e $POCKET_CLUSTER_DIR/scratch/result ]]
  pocket down
  pocket up --nodes 1
  use env
  (($(slurm sbatch --parsable --output=/dev/null --wrap true) == job + 1))
  pocket down
}
