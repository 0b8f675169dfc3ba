#!/usr/bin/env bats
# hpc/pocket_cluster.sh up --shape NAME: tests each shape with plain sbatch jobs. The tests check what the site refuses and with which
# words, what runs, and what a node lacks. sites.bats runs the kit's own jobs on them.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  # Do not use bats' own folder, which other users cannot enter.
  POCKET_CLUSTER_DIR=$(mktemp -d "$BATS_TMPDIR/shape.XXXXXX")
  export POCKET_CLUSTER_DIR
  chmod 755 -- "$POCKET_CLUSTER_DIR"
}

teardown() {
  pocket down
  rm -rf -- "$POCKET_CLUSTER_DIR"
}

pocket() {
  bash "$checkout/hpc/pocket_cluster.sh" "$@" 3>&- 4>&-
}

# shape NAME   Starts the shape and changes to its scratch.
shape() {
  ((EUID == 0)) || skip 'only root can give nodes a network and homes of their own'
  pocket up --shape "$1"
  # shellcheck source=/dev/null
  source <(pocket env)
  cd -- "$SCRATCH" || return
}

# refused WORDS OPTION...   sbatch with these options must fail with these words.
refused() {
  run sbatch "${@:2}" --wrap true
  [[ $status != 0 && $output == *"$1"* ]] || {
    printf 'status %s, and not %s:\n%s\n' "$status" "$1" "$output" >&2
    return 1
  }
}

# job OPTION... SCRIPT   Submits it; sets `job`, which must be a number.
job() {
  job=$(sbatch --parsable --output=log.%j --open-mode=append "${@:1:$#-1}" --wrap "${!#}" | tail -n 1)
  [[ $job =~ ^[0-9]+$ ]]
}

# completes OPTION... SCRIPT   Submits it; it must complete. Sets `output` to its log, sorted.
completes() {
  job "$@"
  wait_for_job "$job" 40
  output=$(sort -- "log.$job")
  [[ $job_states == COMPLETED ]] || {
    printf '%s: %s\n%s\n' "$job" "$job_states" "$output" >&2
    return 1
  }
}

# Expects four ranks on two nodes, each with this value for its GPUs.
readonly ranks='srun sh -c "echo rank \$SLURM_PROCID \${CUDA_VISIBLE_DEVICES-none}"'

ranks_saw() {
  says "rank 0 $1"$'\n'"rank 1 $1"$'\n'"rank 2 $1"$'\n'"rank 3 $1"
}

# says WORDS...   `output` must contain each of them.
says() {
  local words
  for words in "$@"; do
    [[ $output == *"$words"* ]] || {
      printf 'not in it: %s\n%s\n' "$words" "$output" >&2
      return 1
    }
  done
}

# Slurm shows its plugin the old state of jobs until a job changes in a later second, so change one.
show_plugin() {
  sleep 1.1
  scontrol update jobid="$(squeue --noheader --format=%A --sort=i | sed -n 1p)" comment=seen
}

@test "an unknown shape, and options that a shape cannot have, end with status 2 and a message of one line" {
  fails_with 2 "'routd': no such shape: did you mean routed\\?" pocket up --shape routd
  fails_with 2 "'x': no such shape \\(there are: account-at .*routed\\)" pocket up --shape=x
  fails_with 2 '--nodes is not possible with --shape routed' pocket up --shape routed --nodes 2
  fails_with 2 '--gpus-per-node is not possible' pocket up --shape routed --gpus-per-node 2
  fails_with 2 '--network loopback is not possible with --shape condo, which needs hosts' pocket up --shape condo --network loopback
  fails_with 2 '--accounting yes is not possible with --shape cloud-elastic' pocket up --shape cloud-elastic --accounting
  [[ -z $(ls -A -- "$POCKET_CLUSTER_DIR") ]]
}

@test "the folder and the page describe each shape" {
  local name count=0
  for name in "$checkout"/hpc/pocket_cluster/shapes/*/; do
    name=$(basename -- "$name")
    grep -q "^# $name: " "$checkout/hpc/pocket_cluster/shapes/$name/slurm.conf"
    [[ $(grep -cE '^# (Sites|Emulated|Not emulated): ' "$checkout/hpc/pocket_cluster/shapes/$name/slurm.conf") == 3 ]]
    grep -q "^| \`$name\` |" "$checkout/hpc/pocket_cluster/README.md"
    count=$((count + 1))
  done
  ((count == 12))
}

@test "routed: no partition, a type, an account; also for an ordinary user on loopback" {
  local -a whoever=(env)
  if ((EUID == 0)); then
    chown daemon: "$POCKET_CLUSTER_DIR"
    cp -R -- "$checkout/hpc" "$POCKET_CLUSTER_DIR.kit"
    whoever=(runuser -u daemon -- env)
  else
    cp -R -- "$checkout/hpc" "$POCKET_CLUSTER_DIR.kit"
  fi
  "${whoever[@]}" bash "$POCKET_CLUSTER_DIR.kit/pocket_cluster.sh" up --shape routed --network loopback 3>&- 4>&-
  run "${whoever[@]}" bash -c 'cd / && eval "$(bash "$1" env)" && sbatch --time 60 --gpus-per-node=1 --wrap true; sbatch --wait --time 60 --gpus-per-node=h100:1 --output=/dev/null --wrap true' \
    - "$POCKET_CLUSTER_DIR.kit/pocket_cluster.sh"
  "${whoever[@]}" bash "$POCKET_CLUSTER_DIR.kit/pocket_cluster.sh" down
  rm -rf -- "$POCKET_CLUSTER_DIR" "$POCKET_CLUSTER_DIR.kit"
  [[ $status == 0 && $output == *'specify the type of GPU'* ]]

  mkdir -- "$POCKET_CLUSTER_DIR"
  shape routed
  [[ $SBATCH_ACCOUNT == def-mine && $(scontrol show config) == *'ClusterName             = routed'* ]]
  fails_with 1 'runs with --shape routed, not condo: take it down first' pocket up --shape condo
  pocket up
  pocket status
  refused 'do not give a partition' --time 60 --partition gpubase_bygpu_b1
  refused 'specify a time limit' --gpus-per-node=h100:1
  refused 'specify the type of GPU' --time 60 --gres=gpu:1
  refused 'specify the type of GPU' --time 60 --gpus=2
  refused 'not a member of the account' --time 60 --account=def-other
  (
    unset SBATCH_ACCOUNT
    refused 'RAS default accounts: def-mine' --time 60
  )
  completes --partition default --time 300 --nodes 2 --ntasks-per-node 2 --gpus-per-node=h100:2 "$ranks"'; echo "mem $SLURM_MEM_PER_CPU"; test -d "$SLURM_TMPDIR"'
  ranks_saw 0,1
  says 'mem 256'
  [[ $(job_field "$job" Account) == def-mine_gpu && $(job_field "$job" Partition) == gpubase_bygpu_b3 ]]
  completes --time 60 --gpus-per-node=nvidia_h100_80gb_hbm3_1g.10gb:1 'echo "slice $CUDA_VISIBLE_DEVICES"'
  says 'slice 2'
  refused 'job submit limit' --time 60 --array 0-20:2
  job --time 60 --begin=now+1hour --array=1-8,10%2 true
  show_plugin
  job --time 60 --begin=now+1hour true
  show_plugin
  refused 'job submit limit' --time 60
}

@test "readonly-home: one GPU or four, no memory request, a home that cannot be written, no sbatch from nodes" {
  shape readonly-home
  refused 'minimum walltime is 15 minutes' --time 10
  refused '1 GPU (a quarter of a node) or all 4' --time 15 --gpus-per-node=2
  refused '1 GPU (a quarter of a node) or all 4' --time 15 --nodes 2 --gpus-per-node=1
  POCKET_LOGIN=cpu refused 'GPU login node' --time 15 --gpus-per-node=1
  completes --time 15 --mem=999G --gpus-per-node=1 'touch ~/written; touch here && echo scratch; sbatch --time 15 --wrap true
    POCKET_REQUEUE=no scontrol requeue $SLURM_JOB_ID
    if [ -z "$SLURM_RESTART_COUNT" ]; then scontrol requeue $SLURM_JOB_ID; sleep 600; fi; echo "again ${SLURM_TMPDIR-none}"'
  says 'Read-only file system' scratch 'Jobs cannot be submitted from compute nodes'
  says 'permission denied' 'again none'
  [[ $(job_field "$job" MinMemoryNode) == 15000M ]]
  touch -- ~/.shapes_test && rm -- ~/.shapes_test
  completes --time 15 --nodes 2 --ntasks-per-node 4 --gpus-per-node=4 "$ranks"
  ranks_saw 0,1,2,3
}

@test "all-or-nothing: all GPUs of a node, of two kinds; no network to the outside" {
  shape all-or-nothing
  refused 'an account that starts with aip-' --gpus-per-node=h100:4
  export SBATCH_ACCOUNT=aip-me
  refused 'specify the type of GPU' --gpus-per-node=4
  refused 'all the GPUs of each node: --gpus-per-node=h100:4' --gpus-per-node=h100:2
  refused 'all the GPUs of each node: --gpus-per-node=h200:8' --gpus-per-node=h200:4
  refused 'maximum walltime is 24 hours' --time 25:00:00 --gpus-per-node=h100:4
  completes --nodes 2 --ntasks-per-node 4 --gpus-per-node=h100:4 "$ranks; ip route show default"
  ranks_saw 0,1,2,3
  [[ $output != *default* ]]
  completes --gpus-per-node=h200:8 'echo "gpus $CUDA_VISIBLE_DEVICES"'
  says 'gpus 0,1,2,3,4,5,6,7'
}

@test "no-gres: a banner; requests for GPUs and memory are refused; a small home" {
  shape no-gres
  refused 'Invalid generic resource' --gres=gpu:1
  refused 'Invalid generic resource' --gpus-per-node=1
  refused '--mem is not supported' --mem=4G
  refused 'specify a queue' --time 10
  refused 'specify a number of nodes' --partition gh --time 10
  refused 'specify a number of tasks' --partition gh --time 10 --nodes 1
  refused 'specify a time' --partition gh --nodes 1 --ntasks 1
  local -ra asked=(--partition gh --time 10 --ntasks-per-node 2)
  refused 'Node count specification invalid' --partition large --time 10 --nodes 2 --ntasks 2
  [[ $(sbatch --parsable "${asked[@]}" --nodes 1 --output=/dev/null --wrap true) == $'\n'*Welcome*$'OK\n'[0-9]* ]]
  completes "${asked[@]}" --nodes 2 "$ranks"'; head -c 5M /dev/zero >~/big; ls ~/big; touch here'
  ranks_saw none
  says 'No space left on device' /big
  [[ ! -e ~/big && -e here ]]
  job "${asked[@]}" --nodes 1 --begin=now+1hour true
  show_plugin
  refused 'more than 3 jobs in the queues' "${asked[@]}" --nodes 1 --array 1-3
  job "${asked[@]}" --nodes 1 --begin=now+1hour --array 1-2 true
  show_plugin
  refused 'more than 3 jobs in the queues' "${asked[@]}" --nodes 1
}

@test "constraint-qos: the constraint, an account for GPUs, a QOS for more than 30 minutes; hsn0" {
  shape constraint-qos
  refused 'must specify an account' --constraint gpu
  refused 'must specify a constraint' --account m1_g
  refused 'accounts for GPUs end with _g' --account m1 --constraint gpu
  refused 'asked for with the constraint gpu' --account m1 --constraint cpu --gpus-per-node=1
  export SBATCH_ACCOUNT=m1_g SBATCH_CONSTRAINT='gpu&hbm80g'
  refused 'QOS debug is 30 minutes' --time 60 --gpus-per-node=2
  refused 'Invalid qos' --time 60 --gpus-per-node=2 --qos=premier
  refused 'Requested node configuration is not available' --gpus-per-node=a100:2
  completes --time 60 --qos regular --nodes 2 --ntasks-per-node 2 --gpus-per-node=2 \
    "$ranks"'; echo "disk ${SLURM_TMPDIR-none}"; echo "on $SLURM_JOB_NODELIST $SLURM_CPUS_ON_NODE"; ls /sys/class/net
     timeout 2 bash -c "exec 3<>/dev/tcp/10.100.0.4/22" || echo "other: no way"'
  ranks_saw 0,1
  says 'disk none' 'on nid[001003-001004] 32' hsn0 'no way'
  [[ $output != *eth0* ]]
}

@test "lownoise: 56 of 64 cores, time by the number of nodes, a disk by constraint, /tmp in memory" {
  shape lownoise
  refused 'violates accounting/QOS policy' --nodes 1
  export SBATCH_ACCOUNT=abc123
  refused '2 nodes is 2 hours' --nodes 2 --time 3:00:00
  refused 'Requested node configuration is not available' --nodes 1 --ntasks 64
  refused 'Requested node configuration is not available' --nodes 1 --gpus-per-node=mi250:2
  completes --nodes 3 --time 3:00:00 'ls -d /mnt/bb/*; echo "cores $SLURM_CPUS_ON_NODE"'
  says 'cores 56' 'cannot access'
  local other
  other=$(mktemp /tmp/of_this_machine.XXXXXX)
  completes --nodes 2 --ntasks-per-node 2 --gpus-per-node=2 --constraint nvme \
    "$ranks"'; echo "amd $ROCR_VISIBLE_DEVICES"; bash -c "echo \"seconds \${EPOCHSECONDS-none}\""; touch /mnt/bb/"$(id -un)"/x && echo disk; ls '"$other"'; df --output=fstype /tmp; echo "tmpdir ${SLURM_TMPDIR-none}"'
  rm -- "$other"
  ranks_saw none
  says 'amd 0,1' 'cannot access' 'seconds none' disk tmpfs 'tmpdir none'
  [[ $(scontrol show config) == *'JobFileAppend           = 0'* ]]
}

@test "account-at: the account of the kind, no memory request, ten minutes, few files in a home" {
  shape account-at
  refused 'must specify an account' --gres=gpu:1
  refused 'is not for h100: use --account=abc@h100' --account abc@v100 --constraint h100 --gres=gpu:1
  refused 'is not for cpu' --account abc@v100
  local how
  for how in --mem=4G --mem-per-cpu=1G --mem-per-gpu=4G; do refused 'Memory is not requested' --account abc@v100 --gres=gpu:1 "$how"; done
  refused 'Requested node configuration is not available' --account abc@v100 --gres=gpu:v100:1
  completes --account abc@v100 --nodes 2 --ntasks-per-node 2 --gres=gpu:2 \
    "$ranks"'; for i in $(seq 400); do touch ~/many$i || break; done; ip route show default'
  ranks_saw 0,1
  says 'No space left on device'
  [[ $output != *default* && $(job_field "$job" TimeLimit) == 00:10:00 ]]
  [[ $(job_field "$job" Partition) == gpu_p13 ]]
  completes --account abc@h100 --constraint h100 --gres=gpu:1 'echo "on $SLURMD_NODENAME"'
  says 'on r13i0n'
}

@test "foreign-launcher: its own srun, and host names that resolve only with an i at the end" {
  shape foreign-launcher
  refused 'specify a budget account' --gres=gpu:2
  export SBATCH_ACCOUNT=budget
  local port
  port=$(scontrol --oneliner show node jwb0002 | sed -E 's/.* Port=([0-9]+) .*/\1/')
  completes --nodes 2 --ntasks-per-node 2 --cpus-per-task 2 --gres=gpu:2 "$ranks"'
    srun sh -c "echo \"cpus \${SLURM_CPUS_PER_TASK-none} \${SLURM_CPU_BIND-unbound}\""
    echo "handed on" | srun -n1 -N1 cat
    srun --overlap true; srun --gpu-bind=none true
    ls /sys/class/net; hostname -i
    bash -c "exec 3<>/dev/tcp/jwb0002i/'"$port"'" && echo "right reached"
    timeout 2 bash -c "exec 3<>/dev/tcp/jwb0002/'"$port"'" || echo "plain not reached"'
  ranks_saw none
  says 'handed on' 'cpus none unbound' "unrecognized option '--overlap'" "unrecognized option '--gpu-bind=none'"
  says ib0 10.100.0.1 'right reached' 'plain not reached'
}

@test "quanta-and-disk: shares of a node, a disk by gres or constraint, job names with few characters" {
  shape quanta-and-disk
  refused 'job name a b is not allowed' --job-name 'a b'
  refused '5 CPUs are more than go with 1 GPUs' --gres=gpu:1 --cpus-per-task 5
  refused 'MB are more than go with 1 GPUs' --gres=gpu:1 --mem 17000
  refused 'MB are more than go with 1 GPUs' --gres=gpu:1 --mem-per-gpu 17000
  completes --nodes 2 --ntasks-per-node 2 --gres=gpu:2,tmpfs:10g --mem 1G "$ranks"'; ls -d /mnt/scratch/*/job_$SLURM_JOB_ID && echo disk; echo "gets $SLURM_CPUS_ON_NODE ${SLURM_TMPDIR-none}"'
  ranks_saw 0,1
  says disk 'gets 8 none'
  [[ $(job_field "$job" MinMemoryNode) == 32000M ]]
  completes --constraint scratch-node 'ls -d /mnt/scratch/*/job_$SLURM_JOB_ID && echo disk'
  says disk
  completes 'ls -d /mnt/scratch/*/job_$SLURM_JOB_ID || echo "no disk"'
  says 'no disk'
}

@test "preempt-now: killed at once and requeued, or after 120 s and not requeued; other partitions than requested" {
  shape preempt-now
  completes --partition main 'echo here'
  [[ $(job_field "$job" Partition) == main-cpu ]]
  local first graced
  job --partition mila --nodes 2 --exclusive --ntasks-per-node 2 --gres=gpu:48gb:2 \
    "$ranks"'; echo "attempt ${SLURM_RESTART_COUNT:-0} $SLURM_JOB_NODELIST $SLURM_TMPDIR"; trap "echo TERM; trap \"\" TERM; sleep 60; echo late" TERM; sleep 600 & wait; wait'
  first=$job
  job --partition long-grace --nodes 2 --exclusive --gres=gpu:ampere:2 'srun -n1 -N1 sh -c "trap \"echo >asked; exit\" TERM; echo ready; sleep 600 & wait"; echo "ended ${SLURM_RESTART_COUNT:-0}"'
  graced=$job
  wait_until 15 grep -q 'attempt 0' "log.$first"
  wait_until 15 grep -q ready "log.$graced"
  [[ $(squeue --noheader --jobs="$first" --format=%P) == long ]]
  completes --partition unkillable --gres=gpu:1 --nodelist=cn-a001 true
  completes --partition unkillable --gres=gpu:1 --nodelist=cn-a003 true
  wait_until 20 grep -q 'attempt 1' "log.$first"
  output=$(sort -- "log.$first")
  says 'rank 0 0,1' "attempt 1 cn-a[001-002] $POCKET_CLUSTER_DIR" PREEMPTION
  [[ $output != *late* ]]
  # Slurm 24.11 calls this PREEMPTED; 22.05 gives the state in which its script ended.
  graced_has_ended() { [[ $(job_field "$graced" JobState) == @(COMPLETED|PREEMPTED|CANCELLED) ]]; }
  wait_until 15 graced_has_ended
  output=$(<"log.$graced")
  says 'ended 0'
  # On a busy machine a step may need longer than this site's KillWait, a second, to answer SIGTERM.
  [[ -e asked || $output == *"STEP $graced.0 ON "*' CANCELLED AT '* ]]
  [[ $(job_field "$graced" Restarts) == 0 ]]
  scancel "$first"
  wait_for_job "$first" 15
  none_left() { [[ -z $(find "$POCKET_CLUSTER_DIR/disks" -mindepth 2) ]]; }
  wait_until 10 none_left
}

@test "condo: no GPUs by default, our own partition, a hidden one of others, nodes of two releases" {
  shape condo
  refused 'Requested node configuration is not available' --gpus-per-node=1
  refused 'with its account: --account=lab_x' --partition lab --gpus-per-node=1
  run runuser -u nobody -- sbatch --chdir=/ --output=/dev/null --partition lab --account lab_x --wrap true
  [[ $status != 0 && $output == *"group not permitted"* ]] || { printf '%s\n' "$output" >&2 && return 1; }
  [[ $(runuser -u nobody -- sinfo --noheader --format=%P | sort | tr '\n' ' ') == 'gpu gpu-test normal* owners ' ]]
  [[ $(runuser -u nobody -- sinfo --all --noheader --format=%P) == *other-lab* ]]
  local -r look='srun -l bash -c "python3 -c \"print(\\\"python\\\")\" || true; echo seconds \${EPOCHSECONDS:+there}"'
  completes --partition gpu --constraint v100 --nodes 2 --ntasks-per-node 2 --gpus-per-node=2 "$ranks; $look"
  ranks_saw 0,1
  says 'python3: command not found' '0: seconds'$'\n'
  completes --partition lab --account lab_x --constraint a100 --gpus-per-node=2 "$look"
  says '0: python' '0: seconds there'
  job --partition owners --nodelist sh03-12n01 --exclusive 'echo "attempt ${SLURM_RESTART_COUNT:-0}"; exec sleep 60'
  local -r preempted=$job
  wait_until 10 grep -q 'attempt 0' "log.$preempted"
  completes --partition lab --account lab_x --nodelist sh03-12n01 --gpus-per-node=1 true
  wait_until 30 grep -q 'attempt 1' "log.$preempted"
}

@test "cloud-elastic: nodes that start on demand, one start that fails, a node that dies without notice" {
  shape cloud-elastic
  [[ $(sinfo --noheader --format=%t) == 'idle~' ]]
  refused 'Requested node configuration is not available' --cpus-per-task 64
  # Make the second start fail, and soon.
  sed -i 's/^fail_each=.*/fail_each=2/; s/^seconds=.*/seconds=3/' "$POCKET_CLUSTER_DIR/etc/elastic"
  sed -i 's/^ResumeTimeout=.*/ResumeTimeout=8/' "$POCKET_CLUSTER_DIR/etc/slurm.conf"
  scontrol reconfigure
  job --nodes 2 --ntasks-per-node 2 --gpus-per-node=2 "$ranks"'; srun -n2 -N2 getent hosts $(scontrol show hostnames); echo "attempt ${SLURM_RESTART_COUNT:-0}"'
  local -r first=$job
  starting() { [[ $(sinfo --noheader --format=%t) == *'#'* ]]; }
  wait_until 5 starting
  [[ $(grep -c gpu-dy "$POCKET_CLUSTER_DIR/etc/hosts") == 0 ]]
  failed_start() { [[ $(sinfo --noheader --format='%t %N') == *down*gpu-dy-big-2* ]]; }
  wait_until 40 failed_start
  sed -i 's/^fail_each=.*/fail_each=0/' "$POCKET_CLUSTER_DIR/etc/elastic"
  wait_for_job "$first" 150 # another start may fail before the file is read
  output=$(sort -- "log.$first")
  ranks_saw 0,1
  says 'attempt 1'
  [[ $job_states == COMPLETED && $(grep -c 'gpu-dy-big-[0-9]$' "log.$first") == 4 ]]

  job --nodelist gpu-dy-big-1 'echo "attempt ${SLURM_RESTART_COUNT:-0}"; sleep 600'
  wait_until 15 grep -q 'attempt 0' "log.$job"
  kill -KILL "$(cut -d' ' -f1 "$POCKET_CLUSTER_DIR/pids/gpu-dy-big-1")"
  scontrol update nodename=gpu-dy-big-3 state=power_down
  gone() { ! grep -q gpu-dy-big-3 "$POCKET_CLUSTER_DIR/etc/hosts"; }
  wait_until 15 gone
  scancel "$job"
}
