#!/usr/bin/env bats
# hpc/doctor.sh finds faults that are planted in real clusters, and the submitter warns of the findings that concern a request.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup_file() {
  cluster_up
  export healthy=$POCKET_CLUSTER_DIR healthy_conf=$SLURM_CONF
  export WANDB_BASE_URL=http://127.0.0.1:9 # refused at once, where a look for a name may take long
  faulty
  bash "$checkout/hpc/pocket_cluster.sh" up --nodes 2 3>&- 4>&-
  plant
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&- # starts the controller again
}

teardown_file() {
  faulty
  bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-
  POCKET_CLUSTER_DIR=$healthy cluster_down
}

setup() {
  make_project
  export HOME=$BATS_TEST_TMPDIR/home XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config XDG_STATE_HOME=$BATS_TEST_TMPDIR/state
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -- "$HOME" "$SCRATCH"
  printf '%040d\n' 7 >"$HOME/wandb_credentials.txt"
  chmod 600 -- "$HOME/wandb_credentials.txt"
  unset WANDB_API_KEY
  programs=$BATS_TEST_TMPDIR/programs
  mkdir -- "$programs"
}

teardown() {
  while mountpoint --quiet -- "$SCRATCH"; do umount -- "$SCRATCH"; done
}

# This file's own cluster.
faulty() {
  export POCKET_CLUSTER_DIR="$BATS_FILE_TMPDIR/faulty cluster" SLURM_CONF=
  if [[ -e $POCKET_CLUSTER_DIR/cluster ]]; then
    SLURM_CONF=$(sed -n 's/^slurm_dir=//p' "$POCKET_CLUSTER_DIR/cluster")/etc/slurm.conf
  fi
}

# Changes that need a restart of the controller. Its submit script removes some requests from jobs and refuses jobs without GPUs, as some
# sites do.
plant() {
  local plugins
  faulty
  sed -i -E 's/^JobRequeue=.*/JobRequeue=0/; s/^KillWait=.*/KillWait=1/' "$SLURM_CONF"
  plugins=$(scontrol show config | sed -n 's/^PluginDir *= *//p')
  printf 'MaxArraySize=3\n' >>"$SLURM_CONF"
  if [[ -e $plugins/job_submit_lua.so ]]; then echo JobSubmitPlugins=lua >>"$SLURM_CONF"; fi
  cat >"${SLURM_CONF%/*}/job_submit.lua" <<'LUA'
function slurm_job_submit(request, partitions, user)
  if request.name ~= "doctor" then return slurm.SUCCESS end
  if request.tres_per_node == nil then return slurm.ERROR end
  request.requeue = 0
  return slurm.SUCCESS
end
function slurm_job_modify(request, record, partitions, user)
  return slurm.SUCCESS
end
LUA
  local controller
  read -r controller _ <"$POCKET_CLUSTER_DIR/pids/slurmctld"
  kill -s KILL "$controller"
  wait_until 10 has_ended "$controller"
}

has_ended() {
  ! kill -0 "$1" 2>/dev/null
}

doctor() {
  bash "$project/hpc/doctor.sh" "$@" 3>&- 4>&-
}

# says STATUS LINE... -- OPTION...   The doctor must exit with STATUS and print a line that matches each pattern LINE.
says() {
  local -r wanted=$1
  local -a patterns=()
  local pattern
  shift
  while (($# > 0)) && [[ $1 != -- ]]; do
    patterns+=("$1")
    shift
  done
  run --separate-stderr doctor "${@:2}"
  for pattern in "${patterns[@]}"; do
    if ! grep -qE -- "^$pattern" <<<"$output"; then
      printf 'status %s, and no line %s in:\n%s\n%s\n' "$status" "$pattern" "$output" "$stderr" >&2
      return 1
    fi
  done
  [[ $status == "$wanted" ]]
}

job_is_there() {
  [[ -n $(squeue --noheader --name=doctor) ]]
}

# stub NAME LINE...   Makes a program that is first in PATH, here and on the nodes.
stub() {
  printf '%s\n' '#!/bin/bash' "${@:2}" >"$programs/$1"
  chmod +x -- "$programs/$1"
  PATH=$programs:$PATH
}

@test "a healthy cluster is ready, and a request to it causes no warning" {
  export POCKET_CLUSTER_DIR=$healthy SLURM_CONF=$healthy_conf
  stub apptainer 'echo "apptainer version 1.4.5"'
  says 0 'ok +slurm +[0-9.]+, cluster pocket' 'ok +arrays' 'ok +kill wait +10 s' 'ok +requeue +JobRequeue=1' 'ok +gpus +4 .*v100l' \
    'ok +nodes' 'ok +preemption +.*GraceTime=15' 'ok +scratch' 'ok +output' 'ok +environment' 'ok +wandb key' 'ok +node +node' \
    'ok +clock' 'ok +local disk' 'ok +modules' 'ok +python +3' 'ok +container +apptainer version' 'note +internet' 'ready$' --
  [[ ${lines[-1]} == ready ]]
  [[ -z $(ls -A -- "$SCRATCH") ]]
  [[ -z $(squeue --noheader --name=doctor) ]]
  run --separate-stderr submitter --dry-run
  [[ $status == 0 && $stderr != *doctor* ]]
}

@test "planted: no requeue, a short KillWait, a tiny MaxArraySize, another GPU, a drained node, an open key file, a clock ahead (date stands in), no runtime" {
  faulty
  PATH=$(path_without apptainer singularity)
  stub date 'exec /bin/date ${SLURM_JOB_ID:+--date="+1 hour"} "$@"'
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf '%s\n' 'site[node_local_directory]=$POCKET_CLUSTER_DIR/localscratch' 'site[gpu_type]=a100' >"$XDG_CONFIG_HOME/hpc_kit/clusters/pocket.sh"
  chmod 644 -- "$HOME/wandb_credentials.txt"
  scontrol update nodename=node2 state=drain reason='bad memory'
  local requeue='problem +requeue +JobRequeue=0, and a job that asked for --requeue did not get it' problems=5
  if ! grep -q lua "$SLURM_CONF"; then requeue='note +requeue +JobRequeue=0' problems=4; fi # a Slurm without that plugin
  says 1 "$requeue" 'problem +kill wait +KillWait=1 s' \
    'note +arrays +MaxArraySize=3,' 'problem +gpus +the profile pocket says a100, and partition main has v100l$' \
    'note +nodes +1 of 2 take no jobs: node2 drained \(bad memory\)$' 'problem +wandb key .*mode 644$' \
    'problem +clock +node1 is (3[56][0-9][0-9]) s ahead$' 'note +container +neither' "not ready: $problems problems$" --
  [[ $output != *0007* ]]
  [[ $(grep -c '^ *to fix: ' <<<"$output") == $(grep -cE '^(note|problem)' <<<"$output") ]]
  scontrol update nodename=node2 state=resume

  # The submitter warns in one line and continues.
  rm -- "$XDG_CONFIG_HOME/hpc_kit/clusters/pocket.sh" # the submitter refuses that GPU itself
  run --separate-stderr submitter --dry-run
  [[ $status == 0 && $(grep -c 'doctor.sh found' <<<"$stderr") == 1 ]]
  [[ $stderr == *'kill wait: KillWait=1 s'*'; clock: node1 is'* ]]
  if ((problems == 5)); then [[ $stderr == *'; requeue: JobRequeue=0'* ]]; fi
  [[ $stderr != *container* && $stderr != *arrays* && $stderr != *gpus* ]]
  run --separate-stderr submitter --dry-run --max-restarts 0 --repeat 2
  [[ $status == 0 && $stderr != *'requeue: '* && $stderr != *'kill wait: '* && $stderr == *'arrays: MaxArraySize=3'* ]]
}

@test "planted: JobRequeue=0, where the site grants what jobs ask for" {
  faulty
  sed -i 's/request.requeue = 0//' "${SLURM_CONF%/*}/job_submit.lua"
  scontrol reconfigure
  says 1 'note +requeue +JobRequeue=0, but a job that asks for --requeue gets it' --
  says 1 'note +requeue default +JobRequeue=0' -- --quick
  run --separate-stderr submitter --dry-run
  [[ $stderr != *'requeue: '* && $stderr == *'kill wait: '* ]]
}

@test "planted: a full scratch" {
  export POCKET_CLUSTER_DIR=$healthy SLURM_CONF=$healthy_conf
  mount -t tmpfs -o size=256k tmpfs "$SCRATCH" 2>/dev/null || skip 'only root can mount a small disk'
  head -c 1M /dev/zero >"$SCRATCH/data" 2>/dev/null || true
  says 1 'problem +scratch +.*, 0 MB free' 'problem +output +.*cannot be ' 'note +node +not asked' 'not ready: 2 problems$' --
}

@test "planted: an output folder that is a file; a scratch that the nodes do not see" {
  export POCKET_CLUSTER_DIR=$healthy SLURM_CONF=$healthy_conf
  mkdir -- "$SCRATCH/${project##*/}"
  touch -- "$SCRATCH/${project##*/}/hpc_outputs"
  says 1 'problem +output +.*/hpc_outputs is not a folder' 'not ready: 1 problem$' -- --quick

  mount -t tmpfs -o size=2g tmpfs "$SCRATCH" 2>/dev/null || skip 'only root can mount a disk of this machine alone'
  grep -qx network=hosts "$POCKET_CLUSTER_DIR/cluster" || skip 'the nodes are this machine'
  says 1 'problem +node +job [0-9]+ ended on node[0-9] \([A-Z]+\) and nothing of it is seen' 'not ready: 1 problem$' --
}

# is_ended PROCESS   Sends SIGTERM until it has ended: the doctor ignores signals until it knows the id of its job.
is_ended() {
  ! kill "$1" 2>/dev/null
}

@test "a job that must wait is cancelled and reported as waiting; --json says the same" {
  faulty
  scontrol update nodename=node1,node2 state=drain reason=test
  says 1 'problem +nodes +none of 2 takes jobs' 'note +node +job [0-9]+ waits since 1 s' -- --wait 1
  [[ -z $(squeue --noheader --name=doctor) ]]
  # A signal during the wait cancels the job, too.
  bash "$project/hpc/doctor.sh" --wait 100 >/dev/null 2>&1 3>&- 4>&- &
  wait_until 20 job_is_there
  wait_until 20 is_ended "$!"
  wait_status "$!"
  [[ $status == 143 && -z $(squeue --noheader --name=doctor) && -z $(find "$SCRATCH" -name '.doctor*') ]]
  scontrol update nodename=node1,node2 state=resume
  run --separate-stderr doctor --json
  [[ $status == 1 ]]
  python3 - "$output" <<'PYTHON'
import json, sys
told = json.loads(sys.argv[1])
found = {finding["name"]: finding for finding in told["findings"]}
assert told["cluster"] == "pocket" and told["ready"] is False
assert found["kill_wait"]["level"] == "problem" and found["kill_wait"]["partition"] is None and found["kill_wait"]["fix"]
assert found["python"]["level"] == "ok" and found["python"]["partition"] == "main"
PYTHON
}
