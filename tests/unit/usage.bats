#!/usr/bin/env bats
# hpc/job/lib/usage.sh and hpc/job/usage.py record what a job uses.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  attempt=$BATS_TEST_TMPDIR/'attempt "0", ü'
  record=$attempt/usage_here.tsv
  mkdir -- "$attempt"
  export SLURM_LOCALID=0 SLURM_JOB_ID=4711 SLURMD_NODENAME=here HPC_USAGE_SECONDS=0.2
  unset CUDA_VISIBLE_DEVICES
}

teardown() {
  if [[ -n ${node:-} ]]; then kill -s KILL "$node" 2>/dev/null || true; fi
  wait_until 10 is_over
}

# begin COMMAND...   Does what node.sh does: starts the sampler and becomes the program. It runs in the background as $node.
begin() {
  bash -c '
    set -euo pipefail
    source "$1/hpc/lib/common.sh"
    source "$1/hpc/job/lib/usage.sh"
    declare -A fact=([environment]=${environment:-})
    exec {held}<"$1" # as node.sh holds the folder of the job
    usage::start "$1" "$2"
    exec "${@:3}"' - "$checkout" "$attempt" "$@" 3>&- 4>&- &
  node=$!
}

# Prints the samplers that write to this test's folder.
samplers() {
  grep -lsaF -- "$attempt" /proc/[0-9]*/cmdline | while read -r file; do
    if grep -qsaF usage.py "$file"; then printf '%s\n' "${file%/cmdline}"; fi
  done
}

is_over() {
  [[ -z $(samplers) ]]
}

# has_lines NUMBER   The record must have more lines than that, with the header.
has_lines() {
  [[ -e $record ]] && (($(wc -l <"$record") > $1))
}

# column NUMBER   Prints this column of all lines.
column() {
  tail -n +2 -- "$record" | cut -f "$1"
}

# has_used SECONDS   The last line must have as much CPU time.
has_used() {
  [[ -e $record ]] && awk -v seconds="$1" 'END { exit !(NR > 1 && $2 >= seconds) }' "$record"
}

@test "a line at the start, one each interval and one at the end; the CPU time of ended children counts" {
  # The children use a second in total; none of them lives long enough to be sampled.
  begin python3 -c '
import os, subprocess, sys, time
x = bytearray(100_000_000)
for _ in range(20):
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.05: pass"])
while not os.path.exists(sys.argv[1]): time.sleep(0.1)' "$BATS_TEST_TMPDIR/enough"
  wait_until 60 has_used 1
  : >"$BATS_TEST_TMPDIR/enough"
  wait_status "$node"
  ((status == 0))
  wait_until 10 is_over
  [[ $(head -n 1 "$record") == $'time\tcpu_seconds\tmemory_bytes\tgpu_percent\tgpu_memory_mib' ]]
  has_lines 5
  column 2 | awk 'NR == 1 && $1 > 0.5 { exit 1 } END { exit !($1 >= 1 && $1 < 10) }'
  column 3 | sort -n | awk 'END { exit !($1 >= 1e8 && $1 < 3e8) }'
  column 1 | sort -n -c
  [[ -z $(column 4 | tr -d '\n') ]]
}

@test "the sampler ends with a killed program, ignores signals before that, and holds no file open" {
  begin sleep 600
  wait_until 20 has_lines 2
  local sampler
  sampler=$(samplers)
  kill -s TERM "${sampler#/proc/}"
  kill -s HUP "${sampler#/proc/}"
  local -ri before=$(wc -l <"$record")
  wait_until 20 has_lines "$((before + 1))"
  [[ $(readlink -- "$sampler/cwd") == / ]]
  [[ $(readlink -- "$sampler"/fd/{0,1,2} | sort -u) == /dev/null ]]
  [[ $(readlink -- "$sampler"/fd/* | grep -F / | grep -vF pidfd | sort) == "$(printf '%s\n' /dev/null /dev/null /dev/null "$record" | sort)" ]]
  kill -s KILL "$node"
  wait_until 10 is_over
}

has_two_lines() {
  (($(wc -l <"$1") == 2))
}

# pythons   Prints one Python of this machine for each version from 3.6 on.
pythons() {
  local python
  for python in $(compgen -c python3. | grep -xE 'python3[.][0-9]+') "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    "$python" -c 'import sys; print(sys.version_info[1], sys.executable) if sys.version_info >= (3, 6) else None' 2>/dev/null || true
  done | sort -u -k 1,1 | cut -d ' ' -f 2-
}

@test "any Python from 3.6 on measures; if the machine's is missing or older, the environment's is used" {
  local python path
  local -i tried=0
  path=$(path_without python3)
  while read -r python; do
    rm -rf -- "$BATS_TEST_TMPDIR/environment" "$record"
    mkdir -p -- "$BATS_TEST_TMPDIR/environment/bin"
    ln -s -- "$python" "$BATS_TEST_TMPDIR/environment/bin/python"
    environment=$BATS_TEST_TMPDIR/environment PATH=$path CUDA_VISIBLE_DEVICES=0 begin sleep 600 2>&1
    wait_until 20 has_lines 2
    kill -s KILL "$node"
    wait_until 10 is_over
    tried+=1
  done < <(pythons)
  ((tried > 0))
}

@test "a python3 that is a script, like pyenv's, starts a hundred processes, so it is the last choice" {
  local path plain
  plain=$(python3 -c 'import sys; print(sys.executable)')
  path=$BATS_TEST_TMPDIR/scripts:$BATS_TEST_TMPDIR/programs:$(path_without python3)
  mkdir -- "$BATS_TEST_TMPDIR"/{scripts,programs}
  printf '#!/bin/sh\nexec %q "$@"\n' "$plain" >"$BATS_TEST_TMPDIR/scripts/python3"
  chmod +x -- "$BATS_TEST_TMPDIR/scripts/python3"
  source "$checkout/hpc/lib/common.sh"
  [[ "$(PATH=$path && common::own_python 6 2>&1)" == "$BATS_TEST_TMPDIR/scripts/python3" ]]
  [[ "$(PATH=$path && common::own_python 6 "$plain" 2>&1)" == "$plain" ]]
  ln -s -- "$plain" "$BATS_TEST_TMPDIR/programs/python3"
  [[ "$(PATH=$path && common::own_python 6 2>&1)" == "$BATS_TEST_TMPDIR/programs/python3" ]]
}

@test "only the first process of a node samples; errors of the sampler do not fail the job" {
  SLURM_LOCALID=1 begin true
  wait_status "$node"
  ((status == 0))
  [[ ! -e $record ]]

  # A full disk.
  ln -s /dev/full "$record"
  begin sleep 3
  sleep 1.5
  [[ -n $(samplers) ]] # the sampler and the job continue
  wait_status "$node"
  ((status == 0))
  wait_until 10 is_over
  rm -- "$record"

  # No python3, or one older than 3.6: a message of one line.
  local path
  path=$(path_without python3)
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  PATH=$path begin true 2>"$BATS_TEST_TMPDIR/said"
  wait_status "$node"
  ((status == 0))
  wait_until 10 test -s "$BATS_TEST_TMPDIR/said"
  printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/python3"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/python3"
  PATH=$BATS_TEST_TMPDIR/bin:$path begin true 2>>"$BATS_TEST_TMPDIR/said"
  wait_status "$node"
  ((status == 0))
  wait_until 10 has_two_lines "$BATS_TEST_TMPDIR/said"
  [[ $(sort -u "$BATS_TEST_TMPDIR/said") == 'here: no python3 of 3.6 or later here: the use of CPU, memory and GPUs is not measured' ]]
  [[ ! -e $record ]]

  # No folder; an invalid number.
  rmdir -- "$attempt"
  begin true
  wait_status "$node"
  ((status == 0))
  mkdir -- "$attempt"
  HPC_USAGE_SECONDS=often begin true
  wait_status "$node"
  ((status == 0))
}

@test "GPUs: the mean of their use and the sum of their memory, only the job's GPUs, with one nvidia-smi" {
  local -r bin=$BATS_TEST_TMPDIR/bin
  mkdir -- "$bin"
  cat >"$bin/nvidia-smi" <<'STUB'
#!/bin/sh
printf '%s\n' "$*" >>"$(dirname -- "$0")/calls"
while :; do
  printf '0, 40, 1000\n1, 90, 3000\n2, [N/A], [N/A]\n'
  sleep 0.1
done
STUB
  chmod +x -- "$bin/nvidia-smi"
  PATH=$bin:$PATH begin sleep 600
  wait_until 20 has_lines 2
  [[ ! -e $bin/calls ]] # no GPU of the job
  kill -s KILL "$node"
  wait_until 10 is_over
  PATH=$bin:$PATH CUDA_VISIBLE_DEVICES=0,1,2 begin sleep 600
  wait_until 20 grep -q $'\t65.0\t4000$' "$record"
  kill -s KILL "$node"
  wait_until 10 is_over
  wait_until 10 nothing_runs "$bin/nvidia-smi"
  [[ $(<"$bin/calls") == '--id=0,1,2 --query-gpu=index,utilization.gpu,memory.used --format=csv,noheader,nounits --loop-ms=200' ]]
}

nothing_runs() {
  ! grep -lsaF -- "$1" /proc/[0-9]*/cmdline
}

@test "the job's control group of either version; without one, /proc is read" {
  local -r root=$BATS_TEST_TMPDIR/cgroup
  mkdir -p -- "$root"/{slurm/job_4711,memory/slurm/uid_0/job_4711,cpuacct/slurm/uid_0/job_4711,memory/slurm/uid_0/job_47}
  printf 'usage_usec 2500000\nuser_usec 1\n' >"$root/slurm/job_4711/cpu.stat"
  echo 5000 >"$root/slurm/job_4711/memory.current"
  printf 'anon 1\ninactive_file 2000\nactive_file 7\n' >"$root/slurm/job_4711/memory.stat"
  echo 3500000000 >"$root/cpuacct/slurm/uid_0/job_4711/cpuacct.usage"
  echo 9000 >"$root/memory/slurm/uid_0/job_4711/memory.usage_in_bytes"
  printf 'cache 1\ninactive_file 1\ntotal_inactive_file 1000\n' >"$root/memory/slurm/uid_0/job_4711/memory.stat"
  printf '0::/slurm/job_4711/step_0/user/task_0\n' >"$root/two"
  printf '9:memory:/slurm/uid_0/job_4711/step_0\n2:cpu,cpuacct:/slurm/uid_0/job_4711/step_0\n0::/\n' >"$root/one"
  printf '9:memory:/slurm/uid_0/job_47/step_0\n0::/system.slice/job_47110\n' >"$root/none"
  python3 - "$checkout/hpc/job" "$root" <<'PYTHON'
import sys
sys.path.insert(0, sys.argv[1])
import usage
root = sys.argv[2]
two = usage.ControlGroup("4711", f"{root}/two", root)
assert (two.cpu_seconds(), two.memory_bytes()) == (2.5, 3000)
one = usage.ControlGroup("4711", f"{root}/one", root)
assert (one.cpu_seconds(), one.memory_bytes()) == (3.5, 8000)
none = usage.ControlGroup("4711", f"{root}/none", root)
assert none.cpu is None and none.memory is None
PYTHON
}
