#!/usr/bin/env bats
# How hpc/doctor.sh interprets the answers of other programs, and how the submitter uses its findings.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA options_value+=() options_source+=() site+=() slurm+=()
declare -ga staging_paths+=() probe_profile_lines
declare -g probe_profile_script+=''

setup() {
  export HOME=$BATS_TEST_TMPDIR/home XDG_STATE_HOME=$BATS_TEST_TMPDIR/state XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  mkdir -- "$HOME"
  unset WANDB_API_KEY NETRC
}

# Loads the libraries into this shell.
probes() {
  use_libraries common slurm sending checks options dotenv secrets site partitions node_job findings probe_slurm probe_login probe_node
  source "$checkout/venv/environment.sh"
  site[name]=default options_value[json]='' options_value[account]=''
}

# stub NAME LINE...   Puts a program first in PATH that prints the LINEs.
stub() {
  stubs=$BATS_TEST_TMPDIR/stubs
  mkdir -p -- "$stubs"
  printf '%s\n' "${@:2}" >"$stubs/$1.output"
  printf '#!/bin/sh\ncat -- "$0.output"\n' >"$stubs/$1"
  chmod +x -- "$stubs/$1"
  PATH=$stubs:$PATH
}

# found LEVEL PATTERN COMMAND...   The finding of COMMAND must have this level and match.
found() {
  local -r level=$1 pattern=$2
  findings_list=()
  "${@:3}" >/dev/null || true
  local finding
  for finding in "${findings_list[@]}"; do
    if [[ $finding == *$'\t'"$level"$'\t'* && $finding =~ $pattern ]]; then return; fi
  done
  printf 'found, and not %s %s: %s\n' "$level" "$pattern" "${findings_list[*]}" >&2
  return 1
}

@test "wrong options end with status 2" {
  make_project
  fails_with 2 "unknown option '--jsn': did you mean --json" bash "$project/hpc/doctor.sh" --jsn
  fails_with 2 "unexpected argument 'main'" bash "$project/hpc/doctor.sh" main
  fails_with 2 "'soon' is not a whole number" bash "$project/hpc/doctor.sh" --wait soon
  run bash "$project/hpc/doctor.sh" --help
  [[ $status == 0 && $output == *'--quick'* ]]
}

@test "without Slurm, or if it does not answer: not ready, and the rest of this machine is checked" {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR
  stub sbatch ''
  stub scontrol ''
  printf '#!/bin/sh\necho "slurm_load_ctl_conf error: Unable to contact slurm controller" >&2; exit 1\n' >"$stubs/scontrol"
  run --separate-stderr bash "$project/hpc/doctor.sh"
  [[ $status == 1 && $output == 'problem  slurm           Slurm does not answer (slurm_load_ctl_conf'*'ok       output'*'not ready: 1 problem' ]]
  [[ ! -e $XDG_STATE_HOME ]]
}

@test "partitions, GPUs and limits as sinfo and scontrol print them" {
  probes
  stub_slurm
  local partition='' option='' _shown=''
  local -a groups=()
  options_value[partition]='' options_value[gpu_type]=''
  found ok 'main: 4 nodes of 16 CPUs, 64000 MB, gpu:v100l:4.*, at most infinite' probe_slurm::partition partition groups _shown
  [[ $partition == main && ${#groups[@]} == 1 ]]
  found ok '4 a node, of type v100l' probe_slurm::gpus option main "${groups[@]}"
  [[ $option == --gpus-per-node=v100l:1 ]]
  options_value[gpu_type]=V100L options_source[gpu_type]=option
  found ok v100l probe_slurm::gpus option main "${groups[@]}"
  options_value[gpu_type]=H100
  found problem '--gpu-type says H100, and partition main has v100l.*site\[gpu_type\]=v100l in' probe_slurm::gpus option main "${groups[@]}"
  options_value[partition]=big
  found ok 'big: 2 nodes of 64 CPUs.*; 1 nodes of 64\+ CPUs' probe_slurm::partition partition groups _shown
  options_value[gpu_type]=''
  found ok '8 a node, of type A40 a100' probe_slurm::gpus option big "${groups[@]}"
  options_value[partition]=cpu
  found ok 'no GPUs, at most 2-00:00:00' probe_slurm::partition partition groups _shown
  option=''
  found note 'none in partition cpu' probe_slurm::gpus option cpu "${groups[@]}"
  [[ -z $option ]]
  options_value[partition]=nowhere
  found problem "'nowhere': this cluster has main urgent big short cpu" probe_slurm::partition partition groups _shown
  [[ -z $partition ]]
  sed -i 's/up$/drain/' "$stub/partitions"
  options_value[partition]=main
  found problem 'it is drain' probe_slurm::partition partition groups _shown
  stub sinfo ''
  printf '#!/bin/sh\necho "sinfo: error: Access denied" >&2; exit 1\n' >"$stubs/sinfo"
  found problem 'sinfo: .*Access denied' probe_slurm::partition partition groups _shown
  [[ -z $partition ]]
}

@test "GPUs of a node: types, sockets, several kinds, none" {
  probes
  local -ra groups=('a*|1|1|1|gpu:4(S:0-1)|1|up' 'b|1|1|1|gpu:a100:2(S:0,1),gpu:mi300:1,nvme:4|1|up' 'c|1|1|1|(null)|1|up')
  local -A gpus=()
  partitions::gpus gpus "${groups[@]}"
  [[ ${gpus[all]} == 4 && ${gpus[a100]} == 2 && ${gpus[mi300]} == 1 && ${#gpus[@]} == 3 ]]
  partitions::gpus gpus "${groups[1]}"
  [[ ${gpus[all]} == 3 ]]
  partitions::gpus gpus "${groups[0]}" "${groups[2]}"
  [[ ${gpus[all]} == 4 && ${#gpus[@]} == 1 ]]
  partitions::gpus gpus "${groups[2]}"
  [[ ${gpus[all]} == 0 ]]
}

@test "KillWait, arrays, requeue, accounting and version: which values are findings" {
  probes
  slurm=([KillWait]='9 sec' [MaxArraySize]=100 [SLURM_VERSION]=20.11.9 [JobRequeue]=1)
  found problem 'KillWait=9 s' probe_slurm::limits
  found note 'MaxArraySize=100.*more than 99 tasks' probe_slurm::limits
  found note '20.11.9' probe_slurm::limits
  found problem 'JobRequeue=1, and a job that asked' probe_slurm::requeue 0
  found ok 'JobRequeue=1' probe_slurm::requeue 1
  slurm=([KillWait]='10 sec' [MaxArraySize]=101 [SLURM_VERSION]=24.11.5)
  found ok '10 s' probe_slurm::limits
  found ok 'MaxArraySize=101' probe_slurm::limits
  found ok '24.11.5' probe_slurm::limits
  slurm[AccountingStorageType]=accounting_storage/slurmdbd
  stub sacctmgr ours mine mine
  found note 'your accounts: mine ours' probe_slurm::accounting
  options_value[account]=mine
  found ok 'slurmdbd, your accounts: mine ours' probe_slurm::accounting
}

@test "preemption: what a partition does to jobs" {
  probes
  slurm[PreemptType]=preempt/partition_prio
  found note 'CANCEL, GraceTime=15 s: preempted jobs do not come back' probe_slurm::preemption 'PartitionName=main GraceTime=15 Hidden=NO PreemptMode=CANCEL State=UP'
  found note 'REQUEUE, GraceTime=0 s.*no time to save' probe_slurm::preemption 'PartitionName=main GraceTime=0 Hidden=NO PreemptMode=REQUEUE State=UP'
  found ok 'PreemptMode=OFF' probe_slurm::preemption 'PartitionName=main GraceTime=0 Hidden=NO PreemptMode=OFF State=UP'
  slurm[PreemptType]=preempt/none
  found ok 'none' probe_slurm::preemption ''
}

@test "nodes that accept no jobs, with name and reason" {
  probes
  stub sinfo 'n1|idle|none' 'n1|idle|none' 'n2|mixed-|none' 'n3|drained|disk' 'n4|down*|Not responding' 'n5|allocated|none'
  found note '2 of 5 take no jobs: n3 drained \(disk\), n4 down\* \(Not responding\)' probe_slurm::nodes main
  stub sinfo 'n1|idle~|none' 'n2|completing|none'
  found ok 'all 2' probe_slurm::nodes main
  stub sinfo 'n1|draining|x' 'n2|maint|none'
  found problem 'none of 2' probe_slurm::nodes main
}

@test "quotas: the output of quota and of Lustre, long names, files, no limit" {
  probes
  stub df 'Avail Inodes IFree' '900000 100 100'
  stub lfs ''
  printf '#!/bin/sh\nexit 1\n' >"$stubs/lfs" # it is no Lustre
  stub quota 'Disk quotas for user me (uid 7): ' '     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace' \
    '      fs:/home  50000  100000  110000            900    1000    1100'
  found ok 'quota 90 % used of 1000 files' probe_login::space home "$HOME" 10
  stub quota 'Disk quotas for user me (uid 7): ' '     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace' \
    '      fs:/home  105000* 100000  110000   6days    900       0       0'
  found problem 'quota 105 % used of 100000 kB' probe_login::space home "$HOME" 10
  stub quota 'Disk quotas for user me (uid 7): none'
  found ok ', 878 GB free' probe_login::space home "$HOME" 10
  rm -- "$stubs/quota"
  stub lfs '/a/very/long/name/of/a/folder' '                 960  0   1000       -       5       0       0       -'
  found problem 'quota 96 % used of 1000 kB' probe_login::space home "$HOME" 10
  stub lfs '/scratch 960  0   0       -       5       0       0       -'
  found ok 'GB free' probe_login::space home "$HOME" 10
  [[ ${findings_list[0]} != *quota* ]]
}

@test "free space: megabytes, files, and a file server that does not answer" {
  probes
  stub lfs ''
  stub quota ''
  stub df 'Avail Inodes IFree' '1023 100 100'
  found problem '1023 MB free' probe_login::space scratch "$HOME" 1024
  stub df 'Avail Inodes IFree' '50000 100 0'
  found problem 'room for 0 more files' probe_login::space scratch "$HOME" 1024
  stub df 'Avail Inodes IFree' '50000 100000 999'
  found problem 'room for 999 more files' probe_login::space scratch "$HOME" 1024
  stub df 'Avail Inodes IFree' '50000 100000 1000'
  found ok '48 GB free' probe_login::space scratch "$HOME" 1024
  stub df 'Avail Inodes IFree' '50000 0 0' # btrfs has no number of them
  found ok '48 GB free' probe_login::space scratch "$HOME" 1024
  stub df
  found problem 'df does not answer' probe_login::space scratch "$HOME" 1024
}

@test "how many files the existing runs have" {
  probes
  local -r outputs=$BATS_TEST_TMPDIR/"a [b] *"/hpc_outputs
  probe_login::runs "$outputs"
  ((${#findings_list[@]} == 0))
  mkdir -p -- "$outputs/one" "$outputs/two/task_1" "$outputs/.sources"
  touch -- "$outputs"/{one,two}/facts "$outputs/two/task_1/log.txt"
  found ok 'hpc_outputs: 2 runs, files and folders: 8' probe_login::runs "$outputs"
  stub du "200001 $outputs"
  found note '2 runs, files and folders: 200001' probe_login::runs "$outputs"
  printf '#!/bin/sh\nexit 124\n' >"$stubs/du"
  found note 'more than can be counted in 15 s' probe_login::runs "$outputs"
}

@test "the environment: HPC_ENVIRONMENT comes before the site's and the project's" {
  probes
  local -r mine=$BATS_TEST_TMPDIR/mine
  mkdir -p -- "$mine/bin" "$BATS_TEST_TMPDIR/project"
  ln -s -- "$(command -v python3)" "$mine/bin/python"
  found note 'no virtual environment' probe_login::environment "$BATS_TEST_TMPDIR/project"
  printf 'HPC_ENVIRONMENT=%s\n' "$mine" >"$BATS_TEST_TMPDIR/project/.env"
  dotenv::each "$BATS_TEST_TMPDIR/project/.env" secrets::take_setting
  site[environment]=/of/the/site
  found ok "; $mine" probe_login::environment "$BATS_TEST_TMPDIR/project"
  cd -- "$BATS_TEST_TMPDIR"
  HPC_ENVIRONMENT=mine found ok "; $mine" probe_login::environment "$BATS_TEST_TMPDIR/project"
  HPC_ENVIRONMENT=/missing found problem 'HPC_ENVIRONMENT=/missing has no bin/python' probe_login::environment "$BATS_TEST_TMPDIR/project"
}

@test "W&B's key: each place, its mode, and never the key itself" {
  probes
  local -r key=$(printf '%040d' 12345) folder=$BATS_TEST_TMPDIR/project
  mkdir -- "$folder"
  found note 'none' probe_login::wandb_key "$folder"
  printf 'OTHER=1\nexport WANDB_API_KEY=%s\n' "$key" >"$folder/.env"
  chmod 640 -- "$folder/.env"
  found problem "$folder/.env; others can read $folder/.env: mode 640" probe_login::wandb_key "$folder"
  chmod 600 -- "$folder/.env"
  found ok "$folder/.env" probe_login::wandb_key "$folder"
  printf 'machine api.wandb.ai\n  login user\n  password %s\n' "$key" >"$HOME/.netrc"
  chmod 604 -- "$HOME/.netrc"
  found problem "$HOME/.netrc: mode 604" probe_login::wandb_key "$folder"
  rm -- "$HOME/.netrc" "$folder/.env"
  printf 'my key:\n%s\n' "$key" >"$HOME/wandb_credentials.txt"
  found problem 'does not begin with a key' probe_login::wandb_key "$folder"
  printf '%s\n' "$key" >"$HOME/wandb_credentials.txt"
  chmod 600 -- "$HOME/wandb_credentials.txt"
  found ok wandb_credentials.txt probe_login::wandb_key "$folder"
  WANDB_API_KEY=$key found ok 'WANDB_API_KEY, ' probe_login::wandb_key "$folder"
  [[ "${findings_list[*]}" != *12345* ]]
}

@test "a node's report: clock, disk, modules, python, runtime" {
  probes
  local -r file=$BATS_TEST_TMPDIR/report
  local now
  printf -v now '%(%s)T' -1
  site[modules]='' site[internet]=''
  stub scontrol "JobId=7 StartTime=$((now - 5)) "
  found ok 'within' probe_node::clock n1 $((now - 4)) $((now - 5))
  found problem 'n1 is 9[0-9] s behind' probe_node::clock n1 $((now - 100)) $((now - 5))
  found problem 'n1 is (9[0-9]|100) s ahead' probe_node::clock n1 $((now + 100)) $((now - 5))
  found ok '/local, 488 GB free of 878 GB, xfs' probe_node::local_disk n1 profile '/local|500000|900000|xfs'
  found note "a network's" probe_node::local_disk n1 profile '/local|500000|900000|lustre'
  found note 'it is memory' probe_node::local_disk n1 profile '/dev/shm|500000|900000|tmpfs'
  found problem '/local cannot be written on n1' probe_node::local_disk n1 profile '/local|||'
  printf '%s\t%s\n' node n1 time $((now - 4)) modules 'error: module load cuda/99 failed' server https://example.org internet yes >"$file"
  found problem 'cuda/99' probe_node::judge "$file" 7 main
  found note 'no python3' probe_node::judge "$file" 7 main
  found note 'neither apptainer' probe_node::judge "$file" 7 main
  found ok 'reaches https://example.org' probe_node::judge "$file" 7 main
  found ok 'n1 sees the project and scratch; job 7' probe_node::judge "$file" 7 main
  found ok 'within 10 s' probe_node::judge "$file" 7 main
  : >"$file" # it broke off
  found problem 'the job broke off' probe_node::judge "$file" 7 main
  printf 'project\t/home/me/kit\nnode\tn1\n' >"$file"
  found problem 'n1 does not see /home/me/kit' probe_node::judge "$file" 7 main
}

@test "file systems: no locks, no hard links, folders that keep their names" {
  probes
  local -r folder=$BATS_TEST_TMPDIR/scratch
  local name
  mkdir -- "$folder"
  found ok 'output' probe_login::output "$folder/hpc_outputs"
  found ok 'locks, hard links, and folders that can be renamed' probe_login::output "$folder/hpc_outputs"
  stub flock
  printf '#!/bin/sh\necho "flock: 3: Function not implemented" >&2; exit 69\n' >"$stubs/flock"
  found note 'no locks \(.*Function not implemented\).*-o flock' probe_login::output "$folder/hpc_outputs"
  stub ln
  printf '#!/bin/sh\necho "ln: failed to create hard link: Operation not permitted" >&2; exit 1\n' >"$stubs/ln"
  found note 'no locks.*; no hard links \(Operation not permitted\)' probe_login::output "$folder/hpc_outputs"
  stub mv
  printf '#!/bin/sh\necho "mv: cannot move: Operation not supported" >&2; exit 1\n' >"$stubs/mv"
  found problem 'no renaming of folders \(Operation not supported\).*no bucket' probe_login::output "$folder/hpc_outputs"
  [[ -z $(ls -A -- "$folder") ]]
}

small_jobs() {
  local job folder
  local -A states=()
  options_value=([partition]=main [account]='' [qos]='')
  node_job::open folder "$BATS_TEST_TMPDIR" small
  stub scancel
  printf '#!/bin/sh\necho "$@" >"$0.called"\n' >"$stubs/scancel"
  stub squeue
  stub sbatch '*** Welcome ***' 4711 'Balance | 10'
  node_job::send job one '' script && [[ $job == 4711 ]]
  # The job was submitted, but sbatch did not print its number: it is the job of this folder that was not known before.
  stub sbatch 'no number'
  stub squeue "4711|N/A|$folder" "4700|N/A|/elsewhere" "4712|N/A|$folder"
  node_job::send job two '' script && [[ $job == 4712 ]]
  printf '#!/bin/sh\necho "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1\n' >"$stubs/sbatch"
  stub squeue "4713|N/A|$folder" "4711|N/A|$folder" "4712|N/A|$folder"
  node_job::send job three '' script && [[ $job == 4713 ]]
  printf '#!/bin/sh\necho "sbatch: error: no account" >&2; exit 1\n' >"$stubs/sbatch"
  if node_job::send job four '' script; then return 1; fi
  [[ $job == 'no account' ]]

  stub squeue '4711|RUNNING|None' '4712|PENDING|Priority'
  node_job::poll states
  [[ ${states[one]} == 'RUNNING|None' && ${states[two]} == 'PENDING|Priority' && ${states[three]} == 'ended|' ]]
  SECONDS=$((SECONDS + 11))
  printf '#!/bin/sh\necho "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1\n' >"$stubs/squeue"
  node_job::poll states
  [[ ${states[one]} == 'unknown|' && ${states[three]} == 'unknown|' ]]
  touch -- "$folder/one"
  printf '#!/bin/sh\necho "slurm_load_jobs error: Invalid job id specified" >&2; exit 1\n' >"$stubs/squeue"
  node_job::poll states
  [[ -z ${states[one]:-} && ${states[two]} == 'ended|' && ${states[three]} == 'gone|' ]]
  SECONDS=$((SECONDS + 11))
  node_job::poll states
  [[ ${states[two]} == 'gone|' && ${#states[@]} == 1 ]]
  if node_job::poll states; then return 1; fi
  # Slurm is asked seldom where the answer takes long.
  (
    # shellcheck disable=SC2317 # node_job::poll calls it
    sleep() { pause=$1; }
    node_job_id+=([six]=4711)
    SECONDS=30
    node_job::poll states && [[ $pause == 2.3 ]]
    SECONDS=300
    node_job::poll states && [[ $pause == 15.3 ]]
  )
  stub sbatch 4715
  node_job::send job five '' script
  node_job::close
  [[ ! -e $folder && $(<"$stubs/scancel.called") == '--quiet 4715' ]]
}

# gpu_partition   Makes a Slurm whose partition accepts only jobs that request memory per CPU and a GPU by its type, with --gres. It records
# what it gets in the file `sent`.
gpu_partition() {
  stub sbatch 4711
  cat >"$stubs/sbatch" <<'SBATCH'
#!/bin/sh
echo "$*" >>"$0.sent"
case "$*" in *--mem=* | *--mem-per-gpu=*) echo 'sbatch: error: ask by --mem-per-cpu' >&2 && exit 1 ;; esac
case "$*" in *--mem-per-cpu=256M*--gres=gpu:l40s:1* | *--gres=gpu:l40s:1*--mem-per-cpu=256M*) ;; *) echo 'sbatch: error: only jobs with GPUs' >&2 && exit 1 ;; esac
if [ -e "$0.closed" ]; then echo 'sbatch: error: QOSMaxGRESPerUser' >&2 && exit 1; fi
for word; do case $word in --chdir=*) folder=${word#*=} ;; --nodelist=*) node=${word#*=} ;; esac; done
if [ -n "$node" ]; then echo 'removed 5 a' >"$folder/$node"; fi
echo 4711
SBATCH
  stub squeue
  stub scancel
}

asks_for_a_gpu() {
  local job folder option=''
  options_value=([partition]=gpu [account]='' [qos]=wide [gpu_type]=L40S)
  site[memory_request]=mem_per_cpu site[gpu_request]=gres
  found ok 'l40s' probe_slurm::gpus option gpu 'gpu|2|16|64000|gpu:a100:2,gpu:l40s:4|1:00:00|up'
  [[ $option == --gres=gpu:l40s:1 ]]
  node_job::open folder "$BATS_TEST_TMPDIR" small
  probe_node::send job /kit "$option" "$folder/report"
  [[ $job == 4711 && $(wc -l <"$stubs/sbatch.sent") == 2 ]]
  # This user has no GPU free: the last try counts, and the message of the first is printed, too.
  touch -- "$stubs/sbatch.closed"
  found problem 'no small job: QOSMaxGRESPerUser \(with --gres=gpu:l40s:1; without GPUs: only jobs with GPUs\)' probe_node::send job /kit "$option" "$folder/report"
  # It does not try again if there is no GPU, or if Slurm may have accepted the job.
  : >"$stubs/sbatch.sent"
  found problem 'no small job: only jobs with GPUs	' probe_node::send job /kit '' "$folder/report"
  [[ $(wc -l <"$stubs/sbatch.sent") == 1 ]]
  printf '#!/bin/sh\necho "$*" >>"$0.sent"; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1\n' >"$stubs/sbatch"
  : >"$stubs/sbatch.sent"
  found problem 'did not print a job id' probe_node::send job /kit "$option" "$folder/report"
  [[ $(wc -l <"$stubs/sbatch.sent") == 1 ]]
  node_job::close
}

@test "a small job where memory is requested per CPU, and only jobs with GPUs are accepted" {
  probes
  gpu_partition
  (asks_for_a_gpu)
}

@test "clean_nodes.sh runs there" {
  make_project
  gpu_partition
  stub scontrol 'ClusterName             = mine'
  stub sinfo
  printf '#!/bin/sh\ncase "$*" in *--Node*) echo "g1|idle|gpu:l40s:4(S:0-1)"; echo "g2|mixed|gpu:l40s:2" ;; *) echo "gpu*|2|16|64000|gpu:l40s:4|1:00:00|up" ;; esac\n' >"$stubs/sinfo"
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf 'site[%s\n' memory_request]=mem_per_cpu gpu_request]=gres qos]=wide >"$XDG_CONFIG_HOME/hpc_kit/clusters/mine.sh"
  SCRATCH=$BATS_TEST_TMPDIR run -0 --separate-stderr bash "$project/hpc/clean_nodes.sh"
  [[ -z $stderr && ${lines[1]} =~ ^g1\ +1\ +5$ && ${lines[2]} =~ ^g2\ +1\ +5$ ]]
  touch -- "$stubs/sbatch.closed"
  SCRATCH=$BATS_TEST_TMPDIR run -1 --separate-stderr bash "$project/hpc/clean_nodes.sh"
  [[ $stderr == *'g2: QOSMaxGRESPerUser (with --gres=gpu:l40s:1; without GPUs: only jobs with GPUs)'* ]]
}

@test "a small job: its id within a banner, hidden, or refused; a controller without an answer is not an end; a job that stays is cancelled" {
  probes
  (small_jobs) # whose traps are not those of bats
}

# warned PATTERN   The submitter must print this warning from the kept findings.
warned() {
  run findings::warn pocket main
  [[ $status == 0 && $output =~ $1 ]] || {
    printf 'not %s: %s\n' "$1" "$output" >&2
    return 1
  }
}

@test "kept findings: those about the request and its partition, for a week; a new check replaces the old findings" {
  probes
  fact=([max_restarts]=50 [container]='' [sweep]='' [tasks]=1)
  staging_paths=()
  findings::add problem kill_wait 'KillWait=1 s' 'a | fix' >/dev/null
  findings::add problem home 'is full' >/dev/null
  findings::about gpu
  findings::add problem clock 'of another partition' >/dev/null
  findings::about main
  findings::add note container 'no runtime' >/dev/null
  findings::add note local_disk 'none' >/dev/null
  findings::add note internet 'no' >/dev/null
  findings::save pocket
  warned 'doctor.sh found kill wait: KillWait=1 s \('
  fact[container]=/image.sif
  warned 'KillWait=1 s; container: no runtime \('
  fact=([max_restarts]=0 [container]='' [sweep]=e/p/id [tasks]=1)
  staging_paths=(data)
  warned 'found local disk: none; internet: no \('
  fact[sweep]='' staging_paths=()
  warned '^$'

  fact[max_restarts]=1
  findings_list=()
  findings::about
  findings::add ok kill_wait '30 s' >/dev/null
  findings::add problem requeue 'refused' >/dev/null
  findings::save pocket
  warned 'found requeue: refused \('
  local findings_file
  findings::file findings_file pocket
  [[ $(cut -f 3 -- "$findings_file" | sort | paste -sd ' ') == 'clock container home internet kill_wait local_disk requeue' ]]
  sed -i -E "s/^[0-9]+/$(($(date +%s) - 7 * 86400 - 1))/" "$findings_file"
  warned '^$'
  printf 'nonsense\n\n\t\t\n' >"$findings_file"
  warned '^$'
  findings::save pocket
  warned 'refused'
}

@test "an error in the site's profile is a problem, with file and line" {
  make_project
  stub_slurm
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf '# a comment\nsite[%s\n' mem_per_gpu]=4G >"$XDG_CONFIG_HOME/hpc_kit/clusters/mine.sh"
  run bash "$project/hpc/doctor.sh" --quick --cluster mine
  [[ $output != *"  profile "* ]]
  printf 'site[partiton]=gpu\n' >>"$XDG_CONFIG_HOME/hpc_kit/clusters/mine.sh"
  run -1 bash "$project/hpc/doctor.sh" --quick --cluster mine
  [[ $output == *"problem  profile         $XDG_CONFIG_HOME/hpc_kit/clusters/mine.sh:3: site[partiton]: no such fact or option: did you mean partition?"* ]]
}

@test "what the profile requires and nothing gives is a note; the small job gets the constraint and the reservation" {
  probes
  site[name]=mine site[required]='account constraint time' site[account]=ours
  found note '\-\-constraint, --time, and neither' probe_login::required
  options_value[constraint]=gpu
  export HPC_TIME=10
  found note . probe_login::required && return 1
  unset HPC_TIME
  found note 'mine requires --time, ' probe_login::required
  make_project
  stub_slurm
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  echo "site[required]='account constraint'" >"$XDG_CONFIG_HOME/hpc_kit/clusters/mine.sh"
  printf '#!/bin/sh\nif [ "$1" != --test-only ]; then printf "%%s\\n" "$*" >>"$RECORD"; fi\necho "sbatch: error: refused" >&2\nexit 1\n' >"$stub/sbatch"
  export SCRATCH=$BATS_TEST_TMPDIR
  HPC_CONSTRAINT=a100 run -1 bash "$project/hpc/doctor.sh" --cluster mine --reservation maintenance
  [[ $output == *'note     required        the profile mine requires --account, and'* && $output == *'refused'*'--qos, --partition, --constraint, --reservation'* ]]
  [[ $(<"$RECORD") == *' --constraint=a100 --reservation=maintenance '* ]]
  # They are kept for this profile, not for the cluster's own.
  [[ $(cd -- "$XDG_STATE_HOME/hpc_kit/doctor" && echo *) == stub@mine ]]
}

@test "--profile writes a first profile from what Slurm refuses; a job with it is accepted" {
  make_project
  stub_slurm
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config PSCRATCH=$BATS_TEST_TMPDIR/scratch
  unset -v SCRATCH
  mkdir -- "$PSCRATCH"
  local -r profile=$XDG_CONFIG_HOME/hpc_kit/clusters/stub.sh
  # A site that requires an account and a type, and forbids --mem.
  cat >"$stub/sbatch" <<'STUB'
#!/bin/sh
echo "$*" >>"$STUB/asked"
case " $* " in
  *' --account='*) ;;
  *) echo 'sbatch: error: You are associated with multiple accounts' >&2; exit 1 ;;
esac
case " $* " in
  *' --mem'*) echo 'sbatch: error: memory comes with the GPUs' >&2; exit 1 ;;
  *' --gpus-per-node=1 '*) echo 'sbatch: error: give a type of GPU' >&2; exit 1 ;;
esac
echo 4711
STUB
  SCRATCH=$PSCRATCH fails_with 1 'multiple accounts' bash "$project/hpc/job_submitter.sh" --dry-run

  run -0 --separate-stderr bash "$project/hpc/doctor.sh" --profile
  [[ $output == *"site[scratch]='\$PSCRATCH'"* && $output == *'# a small job is refused: You are associated with multiple accounts'* ]]
  [[ $output == *'site[required]=account # yours: mine ours'* && $output == *$'# with --mem=256M is refused: memory comes with the GPUs\n# with --mem-per-cpu=256M is refused, too\n# with --mem-per-gpu=256M is refused, too\n# with --mem=0 is refused, too\nsite[memory_request]=none'* ]]
  [[ $output == *'site[gpus_per_node]=4 # types: v100l'* && $output == *$'\nsite[gpu_type]=v100l # '* && $output == *'# Not found out:'* ]]
  [[ ! -e $profile ]] && (($(wc -l <"$stub/asked") <= 9)) # with that of the submitter

  run -0 --separate-stderr bash "$project/hpc/doctor.sh" --profile stub
  [[ -z $output && $stderr == "$profile: read it, correct it, and try it:  bash hpc/doctor.sh --cluster 'stub'" ]]
  fails_with 1 "there is '$profile' already" bash "$project/hpc/doctor.sh" --profile stub
  fails_with 1 '^job_submitter.sh: error: --account must be given here .*; your accounts: mine ours: yours: mine ours \(site' bash "$project/hpc/job_submitter.sh"
  run -0 --separate-stderr bash "$project/hpc/job_submitter.sh" --account mine --no-snapshot
  [[ $output == 4711 && $(tail -n 1 "$stub/asked") == *' --gpus-per-node=v100l:1 --account=mine '* ]]
}

# unknown_site   GPUs only in the partition gpu, with their type; memory per core; a QOS for several nodes.
unknown_site() {
  make_project
  stub_slurm
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config HBWORK=$BATS_TEST_TMPDIR/scratch/group
  unset -v SCRATCH PSCRATCH
  mkdir -p -- "$HBWORK"
  printf '%s\n' 'std*|40|16|64000|(null)|3-00:00:00|up' 'test|1|16|64000|gpu:t4:1|1:00:00|up' 'old|9|16|64000|gpu:k80:2|1:00:00|inact' \
    'gpu|4|16|64000|gpu:l40s:2|1-00:00:00|up' >"$stub/partitions"
  cat >"$stub/scontrol" <<'STUB'
#!/bin/sh
case "$*" in
  *'show partition gpu') echo 'PartitionName=gpu AllowAccounts=ALL AllowQos=normal,odd,wide OverSubscribe=NO' ;;
  *'show partition'*) echo 'PartitionName=std AllowAccounts=ALL AllowQos=ALL OverSubscribe=NO' ;;
  *) echo 'ClusterName             = stub' ;;
esac
STUB
  cat >"$stub/sbatch" <<'STUB'
#!/bin/sh
echo "$*" >>"$STUB/asked"
refuse() { echo "sbatch: error: $*" >&2; exit 1; }
case " $* " in *' --gpus-per-node='*) refuse 'use --gres=gpu:TYPE:N' ;; esac
case " $* " in
  *' --partition=gpu '*'--gres=gpu:l40s:'* | *' --gres=gpu:l40s:'*'--partition=gpu '*) ;;
  *' --partition=gpu '*) refuse 'use --gres=gpu:TYPE:N' ;;
  *--gres*) refuse 'gres/gpu not available in partition std' ;;
esac
case " $* " in *' --mem='* | *' --mem-per-gpu='*) refuse 'memory is allocated per core (--mem-per-cpu)' ;; esac
case " $* " in
  *' --qos=odd '*) refuse 'Invalid qos specification' ;;
  *' --nodes=2 '*'--qos=wide '* | *' --qos=wide '*'--nodes=2 '*) ;;
  *' --nodes=2 '*) refuse QOSMaxNodePerJobLimit ;;
  *' --qos=wide '*) refuse QOSMinNode ;;
esac
echo 4711
STUB
}

@test "--profile: the partition with the most GPUs, a typed --gres, memory per core, a QOS for several nodes" {
  local line
  unknown_site
  run -0 --separate-stderr bash "$project/hpc/doctor.sh" --profile
  for line in "site[scratch]='\$HBWORK' # $HBWORK" 'site[partition]=gpu # the default is std' 'site[gpus_per_node]=2 # types: l40s' 'site[gpu_request]=gres' \
    'site[gpu_type]=l40s # without a type a job is refused' '# with --gres=gpu:1 is refused, too' \
    '# with --mem=256M is refused: memory is allocated per core (--mem-per-cpu)' 'site[memory_request]=mem_per_cpu' \
    '# a job of two nodes is refused: QOSMaxNodePerJobLimit' 'site[qos_by_nodes]=2:wide # several nodes need it, and one may not have it'; do
    grep -qxF -- "$line" <<<"$output" || { printf 'not there: %s\n%s\n' "$line" "$output" && return 1; }
  done
  (($(wc -l <"$stub/asked") <= 14))
  # The same if the default partition shows the GPUs and refuses them.
  sed -i '/^std/s/(null)/gpu:l40s:2/' "$stub/partitions"
  : >"$stub/asked"
  run -0 --separate-stderr bash "$project/hpc/doctor.sh" --profile stub
  (($(wc -l <"$stub/asked") <= 14))
  grep -qxF 'site[partition]=gpu # the default is std' "$XDG_CONFIG_HOME/hpc_kit/clusters/stub.sh"
  run -0 --separate-stderr bash "$project/hpc/job_submitter.sh" --no-snapshot
  [[ $output == 4711 && $(tail -n 1 "$stub/asked") == *' --mem-per-cpu='*' --gres=gpu:l40s:'* ]]
}

@test "--profile: every way is refused, or one is accepted: a constraint, none, a whole node, a QOS; at most 14 questions" {
  local taken fact
  unknown_site
  while IFS='~' read -r taken fact; do
    printf '#!/bin/sh\necho "$*" >>"$STUB/asked"\ncase " $* " in %s) exit 0 ;; esac\necho "sbatch: error: no $(wc -l <"$STUB/asked"): ${QOS_WORDS:-}" >&2\nexit 1\n' "$taken" >"$stub/sbatch"
    : >"$stub/asked"
    run -0 --separate-stderr env QOS_WORDS="$([[ $taken != *qos* ]] || echo 'Invalid qos')" bash "$project/hpc/doctor.sh" --profile
    [[ $output == *$'\n'"$fact"* ]] || { printf '%s: not there: %s\n%s\n' "$taken" "$fact" "$output" && return 1; }
    (($(wc -l <"$stub/asked") <= 14))
  done <<'LINES'
*'=gpu --constraint=l40s '*~site[gpu_request]=constraint
*'--partition=gpu /'*~site[gpu_request]=none # a guess
*'--partition=gpu --gpus-per-node=2 '*~site[gpu_counts]=2 # one is refused
*'=gpu --qos=wide --gpus-per-node=1 '*~site[qos]=wide # without it a job is refused
nothing~#   GPUs, memory: no job is taken
*=gpu*--gpus-per-node=1*--mem-per-gpu=* | *=gpu*=1\ /*~site[memory_request]=mem_per_gpu
*=gpu*--gpus-per-node=1*--mem=0* | *=gpu*=1\ /*~site[memory_request]=zero
LINES
  printf '#!/bin/sh\necho "sbatch: error: Unable to contact slurm controller" >&2; exit 1\n' >"$stub/sbatch"
  fails_with 1 'Slurm does not answer: .*Unable to contact' bash "$project/hpc/doctor.sh" --profile stub
  [[ ! -e $XDG_CONFIG_HOME/hpc_kit/clusters/stub.sh ]]
}

@test "--profile: variables that may be the scratch, and others" {
  use_libraries common probe_profile
  local -r top=$BATS_TEST_TMPDIR
  mkdir -p -- "$HOME/work" "$top"/{lustre/me,fast,closed,home2}
  unset -v SCRATCH PSCRATCH SCRATCHDIR SCRATCH_DIR GSCRATCH MYSCRATCH CSCRATCH FAST WORK WORKDIR
  probe_profile_script=/kit/hpc/doctor/doctor_node.sh
  export ZDATA=$top/lustre/me A_FAST_DISK=$top/fast MY_Scratch=$top/home2 TMPDIR=$top/fast OLD_WORK=$HOME/work NO_SCRATCH=$top/none
  probe_profile::scratch
  [[ ${probe_profile_lines[0]} == "site[scratch]='\$MY_Scratch' # $top/home2" && " ${probe_profile_lines[*]} " == *"# site[scratch]='\$A_FAST_DISK' "*"# site[scratch]='\$ZDATA' "* ]]
  [[ "${probe_profile_lines[*]}" != *@(TMPDIR|OLD_WORK|NO_SCRATCH)* ]]
}
