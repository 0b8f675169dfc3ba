#!/usr/bin/env bats
# hpc/job/meeting.py and hook/sitecustomize.py: which ranks count as connected. No cluster.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  attempt=$BATS_TEST_TMPDIR/'attempt "0", ü'
  mkdir -p -- "$attempt/ranks" "$BATS_TEST_TMPDIR/modules/torch/distributed"
  # A torch of a few lines, with only what the hook uses.
  printf 'from . import nn\n' >"$BATS_TEST_TMPDIR/modules/torch/__init__.py"
  : >"$BATS_TEST_TMPDIR/modules/torch/nn.py"
  printf 'from .distributed_c10d import *\n' >"$BATS_TEST_TMPDIR/modules/torch/distributed/__init__.py"
  printf '%s\n' 'import os' 'def init_process_group(backend=None, init_method=None, **named):' '    """Joins."""' '    return backend' \
    'def get_rank(): return int(os.environ["RANK"])' 'def get_world_size(): return int(os.environ["WORLD_SIZE"])' \
    >"$BATS_TEST_TMPDIR/modules/torch/distributed/distributed_c10d.py"
}

# python_of_rank RANK SIZE [WORD...]   Runs Python as rank.sh starts it.
python_of_rank() {
  RANK=$1 WORLD_SIZE=$2 RANK_RECORD=$attempt/ranks/$1 MASTER_ADDR=node1 MASTER_PORT=29500 \
    PYTHONPATH=$checkout/hpc/job/hook:$BATS_TEST_TMPDIR/modules python3 "${@:3}"
}

# seen NODE LINE...   Writes the lines with tabs between the words.
seen() {
  printf '%s\n' "${@:2}" | tr ' ' '\t' >>"$attempt/ranks/$1.seen"
}

# noted RANK LINE...   Adds the lines to the rank's notes.
noted() {
  printf '%s\n' "${@:2}" >>"$attempt/ranks/$1"
}

judge() {
  python3 -I -S "$checkout/hpc/job/meeting.py" judge "$attempt"
}

# groups TEXT   The verdict must have these groups, separated by |, or none.
groups() {
  run --separate-stderr judge
  [[ $status == 0 && -z $stderr ]]
  diff <(printf '%s\n' "$1") <(tail -n +3 <<<"$output" | paste -sd '|' || true)
}

@test "ranks without any observation are alone; those that use no framework do not count" {
  groups ''
  noted 0 'uses torch'
  groups ''
  noted 1 'uses torch'
  groups '0|1'
  [[ $output == 'its 2 processes never spoke with each other: each may have trained alone'* ]]
  : >"$attempt/ranks/2"
  seen node1 'uses 10'
  groups '0|1|10'
}

@test "a group of torch is recognized by its ranks' places, or by its address" {
  local rank
  for rank in 0 1 2 3; do noted "$rank" 'uses torch' "group 4 $rank node1:29500"; done
  groups ''
  # Each rank knows the head under another name.
  for rank in 0 1 2 3; do printf 'uses torch\ngroup 4 %s node%s:29500\n' "$rank" "$rank" >"$attempt/ranks/$rank"; done
  groups ''
  # Each rank has started two processes of its own.
  for rank in 0 1; do printf 'uses torch\ngroup 2 0 127.0.0.1:29500 on node%s\ngroup 2 1 127.0.0.1:29500 on node%s\n' "$rank" "$rank" >"$attempt/ranks/$rank"; done
  rm -- "$attempt/ranks/"[23]
  groups '0|1'
  # A group that was formed twice, with other places.
  for rank in 0 1; do printf 'uses torch\ngroup 2 %s node1:1\ngroup 2 %s node1:1\n' "$rank" "$((1 - rank))" >"$attempt/ranks/$rank"; done
  groups ''
}

@test "two groups in one job" {
  local rank
  for rank in 0 1; do noted "$rank" 'uses torch' "group 2 $rank localhost:1 on node1"; done
  for rank in 2 3; do noted "$rank" 'uses torch' "group 2 $((rank - 2)) localhost:1 on node2"; done
  run -0 judge
  [[ $output == 'its 4 processes are 2 groups that never spoke with each other (ranks 0-1; 2-3): each may have trained alone'*$'\n0 1\n2 3' ]]
}

@test "connections count if both ends are ranks, or at the job's store; a server that all ranks use does not count" {
  local rank
  for rank in 0 1 2; do noted "$rank" 'uses torch'; done
  seen node1 'tcp 0 0A000001:1111 08080808:01BB' 'tcp 1 0A000001:1112 08080808:01BB'
  seen node2 'tcp 2 0A000002:1111 08080808:01BB'
  groups '0|1|2'
  seen node1 'tcp 0 0A000001:7530 0A000002:9999'
  groups '0|1|2'
  seen node2 'tcp 2 0A000002:9999 0A000001:7530'
  run -0 judge
  [[ $output == *$'\n0 2\n1' ]]
  seen node1 'store 0 29500' 'store 1 29500'
  groups ''
}

@test "shared memory, and a fast network" {
  local rank
  for rank in 0 1 2 3; do noted "$rank" 'uses jax'; done
  seen node1 'memory 0 1'
  seen node2 'memory 2 3'
  run -0 judge
  [[ $output == *'2 groups'*$'\n0 1\n2 3' ]]
  seen node1 'fast 1'
  seen node2 'fast 3'
  groups ''
}

@test "the hook records imports of frameworks and groups that are joined, also in child processes, but no lookups" {
  python_of_rank 0 2 -c 'import importlib.util; assert importlib.util.find_spec("torch")'
  [[ ! -e $attempt/ranks/0 ]]
  python_of_rank 0 2 -c 'import torch.distributed as d; assert d.init_process_group("gloo") == "gloo"; assert d.init_process_group.__doc__ == "Joins."'
  python_of_rank 1 2 -c 'import subprocess, sys; subprocess.run([sys.executable, "-c", "import torch.distributed as d; d.init_process_group(None, \"tcp://localhost:7?x=1\")"], check=True)'
  [[ $(<"$attempt/ranks/0") == $'uses torch\ngroup 2 0 node1:29500' ]]
  [[ $(<"$attempt/ranks/1") == $'uses torch\ngroup 2 1 localhost:7 on '* ]]
  python_of_rank 2 1 -c 'import torch.distributed as d; d.init_process_group()'
  [[ $(<"$attempt/ranks/2") == 'uses torch' ]]
  groups '0 1|2'
}

@test "the hook does not change the program: another sitecustomize, sys.path, an error in it, no record" {
  printf 'print("their own")\n' >"$BATS_TEST_TMPDIR/modules/sitecustomize.py"
  run -0 python_of_rank 0 2 -c 'import sys, sitecustomize; print(sitecustomize.__file__, [p for p in sys.path if "hook" in p])'
  [[ $output == $'their own\n'"$BATS_TEST_TMPDIR/modules/sitecustomize.py []" ]]
  rm -- "$BATS_TEST_TMPDIR/modules/sitecustomize.py"
  run -0 python_of_rank 0 2 -c 'import sys; print("sitecustomize" in sys.modules)'
  [[ $output == True ]]
  chmod 555 -- "$attempt/ranks" && rm -rf -- "$attempt/ranks"
  run -0 python_of_rank 0 2 -c 'import torch.distributed as d; print(d.init_process_group("nccl"))'
  [[ $output == nccl ]]
}

# `watch` looks at the processes below rank.sh; here that is a stub with the same arguments.
@test "watch: connections and memory between processes of two ranks, but not within a rank or with others" {
  local kit=$BATS_TEST_TMPDIR/kit rank
  mkdir -p -- "$kit/hpc/job"
  printf '#!/bin/bash\npython3 "$3" "${@:4}"; :\n' >"$kit/hpc/job/rank.sh"
  cat >"$BATS_TEST_TMPDIR/speak.py" <<'PYTHON'
import mmap, os, socket, subprocess, sys, time
file, alone = sys.argv[1], len(sys.argv) > 2
if os.environ["RANK"] == "0":
    server = socket.create_server(("127.0.0.1", 0))
    open(file + ".partial", "w").write(str(server.getsockname()[1]))
    os.rename(file + ".partial", file)
    inside = subprocess.Popen([sys.executable, "-c", "import socket, sys, time; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.recv(1)", str(server.getsockname()[1])])
    held = [server.accept() for _ in range(1 if alone else 2)]
elif not alone:
    while not os.path.exists(file):
        time.sleep(0.05)
    held = socket.create_connection(("127.0.0.1", int(open(file).read())))
time.sleep(300)  # it is ended
PYTHON
  for words in '' alone; do
    rm -rf -- "$attempt/ranks" "$BATS_TEST_TMPDIR"/{port,said}
    mkdir -- "$attempt/ranks"
    noted 0 'uses torch'
    noted 1 'uses torch'
    bash -c '
      for rank in 0 1; do RANK=$rank MASTER_PORT=1 bash -c "sleep 0.5; exec bash \"\$@\"" - "$1/hpc/job/rank.sh" "$1" "$2" "${@:4}" & done # as node.sh becomes it
      exec python3 -I -S "$3/hpc/job/meeting.py" watch "$2" here "$PPID" 1' - "$kit" "$attempt" "$checkout" "$BATS_TEST_TMPDIR/speak.py" "$BATS_TEST_TMPDIR/port" $words 2>"$BATS_TEST_TMPDIR/said" 3>&- &
    if [[ -z $words ]]; then wait_until 60 groups ''; else wait_until 60 test -s "$BATS_TEST_TMPDIR/said"; fi
    kill "$!" 2>/dev/null || true
    pkill -f "$BATS_TEST_TMPDIR/port"
    [[ -z $words ]] || groups '0|1'
    [[ -z $words || $(<"$BATS_TEST_TMPDIR/said") == 'warning: so far its 2 processes never spoke with each other: each may have trained alone. '* ]]
  done
}

# unconnected TASK   Writes the verdict into its attempt 0.
unconnected() {
  printf '%s\n' 'its 2 processes never spoke with each other: each may have trained alone' 'To train together, do this.' 0 1 >"$run/task_$1/attempt_0/unconnected"
}

@test "watch looks at the memory each 3 s or more often during the first minute, and rarely where that takes long" {
  python3 -I - "$checkout/hpc/job" "$attempt" <<'PYTHON'
import sys

sys.path.insert(0, sys.argv[1])
import meeting


def looks(seconds_each):
    """The times of the looks at the memory in a minute of a made clock."""
    now, used, found = [0.0], [0.0], []

    class Clock:
        monotonic = staticmethod(lambda: now[0])
        process_time = staticmethod(lambda: used[0])

        @staticmethod
        def sleep(seconds):
            now[0] += seconds

    def seen_now(ranks, node, deep):
        if deep:
            found.append(now[0])
            used[0] += seconds_each
        return {}, set()

    def no_pidfd(process):
        raise OSError

    meeting.time, meeting.seen_now, meeting.os.pidfd_open = Clock, seen_now, no_pidfd
    meeting.os.getppid = lambda: 7 if now[0] < 60 else 1
    meeting.watch(sys.argv[2], "node1", 7, 0)
    return found


cheap = looks(0.005)
gaps = [after - before for before, after in zip(cheap, [*cheap[1:], 60])]
assert max(gaps) <= 3.1, gaps
assert len(looks(1)) <= 3
PYTHON
}

@test "list, why and report show it, for one task and for some of several" {
  made_runs_setup
  made_run one 1 1
  state 1 completed
  attempt 1 0 finished 'Not enough GPUs. Exiting.'
  unconnected 1
  made_run some 2 3
  for task in 1 2 3; do
    state "$task" completed
    attempt "$task" 0 finished
  done
  unconnected 2
  made_run slow 3 1
  state 1 failed
  attempt 1 0 time_limit
  unconnected 1
  run -0 --separate-stderr command_of list
  grep -qE '^1 +one +2 +completed, ranks unconnected +1 ' <<<"$output"
  grep -qE '^2 +some +2 +3 completed, 1 unconnected +3 ' <<<"$output"
  grep -qE '^3 +slow +2 +failed, ranks unconnected +1 ' <<<"$output"
  run -0 command_of list --json
  [[ $(grep -c '"unconnected": 1' <<<"$output") == 3 ]]
  run -0 command_of why one
  [[ ${lines[0]} == 'job 1 (one): unconnected: it has finished, in 00:10:00, but its 2 processes never spoke with each other'* && $output == *$'its log ends '*$'\n    Not enough GPUs. Exiting.\nto do: To train together, do this.' ]]
  run -0 command_of why 2
  [[ $output == *'1 of 3 tasks completed, ranks unconnected: 2'* && $output == *'2 of 3 tasks completed: 1,3'* ]]
  run -0 command_of why slow
  [[ ${lines[0]} == *': time limit: '* && $output == *$'\nnote: its 2 processes never spoke'*'To train together, do this.'* ]]
  run -0 command_of report some
  [[ $output == *'task_2: its 2 processes never spoke with each other: each may have trained alone'* && $output != *'task_1: its'* ]]
}
