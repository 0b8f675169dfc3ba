#!/usr/bin/env bats
# experiments.sh why: the cause, the rank and the remedy of many ends, on run directories as jobs leave them.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  made_runs_setup
}

# why_of NAME TEXT...   Its answer must contain each TEXT.
why_of() {
  local text
  run -0 command_of why "$1"
  for text in "${@:2}"; do
    if [[ $output != *"$text"* ]]; then
      printf 'not there: %s\nin: %s\n' "$text" "$output" >&2
      return 1
    fi
  done
}

# fails CAUSE STATUS LINE...   Makes a run from the last lines of its first failing rank, and another rank that failed because of it.
fails() {
  made_run "$1" "$((made + 1))" 1
  state 1 failed
  attempt 1 0 "failed $2 1 node2" '[rank0]: RuntimeError: [gloo/pair.cc:1] Connection closed by peer' "${@:3}" 'srun: error: all is over'
  failed_rank 1 0 1 node2 "$2" "${@:3}"
}

@test "the message of the first failing rank, not those of the ranks that failed because of it" {
  fails raises 1 'Traceback (most recent call last):' '  File "train.py", line 3, in <module>' 'ValueError: a first one' \
    'During handling of the above exception, another exception occurred:' 'my.own.StrangeError: the second one'
  why_of raises 'job 1 (raises): exception: rank 1 on node2 raised my.own.StrangeError: the second one' \
    'first to fail: rank 1 on node2, status 1' "$run/task_1/rank_1.txt" '    ValueError: a first one' 'to do: mend the program'
  fails imports 1 "ModuleNotFoundError: No module named 'einops.layers'"
  why_of imports 'import error: the environment has no Python module einops (rank 1 on node2)' 'bash venv/create.sh'
  echo "fact[environment]='/home/me/conda/envs/mine'" >>"$run/facts"
  why_of imports 'run  /home/me/conda/envs/mine/bin/python -m pip install -r requirements.txt , then submit'
  echo "fact[container]='/home/me/mine.sif'" >>"$run/facts"
  why_of imports 'run  the build of /home/me/mine.sif , then submit'
  fails other_import 1 "ImportError: cannot import name 'x' from 'y' (/z.py)"
  why_of other_import "import error: an import failed (rank 1 on node2): ImportError: cannot import name 'x'"
  fails gpu 1 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 31 GiB'
  why_of gpu 'GPU out of memory: rank 1 on node2 asked for more memory than its GPU has (another 20.00 MiB)' 'smaller batch'
  fails nccl 134 'Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)' 'terminate called'
  why_of nccl 'collective timed out: ' 'NCCL_SOCKET_IFNAME' '--exclude node2'
  fails gloo 1 'RuntimeError: [../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete'
  why_of gloo 'collective timed out: '
  fails full 1 'OSError: [Errno 28] No space left on device'
  why_of full 'disk full: a disk is full, or a quota is reached (rank 1 on node2)' "archives in ${outputs%/*}"
  fails quota 1 'OSError: [Errno 122] Disk quota exceeded'
  why_of quota 'disk full: '
  fails loader 1 'RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that'
  why_of loader "loader worker killed: a loader's worker of rank 1 on node2 died (Bus error)" 'resubmit 9 --mem 6G'
  fails ecc 1 'RuntimeError: CUDA error: uncorrectable ECC error encountered'
  why_of ecc 'broken GPU: a GPU of node2 is broken, or another program holds it: ' 'uncorrectable ECC' '--exclude node2'
  fails finished 134 'step 20 loss 0.1' 'done' 'terminate called without an active exception' 'Aborted (core dumped)'
  why_of finished 'aborted at exit: rank 1 on node2 aborted while Python exited' 'its work may be complete' 'os._exit(0)'
  fails raised 134 'Traceback (most recent call last):' '  File "train.py", line 3, in <module>' 'ValueError: a first one' \
    'terminate called without an active exception'
  why_of raised 'exception: rank 1 on node2 raised ValueError: a first one'
  fails other 134 'Traceback (most recent call last):' 'RuntimeError: [gloo/pair.cc:1] Connection closed by peer [10.0.0.1]:9' \
    'terminate called without an active exception'
  printf '%s\n' '== attempt 0' 'rank 0 of 4: node 0, node1 (10.0.0.1), local rank 0, 2 CPUs, GPUs 0' 'Traceback (most recent call last):' \
    'KeyError: 3' >"$run/task_1/rank_0.txt"
  why_of other 'exception: rank 0 on node1 raised KeyError: 3'
  fails segment 139 'Fatal Python error: Segmentation fault'
  why_of segment 'crashed: rank 1 on node2 crashed in compiled code (SIGSEGV)'
  fails killed 137
  why_of killed 'killed: rank 1 on node2 was killed (signal 9)'
  fails told 143
  why_of told 'ended by a signal: rank 1 on node2 was ended by a signal (SIGTERM)'
  fails absent 127 '/run/hpc/job/rank.sh: line 25: trian: command not found'
  why_of absent 'command not found: the command is not there on the node (rank 1 on node2): trian: command not found'
  fails typed 2 'train.py: error: argument --lr: invalid float value: x'
  why_of typed 'wrong arguments: rank 1 on node2 did not understand its command line: train.py: error: argument --lr'
  fails silent 3
  why_of silent 'failed: rank 1 on node2 ended with status 3'
  fails unset_name 2 'rank.sh: error: the command uses ${NAME}, and NAME is not set on node2'
  why_of unset_name 'bad request: the command uses ${NAME}, and NAME is not set on node2'
}

@test "limits of the shell, a GPU that is not seen, gloo at the loopback address" {
  fails slow 152
  why_of slow 'CPU time limit: rank 1 on node2 used more CPU time than a limit' 'ulimit -t'
  fails files 1 'OSError: [Errno 24] Too many open files: /data/x'
  why_of files 'too many open files: rank 1 on node2 had more files open' 'set_sharing_strategy'
  fails slice 1 'RuntimeError: CUDA error: invalid device ordinal'
  why_of slice 'GPU number: rank 1 on node2 asked for a GPU by a number' 'cuda:0'
  fails loopback 1 'RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error, remote=[127.0.1.1]:4567'
  why_of loopback 'loopback address: gloo listened at 127.0.1.1' 'site[interface]' GLOO_SOCKET_IFNAME
}

@test "the system's message decides before the library's, and NCCL's last line before its name" {
  local number=0 word line
  while IFS='|' read -r word line; do
    ((number += 1))
    fails "end$number" 1 'Traceback (most recent call last):' '  File "train.py", line 3, in <module>' "$line"
    why_of "end$number" "): $word: "
  done <<'ENDS'
disk full|safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)
disk full|OSError: Can't write data (file write failed: filename = '/x/y.h5', errno = 122, error message = 'Disk quota exceeded')
disk full|tensorflow.errors_impl.ResourceExhaustedError: /x/ckpt.tmp; No space left on device
disk full|OSError: 125000 requested and 62432 written
file system|safetensors_rust.SafetensorError: Error while deserializing header: I/O error: Input/output error (os error 5)
permission denied|tarfile.ReadError: /x/y.tar: Permission denied (os error 13)
damaged file|safetensors_rust.SafetensorError: Error while deserializing header: header too large
NCCL|torch.distributed.DistBackendError: ncclSystemError: Call to ibv_create_cq failed with error No such device
NCCL|torch.distributed.DistBackendError: ncclSystemError: Call to ibv_reg_mr failed with error Cannot allocate memory
NCCL|torch.distributed.DistBackendError: ncclRemoteError: NET/IB : Got completion from peer 10.0.0.2<1> with status=5 opcode=0
NCCL|torch.distributed.DistBackendError: ncclUnhandledCudaError: Call to CUDA function failed. Cuda failure 'peer access is not supported'
broken GPU|torch.distributed.DistBackendError: ncclUnhandledCudaError: Cuda failure 999 'unknown error'
GPU driver|torch.distributed.DistBackendError: ncclUnhandledCudaError: Cuda failure 35 'CUDA driver version is insufficient'
collective timed out|torch.distributed.DistBackendError: ncclRemoteError: socketProgress: Connection closed by remote peer node2
ENDS
  why_of end2 "at the file system of /x/y.h5"
  fails tmp 1 'Traceback (most recent call last):' '  File "/e/site-packages/torch/_inductor/codecache.py", line 3, in write_atomic' 'OSError: [Errno 28] No space left on device'
  why_of tmp '/tmp of node2' TORCHINDUCTOR_CACHE_DIR
}

@test "nodes are named completely, whatever characters their names have" {
  local nodes
  made_run lost 1 1
  state 1 running
  attempt 1 0 ''
  echo 'FAILED|1:0' >"$STUB/account"
  for nodes in 'gpu-a100-[001-002]=gpu-a100-001' cn-07=cn-07 'cn-a[7,9-12]-x,other=cn-a7-x' 'rack[1-2]n[05-09],z=rack1n05' a-1,b-2=a-1; do
    echo "${nodes%%=*}" >"$run/task_1/attempt_0/nodes"
    why_of lost "lost: its batch script on ${nodes##*=} was killed" "sinfo -n ${nodes##*=}"
  done
}

@test "a save that failed without ending the job is a note, not the cause" {
  fails later 1 'step 5 was not saved: it needs 3 MB' 'OSError: No space left on device: NOT saved' 'KeyError: 7'
  why_of later 'exception: rank 1 on node2 raised KeyError: 7' $'\nnote: disk full: 2 checkpoints could not be saved; make room'
  made_run mended 2 1
  state 1 completed
  attempt 1 0 finished 'train.checkpoint: skipped /c/step_20: __1_0.distcp has changed since it was written'
  why_of mended 'finished: it has finished, in 00:10:00' 'note: damaged checkpoint: 1 were skipped'
}

@test "data that did not arrive; other ends before the ranks started" {
  made_run staging 1 1
  state 1 failed
  attempt 1 0 'failed 1 - -' 'keep_node.sh: error: no space on node1: the data need 5 GB in /tmp, and 1 GB are free'
  why_of staging 'data not staged: the data of --data did not come' 'no space on node1: the data need 5 GB'
  made_run nodes 2 1
  state 1 failed
  attempt 1 0 'failed 1 - -' 'batch.sh: error: Slurm gave 1 nodes; the run asked for 2'
  why_of nodes 'bad request: Slurm gave 1 nodes; the run asked for 2'
}

@test "out of memory: the peak of the samples, of Slurm's message, of its accounting; what to request" {
  made_run sampled 1 1
  state 1 failed
  attempt 1 0 out_of_memory 'srun: error: node2: task 3: Out Of Memory'
  printf 'time\tcpu_seconds\tmemory_bytes\tgpu_percent\tgpu_memory_mib\n1\t2\t3221225472\t0\t0\n2\t2\t5368709120\t0\t0\n3\t2\t104857' \
    >"$run/task_1/attempt_0/usage_node2.tsv"
  printf 'time\tcpu_seconds\tmemory_bytes\tgpu_percent\tgpu_memory_mib\n1\t2\t4294967296\t\t\n' >"$run/task_1/attempt_0/usage_node1.tsv"
  why_of sampled 'out of memory: rank 3 on node2 took more memory than the 4G a node that were asked for; the most that was measured is 5G' \
    'to do: bash hpc/experiments.sh resubmit 1 --mem 8G '
  # Slurm 26.05 names neither node nor task, so the samples decide.
  made_run nameless 4 1
  state 1 failed
  attempt 1 0 out_of_memory '[2026-11-28T19:08:52.427] error: Detected 1 oom_kill event in StepId=4.0. Some of the step tasks have been OOM Killed.'
  cp -- "$outputs/sampled"_*/task_1/attempt_0/usage_* "$run/task_1/attempt_0/"
  echo 'rank 0 of 2: node 0, node1 (10.0.0.1), local rank 0' >"$run/task_1/rank_0.txt"
  echo 'rank 1 of 2: node 1, node2 (10.0.0.2), local rank 0' >"$run/task_1/rank_1.txt"
  why_of nameless 'out of memory: rank 1 on node2 took more memory than the 4G a node'
  made_run told 2 1 mem_megabytes=1000
  state 1 failed
  attempt 1 0 out_of_memory 'slurmstepd: error: StepId=2.0 exceeded memory limit (1235558400 > 1048576000), being killed'
  why_of told 'the 1000M a node that were asked for; the most that was measured is 1178M' '--mem 1792M'
  made_run accounted 3 1
  state 1 failed
  attempt 1 0 out_of_memory
  printf '\n2048K\n4300800K\n' >"$STUB/account"
  why_of accounted 'the most that was measured is 4200M'
  rm -- "$STUB/account"
  why_of accounted 'a rank took more memory than the 4G a node that were asked for'$'\n'
}

# used NODE MEGABYTES   Writes a sample into the first attempt of the run's only task.
used() {
  printf 'time\tcpu_seconds\tmemory_bytes\tgpu_percent\tgpu_memory_mib\n1\t2\t%s\t\t\n' "$(($2 << 20))" >"$run/task_1/attempt_0/usage_$1.tsv"
}

@test "out of memory in the message of Slurm 26.05, which names no node: the samples name it, or nothing does" {
  local -a words=('[2026-11-29T12:48:50.026] error: StepId=1.0 exceeded memory limit (4479367936 > 4294967296), being killed'
    '[2026-11-29T12:48:50.126] error: *** STEP 1.0 ON node1 CANCELLED AT 2026-11-29T12:48:50 DUE to SIGNAL Killed ***'
    'srun: error: node2: task 1: Killed' 'srun: error: node1: task 0: Killed')
  made_run measured 1 1
  state 1 failed
  attempt 1 0 out_of_memory "${words[@]}"
  printf 'rank 0 of 2: node 0, node1 (10.0.0.1), local rank 0\n' >"$run/task_1/rank_0.txt"
  printf 'rank 1 of 2: node 1, node2 (10.0.0.2), local rank 0\n' >"$run/task_1/rank_1.txt"
  echo 'node[1-2]' >"$run/task_1/attempt_0/nodes"
  used node1 900
  used node2 3900
  why_of measured 'out of memory: rank 1 on node2 took more memory than the 4G a node'
  # It may have been both.
  used node1 3000
  why_of measured 'out of memory: a rank took more memory than the 4G a node'
  # No sample has the growth of the last second.
  used node1 900
  used node2 950
  why_of measured 'out of memory: a rank took more memory than the 4G a node'

  made_run alone 2 1 nodes=1
  state 1 failed
  attempt 1 0 out_of_memory "${words[@]:0:2}" 'srun: error: node1: task 0: Killed'
  printf 'rank 0 of 1: node 0, node1 (10.0.0.1), local rank 0\n' >"$run/task_1/rank_0.txt"
  echo node1 >"$run/task_1/attempt_0/nodes"
  why_of alone 'out of memory: rank 0 on node1 took more memory'
}

@test "the time limit: how fast the program was, and the time that it needs" {
  made_run slow 1 1 time=0-00:10:00
  state 1 failed
  attempt 1 0 time_limit 'epoch 3/20: loss 1' 'epoch 4/20: loss 1'
  why_of slow 'time limit: the time limit of 0-00:10:00 came before the end; epoch 4 of 20 was reached in 00:10:00, so the whole needs about 00:50:00' \
    'resubmit 1 --time 01:00:00 '
  made_run unknown 2 1 time=0-00:10:00
  state 1 failed
  attempt 1 0 time_limit
  why_of unknown 'how fast it was is not known' '--time 00:20:00'
}

@test "interruptions: preempted N times, hung, ignored the stop, no restarts left, cancelled, a node that died" {
  made_run often 1 1
  state 1 completed
  attempt 1 0 preempted
  attempt 1 1 node_failed
  attempt 1 2 finished
  why_of often 'finished: ' 'attempt 0: preempted, after 00:10:00 on node[1-2]' 'attempt 1: node failure, ' 'interrupted 2 times: 1 preempted, 1 node failure'
  made_run spent 2 1 max_restarts=1
  state 1 failed
  attempt 1 0 'notice request'
  attempt 1 1 'notice time_limit' 'job 2: not started again: it was 1 times, and --max-restarts is 1'
  failed_rank 1 1 0 node1 75
  why_of spent 'no restarts left: it was interrupted (saved before the time limit) after 1 restarts, and --max-restarts is 1'
  made_run hangs 3 1 max_restarts=0
  state 1 failed
  attempt 1 0 hung
  failed_rank 1 0 1 node2 134 'Fatal Python error: Aborted' 'Thread 0x1 (most recent call first):' '  File "/a.py", line 1 in wait' '' \
    'Current thread 0x2 (most recent call first):' '  File "/usr/lib/x.py", line 2 in recv' "  File \"$run/source/train.py\", line 3 in step"
  why_of hangs 'hung: no rank made progress for 00:30:00' --hang-minutes $'\n'"    rank 1: File \"$run/source/train.py\", line 3 in step"
  made_run deaf 4 1
  state 1 failed
  attempt 1 0 deaf
  why_of deaf 'ignored stop: at the end of a cycle the program ignored STOP_FILE'
  echo ignored_stop >"$run/task_1/attempt_0/cause"
  why_of deaf 'ignored stop: at the end of a cycle the program ignored STOP_FILE'
  made_run gone 5 1
  state 1 failed
  attempt 1 0 cancelled
  why_of gone 'cancelled: it was cancelled by the user (scancel)' 'resubmit 5'
  made_run never 6 1
  why_of never 'cancelled: it was taken out of the queue before it began'
  made_run died 7 1
  state 1 failed
  attempt 1 0 node_failed
  why_of died 'node failure: a node died under it (node[1-2])'
}

@test "an end that nothing recorded: Slurm's state, or its accounting's" {
  made_run lost 1 1
  state 1 running
  attempt 1 0 ''
  echo 'JobId=1 JobName=x JobState=NODE_FAIL Reason=NodeDown ' >"$STUB/job"
  why_of lost 'node failure: a node died under it (node[1-2])'
  rm -- "$STUB/job"
  echo 'OUT_OF_MEMORY|0:125' >"$STUB/account"
  why_of lost 'out of memory: '
  echo 'FAILED|1:0' >"$STUB/account"
  why_of lost 'lost: its batch script on node1 was killed before it could record why: Slurm says FAILED 1:0'
  rm -- "$STUB/account"
  why_of lost 'lost: its batch script on node1 was killed before it could record why'$'\n'
}

@test "a batch script that ended before its first attempt: Slurm's state, and its log" {
  made_run broken 1 1
  echo '/var/spool/slurm/job1/slurm_script: line 30: /run/facts: No such file or directory' >"$run/task_1/log.txt"
  echo 'JobId=1 JobName=x JobState=FAILED Reason=NonZeroExitCode ' >"$STUB/job"
  why_of broken 'not started: its batch script ended before the first attempt began: Slurm says FAILED NonZeroExitCode' \
    "its log ends ($run/task_1/log.txt):" 'line 30: /run/facts: No such file' 'to do: see how its log ends; then  bash hpc/experiments.sh resubmit 1'
  echo 'batch.sh: error: it has no such thing' >"$run/task_1/log.txt"
  why_of broken 'bad request: it has no such thing'
  echo 'tar: x: Cannot write: No space left on device' >"$run/task_1/log.txt"
  why_of broken 'disk full: '
  # The second start of its batch script; the log does not show it.
  made_run restarted 2 1
  state 1 paused
  attempt 1 0 preempted
  why_of restarted 'lost: its batch script on node1 was killed before it could record why: Slurm says FAILED NonZeroExitCode'
  echo 'JobId=2 JobName=x JobState=CANCELLED Reason=None ' >"$STUB/job"
  why_of restarted 'cancelled: it was taken out of the queue while it waited to go on, after: preempted'
}

@test "Slurm did not answer when an attempt ended" {
  made_run doubtful 1 1
  state 1 failed
  attempt 1 0 'notice request'
  attempt 1 1 'failed 3 1 node2'
  echo 'scontrol: no answer for 120 s' >"$run/task_1/attempt_1/doubt"
  why_of doubtful $'on node[1-2]\n  Slurm did not answer when this ended: scontrol: no answer for 120 s'
  mv -- "$run/task_1/attempt_1" "$run/attempt_1"
  cp -- "$run/attempt_1"/{doubt,cause} "$run/task_1/attempt_0/"
  why_of doubtful $'\nSlurm did not answer when this ended: scontrol: no answer for 120 s'
}

@test "jobs that run and jobs that wait; Slurm's reason, explained" {
  local reason text
  made_run going 1 1
  state 1 running
  attempt 1 0 '' 'epoch 3/20'
  touch -- "$run/task_1/attempt_0/heartbeat"
  queued 1 N/A RUNNING None
  why_of going 'running: attempt 0 on node[1-2], epoch 3 of 20, the last beat 00:00:' ' ago, 59:00 left'
  echo 'for good' >"$run/task_1/attempt_0/stop"
  touch -d '70 seconds ago' -- "$run/task_1/attempt_0/stop"
  why_of going ', asked to save and stop 00:01:1' ' ago, 59:00 left'
  : >"$STUB/queue"
  queued 1 N/A SUSPENDED None
  why_of going 'suspended: Slurm has suspended it (' '): attempt 0 on node[1-2], epoch 3 of 20, '
  made_run waits 2 1
  while IFS='|' read -r reason text; do
    : >"$STUB/queue"
    queued 2 N/A PENDING "$reason"
    why_of waits "pending: it waits: $text" "$reason"
  done <<'REASONS'
Priority|jobs of higher priority come first
Resources|no nodes are free
QOSMaxGRESPerUser|a limit of your account or qos
AssocGrpCPUMinutesLimit|a limit of your account or qos
ReqNodeNotAvail, UnavailableNodes:node1|nodes that it needs are down
DependencyNeverSatisfied|for another job, which has failed: it will never start
PartitionTimeLimit|--time is more than its partition allows
JobHeldUser|you hold it: scontrol release 2
launch failed requeued held|Slurm could not start it, and holds it: scontrol release 2
job requeued in held state|it was put back into the queue and is held: scontrol release 2
JobHeldAdmin|the staff holds it, or Slurm does after a failed start
SomethingNew|Slurm's reason is
REASONS
  : >"$STUB/queue"
  queued 2 N/A PENDING Dependency
  echo 'afterok:47(unfulfilled),aftercorr:51_*(unfulfilled)' >>"$STUB/queue" # the answer to --format=%E
  why_of waits 'it waits: for job 47 (afterok), job 51 (aftercorr) (Dependency)'
  : >"$STUB/queue"
  queued 2 N/A PENDING SomethingNew
  attempt 1 0 preempted
  state 1 paused
  why_of waits "paused: it waits to go on, after: preempted: Slurm's reason is SomethingNew"
  rm -- "$STUB/queue"
  why_of waits 'paused: it waits to go on, after: preempted'
}

@test "several tasks: those with the same end together; one task by its number" {
  local task
  made_run many 9 5
  for task in 1 2 4; do state "$task" completed; done
  for task in 3 5; do
    state "$task" failed
    attempt "$task" 0 cancelled
  done
  why_of many '3 of 5 tasks completed: 1-2,4' '2 of 5 tasks cancelled: 3,5' 'job 9_3 (many, task 3): cancelled: '
  why_of 9_5 'job 9_5 (many, task 5): cancelled'
  [[ ${#lines[@]} == 2 ]]
  run -1 command_of why many --task 7
}
