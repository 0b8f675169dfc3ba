# shellcheck shell=bash disable=SC2034,SC2154 # the tests read the first, ../helpers.bash sets the second
# Functions that the rows of the fault matrix share:  source ../helpers.bash and ../cluster/reports.bash first
#
# A row is an experiment with the name of the row. The tests check the training's weights, the recorded cause, the number of restarts and
# what the job leaves behind. At the end the rows are printed as a table.

# Runs of two ranks and runs of four ranks; there is a run without a fault for each. Every rank has one thread.
two=(--gpus 0 --num-nodes 2 -W srun --cpus 1 --mem 1500M)
four=(--gpus 2 --num-nodes 2 --cpus 2 --mem 3G)
two_on_one=(--gpus 2 --num-nodes 1 -W srun --cpus 2 --mem 3G)
# No fault hits these nodes as a whole. A job that comes last waits for the runs without a fault.
quiet=(--nodelist 'node[1-2]')
# An epoch has 23 steps.
digits='--epochs 8 --save-every 20'

# begin NAME FAULTS_AND_FLAGS OPTION...   Submits a training on the digits (programs/faulty.py); sets job and run_directory.
begin() {
  experiments "python -m programs.faulty $digits $2"
  submit --exp-name "$1" "${@:3}"
  keep "$1"
}

keep() {
  printf '%s\n%s\n' "$job" "$run_directory" >"$BATS_FILE_TMPDIR/row $1"
}

# recall NAME   Sets job and run_directory to those of the last job with this name.
recall() {
  { read -r job && read -r run_directory; } <"$BATS_FILE_TMPDIR/row $1"
}

# checkpoints NAME[/TASK]   Prints its folder of checkpoints. Beside that folder programs/faulty.py creates a file for each fault that has
# come.
checkpoints() {
  local -r name=${1%/*}
  local -r task=${1#"$name"}
  printf '%s\n' "$SCRATCH/${project##*/}/$name/checkpoints${task/#\///task_}"
}

# newest NAME   Prints its newest checkpoint.
newest() {
  local -a found
  found=("$(checkpoints "$1")"/step_*)
  printf '%s\n' "${found[-1]}"
}

# comes NAME[/TASK] FAULT_STEP   Waits until programs/faulty.py reports this fault at this step, and recalls the job.
comes() {
  recall "${1%/*}"
  if ! wait_until 200 test -e "$(checkpoints "$1").$2"; then
    squeue >&2
    job_log >&2
    return 1
  fi
}

# strike NAME FAULT_STEP COMMAND...   Runs COMMAND when the job has reached this fault. If that fails, only a message is printed: the row's
# own test will fail.
strike() {
  if ! comes "$1" "$2" || ! "${@:3}"; then printf 'the fault of the row %s has not come\n' "$1" >&2; fi
}

# goes_on NAME[/TASK]   Ends its `hold` or `slow`.
goes_on() {
  : >"$(checkpoints "$1").go"
}

# ask_to_stop ATTEMPT [TASK]
ask_to_stop() {
  : >"$run_directory/task_${2:-1}/attempt_$1/stop"
}

cancel() {
  scancel "$job"
}

# kill_rank RANK
kill_rank() {
  local process
  for process in $(processes_of "$job"); do
    if [[ $(<"/proc/$process/comm") == python ]] && grep -qzx "RANK=$1" "/proc/$process/environ"; then
      kill -KILL "$process"
      return
    fi
  done
  return 1
}

# preempt NODE   Submits a job that takes the whole node for a moment.
preempt() {
  sbatch --parsable --partition=urgent --nodelist="$1" --exclusive --output=/dev/null --wrap true >/dev/null
}

# The controller saves its state every five seconds. Killed before, it forgets requests, and it starts a job a second time that it has just
# started: slurmd refuses, and the job is put back and held ("launch failed requeued held").
restart_controller() {
  wait_until 30 controller_has_saved
  kill_process slurmctld
  bash "$checkout/hpc/pocket_cluster.sh" up 3>&- 4>&-
}

controller_has_saved() {
  local newest saved
  newest=$({ squeue --noheader --format=%V && squeue --noheader --states=CF,R,CG --format=%S; } | sort | tail -n 1)
  saved=$(date --reference="$POCKET_CLUSTER_DIR/state/job_state" +%FT%T)
  [[ -n $newest && $saved > $newest ]]
}

# Truncate the newest checkpoint between two attempts.
stop_and_truncate() {
  ask_to_stop 0
  cause 0 >/dev/null
  truncate --size=-1 -- "$(newest damaged)/__0_0.distcp"
}

# Send SIGTERM to all ranks while one of them is still writing.
signal_in_save() {
  wait_until 60 is_saving
  scancel --signal=TERM "$job"
  if is_saving; then : >"$BATS_FILE_TMPDIR/signalled in a save"; fi
}

is_saving() {
  compgen -G "$(checkpoints saving)/.step_*.partial" >/dev/null
}

# Mount a file system of 8 MB over the folder of checkpoints of the row `full`, on node1 alone.
make_small_disk() {
  local -r folder=$(checkpoints full)
  mkdir -p -- "$folder"
  in_node node1 mount -t tmpfs -o size=8m,nr_inodes=400 none "$folder"
}

# Two saves fail; the last save before the end of the attempt succeeds.
fail_saves() {
  fill_bytes
  wait_until 60 log_has 'was not saved: it needs '
  empty_small_disk
  fill_inodes 3
  wait_until 60 log_has 'No space left on device'
  ask_to_stop 0
  cause 0 >/dev/null
  empty_small_disk
}

fill_bytes() {
  in_node node1 dd if=/dev/zero of="$(checkpoints full)/filler" bs=64k status=none 2>/dev/null || true
}

# fill_inodes COUNT   Uses all inodes but COUNT: there is space for a checkpoint, but writing it fails.
fill_inodes() {
  in_node node1 python3 - "$(checkpoints full)" "$1" <<'PYTHON'
import contextlib, itertools, sys
from pathlib import Path
made = []
with contextlib.suppress(OSError):
    for number in itertools.count():
        made.append(Path(sys.argv[1], f"filler{number}"))
        made[-1].touch()
for path in made[-1 - int(sys.argv[2]) :]:
    path.unlink(missing_ok=True)
PYTHON
}

empty_small_disk() {
  in_node node1 find "$(checkpoints full)" -name 'filler*' -delete
}

flip_bit() {
  python3 - "$1" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as file:
    content = bytearray(file.read())
    content[len(content) // 2] ^= 1
    file.seek(0)
    file.write(content)
PYTHON
}

# even_data FOLDER   Copies the digits with a number of training samples that is a multiple of 64, so that no sample is repeated.
even_data() {
  cp -R -- "$SCRATCH/${project##*/}/datasets/digits" "$1"
  python3 - "$1" <<'PYTHON'
import struct, sys
from pathlib import Path
for name, header, size in (("images-idx3", 16, 64), ("labels-idx1", 8, 1)):
    path = Path(sys.argv[1], f"train-{name}-ubyte")
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + struct.pack(">i", 1408) + whole[8 : header + 1408 * size])
PYTHON
}

# each_once FILE...   Checks what programs/faulty.py has recorded on all ranks: each of the 1408 samples once in each of 8 epochs.
each_once() {
  python3 - "$@" <<'PYTHON'
import sys
from pathlib import Path
seen = {}
for path in sys.argv[1:]:
    for line in Path(path).read_text().splitlines():
        epoch, *samples = map(int, line.split())
        seen.setdefault(epoch, []).extend(samples)
assert sorted(seen) == list(range(1, 9)), sorted(seen)
for epoch, samples in seen.items():
    assert sorted(samples) == list(range(1408)), f"epoch {epoch}: {len(samples)} samples, {len(set(samples))} of them different"
PYTHON
}

log_has() {
  grep -qF -- "$1" "$run_directory/task_1/log.txt"
}

steps_done() {
  wc -l <"$run_directory/task_1/output/samples_0"
}

more_steps_than() {
  (($(steps_done) > $1))
}

node_is_up() {
  [[ $(sinfo --noheader --nodes="$1" --format=%t) == @(idle|mix|alloc) ]]
}

node_is_down() {
  [[ $(sinfo --noheader --nodes="$1" --format=%t) == down* ]]
}

# cause ATTEMPT [TASK]   Waits for the recorded cause and prints it.
cause() {
  local -r file=$run_directory/task_${2:-1}/attempt_$1/cause
  wait_until 60 test -s "$file"
  cat -- "$file"
}

# causes [TASK]   Prints the causes of all attempts, separated by commas.
causes() {
  local -i number=0
  local all=''
  while [[ -s $run_directory/task_${1:-1}/attempt_$number/cause ]]; do
    all+=${all:+, }$(<"$run_directory/task_${1:-1}/attempt_$number/cause")
    number+=1
  done
  printf '%s\n' "$all"
}

# survived NAME RANKS RESTARTS CAUSES [FOLDER]   The job must complete with the weights of the run of RANKS ranks that had no fault. FOLDER
# is its folder of checkpoints.
survived() {
  ended "$job" 150 COMPLETED 0:0
  seen "$job" 1 "$3" "$4"
  same_weights "$2" "${5:-$(checkpoints "$1")}/final.pt"
  nothing_left "$job"
}

# given_up STATE CAUSES RESTARTS   The job must have ended in this state.
given_up() {
  wait_for_job "$job" 60
  same "$job_states" "$1"
  seen "$job" 1 "$3" "$2"
  nothing_left "$job"
}

# seen JOB TASK RESTARTS CAUSES   Records restarts and causes for the table and compares them with the arguments.
seen() {
  local -r restarts=$(restarts "$1" "$2") causes=$(causes "$2")
  seen_restarts+=${seen_restarts:+ + }$restarts seen_causes+=${seen_causes:+ + }$causes
  same "$causes; $restarts" "$4; $3" || {
    scontrol --oneliner show job "$1" >&2
    job_log "$2" >&2
    return 1
  }
  explained "$2" "$4"
}

# explained TASK CAUSES   `experiments.sh why` must name all of these causes.
explained() {
  local cause
  local -a all=()
  seen_text=$(bash "$project/hpc/experiments.sh" why "$run_directory/task_$1")
  cause=${seen_text%%$'\n'*}
  cause=${cause#*): }
  seen_why+=${seen_why:+ + }${cause%%:*}
  if [[ $cause == finished:* && $cause == *' interrupted '* ]]; then seen_why+=" (${cause##*: })"; fi
  IFS=, read -ra all <<<"$2"
  for cause in "${all[@]# }"; do
    case $cause in
      notice\ request) why_says 'saved after a stop file' ;;
      notice\ signal) why_says 'saved after a signal' ;;
      notice\ time_limit) why_says 'saved before the time limit' ;;
      failed\ 137\ *) why_says "killed: rank $(cut -d ' ' -f 3 <<<"$cause") on $(cut -d ' ' -f 4 <<<"$cause") " ;;
      out_of_memory) why_says 'out of memory: rank 1 on node2 ' ;;
      node_failed) why_says 'node failure' ;;
      *) why_says "$cause" ;;
    esac
  done
}

# why_says TEXT   The last explanation must contain TEXT.
why_says() {
  if [[ $seen_text != *"$1"* ]]; then
    printf 'why does not say: %s\nbut: %s\n' "$1" "$seen_text" >&2
    return 1
  fi
}

# same_weights RANKS FILE   The weights in FILE must be identical, bit by bit, to those of the run without a fault.
same_weights() {
  local -a pythons=("$checkout"/.venv/cpu-*/bin/python)
  seen_equal=no
  "${pythons[0]}" - "$BATS_FILE_TMPDIR/reference_$1.pt" "$2" <<'PYTHON'
import sys
import torch
reference, other = (torch.load(path) for path in sys.argv[1:])
assert list(reference) == list(other)
assert all(torch.equal(reference[name], other[name]) for name in reference), "other weights"
PYTHON
  seen_equal=yes
}

# nothing_left JOB   The job must leave no process, no folder on a node's disk and no node out of service.
nothing_left() {
  wait_until 15 no_process_of "$1" || { processes_of "$1" | xargs ps -o pid,ppid,stat,etime,args -p >&2 && return 1; }
  same "$(local_folders "$1")" ''
  same "$(sinfo --noheader --states=drain --format=%N)" ''
}

no_process_of() {
  [[ -z $(processes_of "$1") ]]
}

# processes_of JOB   Prints its processes on all nodes of this cluster.
processes_of() {
  grep -lszx "SLURM_JOB_ID=$1" /proc/[0-9]*/environ | xargs --no-run-if-empty grep -lszxF "POCKET_CLUSTER_DIR=$POCKET_CLUSTER_DIR" | sed -E 's|/proc/([0-9]+)/.*|\1|' || true
}

network() {
  sed -n 's/^network=//p' -- "$POCKET_CLUSTER_DIR/cluster"
}

# node_process NODE   Prints the process that holds the node: when it ends, the node ends.
node_process() {
  cut -d ' ' -f 1 -- "$POCKET_CLUSTER_DIR/pids/$1"
}

# kill_process NAME   Kills it and waits until it is gone. On a busy machine it dies later, and pocket_cluster.sh up would consider it
# alive.
kill_process() {
  local process
  process=$(node_process "$1")
  kill -KILL "$process"
  wait_until 30 test ! -e "/proc/$process"
}

# in_node NODE COMMAND...   Runs COMMAND where it sees the node's mounts.
in_node() {
  nsenter --target "$(node_process "$1")" --mount -- "${@:2}"
}

# link NODE up|down   Switches the node's cable at the other end.
link() {
  nsenter --target "$(node_process switch)" --net -- ip link set dev "$1" "$2"
}

# Cut the network for a moment, which must have no effect, and then for good.
cut_network() {
  local steps
  link node3 down
  sleep 3
  link node3 up
  steps=$(steps_done)
  wait_until 60 more_steps_than "$steps" && link node3 down
}

# Wait until Slurm has given up the node, then release the job from its nodes. A job that is bound to this node would start there when the
# node comes back. Slurm then ends the processes of the first attempt, and with them the second attempt (22.05).
send_elsewhere() {
  wait_until 90 node_is_down node3
  wait_until 30 is_pending
  scontrol update "jobid=$job" 'nodelist=node[1-2]'
}

is_pending() {
  [[ $(job_field "$job" JobState) == PENDING ]]
}

has_own_networks() {
  [[ $(network) == hosts ]] || skip 'the nodes have no networks and disks of their own (not root)'
}

# Called by teardown: record the row as far as the test has come.
add_row() {
  if [[ -n ${BATS_TEST_SKIPPED:-} ]]; then seen_equal=skipped; fi
  printf '%s|%s|%s|%s|%s\n' "$BATS_TEST_DESCRIPTION" "${seen_causes:--}" "${seen_why:--}" "${seen_restarts:--}" "${seen_equal:-no}" \
    >>"$BATS_FILE_TMPDIR/matrix"
}

# Called by teardown_file, because bats shows what is written to descriptor 3.
print_matrix() {
  local fault cause why restarts equal
  while IFS='|' read -r fault cause why restarts equal; do
    printf '# %-42s  %-38s  %-8s  %-16s  %s\n' "$cause" "$why" "$restarts" "$equal" "$fault"
  done < <(printf 'FAULT|CAUSE OF EACH ATTEMPT (+ SENT AGAIN)|WHY SAYS|RESTARTS|EQUAL WEIGHTS\n' && cat -- "$BATS_FILE_TMPDIR/matrix") >&3
}
