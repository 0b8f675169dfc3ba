#!/usr/bin/env bats
# job_submitter.sh --here: what is refused, and which values come from the allocation. Slurm is a stub with allocations that the pocket
# cluster does not have: of other users, of sites with uneven nodes and so on. tests/cluster/here.bats runs it on the pocket cluster.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  stub_slurm
  cat >"$stub/scontrol" <<'STUB'
#!/bin/sh
case "$*" in
  'show config') printf 'ClusterName             = stub\nMaxArraySize            = 1001\n' ;;
  'show hostnames '*) python3 -c '
import re, sys
for word in re.findall(r"[^,\[]+(?:\[[^]]*\])?", sys.argv[1]):
    name, _, numbers = word.partition("[")
    for part in numbers.rstrip("]").split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1) if first else [""]:
            print(f"{name}{number}")' "$3" ;;
  *'show job '*) cat -- "$STUB/job" ;;
esac
STUB
  printf '#!/bin/sh\ncat -- "$STUB/steps" 2>/dev/null\n' >"$stub/squeue"
  : >"$stub/steps"
  allocation
  make_project
  light=$BATS_TEST_TMPDIR/light
  mkdir -p -- "$light/bin"
  ln -s -- "$(command -v python3)" "$light/bin/python"
  export SCRATCH=$BATS_TEST_TMPDIR/scratch SLURM_JOB_ID=42 HPC_ENVIRONMENT=$light
  mkdir -p -- "$SCRATCH"
}

# allocation [STATE] [UID] [NODES...]   Sets what scontrol shows. NODES: scontrol's words about the job's share of some nodes.
allocation() {
  local -r ends=$(date --date='+1 hour' +%FT%T)
  local -r nodes=${*:3}
  printf 'JobId=42 JobName=interactive UserId=%s JobState=%s Reason=None EndTime=%s NodeList=cn-[7-8] BatchHost=cn-7 JOB_GRES=gpu:a100:4 %s\n' \
    "somebody(${2:-$(id -u)})" "${1:-RUNNING}" "$ends" \
    "${nodes:-Nodes=cn-[7-8] CPU_IDs=0-7,16-23 Mem=65536 GRES=gpu:a100:2(IDX:0-1)} MinCPUsNode=8" >"$stub/job"
}

# nothing_written   There must be nothing on scratch and nothing in the queue.
nothing_written() {
  [[ -z $(ls -A -- "$SCRATCH") && ! -e $RECORD ]]
}

refused() {
  fails_with "$@"
  nothing_written
}

@test "options that need the queue or several jobs are refused with name and value" {
  local option
  local -a words
  for option in '--dependency afterok:7' '--begin now+1hour' '--partition main' '--account mine' '--qos high' '--reservation r' \
    '--constraint nvme' '--nodelist node1' '--exclude node1' '--mail-type END' '--rapid-cycle 2x60' '--pack-in-job' \
    '--max-parallel 2' '--wandb-sweepid abc' '--sbatch-arg=--nice=5'; do
    read -ra words <<<"$option"
    refused 2 "error: ${option%%[ =]*}.*: with --here one run starts now" submitter --here "${words[@]}"
  done
  refused 2 '--here means nothing with --backend sky' submitter --backend sky --here --gpus 0
}

@test "a number that is no allocation of this user's is refused" {
  refused 2 "'x7' is no job id" submitter --here x7
  SLURM_JOB_ID='' refused 2 'SLURM_JOB_ID is not set' submitter --here
  allocation RUNNING 4711
  refused 1 'job 42 belongs to somebody' submitter --here
  allocation PENDING
  refused 1 'job 42 is PENDING, not RUNNING' submitter --here
  local state
  for state in COMPLETED TIMEOUT CANCELLED FAILED; do
    allocation "$state"
    refused 1 "job 42 has ended \($state\)" submitter --here
  done
  : >"$stub/steps"
  allocation
  cat -- "$stub/job" "$stub/job" >"$stub/jobs"
  mv -- "$stub/jobs" "$stub/job"
  refused 2 'that is several jobs' submitter --here
  printf '#!/bin/sh\necho "slurm_load_jobs error: Invalid job id specified" >&2\nexit 1\n' >"$stub/scontrol"
  refused 1 'does not answer|no job 42' submitter --here
}

@test "a request for more than the allocation has is refused; the node with the least counts" {
  allocation RUNNING "$(id -u)" 'Nodes=cn-7 CPU_IDs=0-7 Mem=65536 GRES=gpu:a100:4(IDX:0-3)' 'Nodes=cn-8 CPU_IDs=0-3 Mem=8192 GRES=gpu:a100:2(IDX:0,2)'
  refused 1 '--num-nodes 3: job 42 has 2' submitter --here --num-nodes 3
  refused 1 '--gpus 3: job 42 has 2 on cn-8' submitter --here --gpus 3
  refused 1 '--cpus 6: job 42 has 4 CPUs on cn-8' submitter --here --cpus 6
  refused 1 'MB of memory on each node: job 42 has 8192 MB on cn-8' submitter --here --mem 9G
  refused 1 'MB of memory on each node: job 42 has 8192 MB on cn-8' submitter --here --mem-per-gpu 5G
  refused 1 '--gpu-type v100: the GPUs of job 42 are of type a100' submitter --here --gpu-type v100
  run -0 --separate-stderr submitter --here --num-nodes 1 --gpus 4 --cpus 8 --gpu-type A100 --dry-run
  [[ $output == *"'--nodelist=cn-7'"* ]]
}

@test "several lines, or --repeat, are refused" {
  experiments 'true a' 'true b' 'true c'
  refused 2 'runs one task, and this request has 3' submitter --here --no-preflight
  experiments 'true'
  refused 2 'runs one task, and this request has 4' submitter --here --repeat 4
}

@test "a run that is active in the allocation, and steps that a run has left, are refused; the user's own steps are reported" {
  printf '42.0|here_20261129-160000_77\n42.1|ranks\n' >"$stub/steps"
  refused 1 'a run of the kit is in job 42 already' submitter --here
  printf '42.1|ranks\n42.2|keeper\n' >"$stub/steps"
  refused 1 'scancel 42.1 42.2' submitter --here
  printf '42.interactive|interactive\n42.3|bash\n' >"$stub/steps"
  run -0 --separate-stderr submitter --here --dry-run
  [[ $stderr == *'runs steps of yours already (42.3)'* ]]
}

# stub_step   srun is a stub that fails: at once if the file early exists, else when it has got the run directory.
stub_step() {
  printf '#!/bin/sh\nexit 1\n' >"$stub/srun"
  cat >"$stub/setsid" <<'STUB'
#!/usr/bin/env bash
env >"$STUB/srun_environment"
if [[ -e $STUB/early ]]; then exit 1; fi
if IFS= read -r -d '' run; then cp -- "$run/facts" "$STUB/facts"; else echo 'no run' >"$STUB/step"; fi
exit 1
STUB
  chmod +x -- "$stub"/*
}

# facts_of OPTION...   Sets fact to the facts of a run whose step fails.
facts_of() {
  stub_step
  run --separate-stderr submitter "$@"
  local -gA fact=()
  # shellcheck source=/dev/null
  source "$stub/facts"
}

@test "nodes, GPUs, cores, memory and time come from the allocation by default; a step that does not start leaves nothing" {
  export SLURM_NTASKS=9 SLURM_CPUS_PER_TASK=7 SLURM_OVERCOMMIT=1
  facts_of --here
  ((status == 1))
  [[ $stderr == *'the run did not start in job 42'* ]]
  [[ ${fact[nodes]} == 2 && ${fact[gpus]} == 2 && ${fact[cpus]} == 16 && ${fact[mem_megabytes]} == 65536 && ${fact[here]} == 42 ]]
  [[ ${fact[here_nodes]} == cn-7,cn-8 && -z ${fact[here_gres]} ]]
  ((fact[here_seconds] > 3500 && fact[here_seconds] <= 3600))
  [[ -z $(ls -- "$SCRATCH"/*/hpc_outputs) && ! -e $(echo "$SCRATCH"/*/hpc_outputs)/.here_42.lock ]]
  if grep -E '^SLURM_(NTASKS|CPUS_PER_TASK|OVERCOMMIT|JOB_ID)=' "$stub/srun_environment"; then return 1; fi
  [[ ! -e $RECORD ]] # no sbatch
}

@test "a step that fails while the run directory is written, and a run that is refused while the step starts, leave nothing" {
  stub_step
  : >"$stub/early"
  fails_with 1 'the run did not start in job 42' submitter --here
  [[ -z $(ls -- "$SCRATCH"/*/hpc_outputs) ]]
  rm -- "$stub/early"
  run -1 --separate-stderr submitter --here --output-path /proc/self/nowhere
  [[ $stderr == *'cannot be made'* ]]
  [[ -e $stub/step && -z $(ls -- "$SCRATCH"/*/hpc_outputs) ]]
}

@test "the ranks get a part of the allocation's GPUs if one is requested, and none if none is" {
  facts_of --here --gpus 1 --num-nodes 1
  [[ ${fact[here_gres]} == gpu:1 && ${fact[here_nodes]} == cn-7 ]]
  facts_of --here 42 --gpus 0
  [[ ${fact[here_gres]} == none && ${fact[processes_per_node]} == 1 ]]
}

@test "--time counts if it is shorter than the remaining time; a longer one has no effect, which is reported" {
  facts_of --here --time 10
  [[ ${fact[here_seconds]} == 600 ]]
  facts_of --here --time 12:00:00
  ((fact[here_seconds] <= 3600))
  [[ $stderr == *'--time 12:00:00: job 42 has 0-0'* ]]
}
