#!/usr/bin/env bats
# Jobs in a container, with a real Apptainer, a real image and the real Slurm. The image is made once on a machine.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  local folder
  folder=$(bash "$checkout/tests/install_apptainer.sh") || return
  PATH=$folder:$PATH
  image=$(bash "$checkout/tests/make_image.sh") || return
  export PATH image
  cluster_up
}

teardown_file() {
  cluster_down
}

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HOME=$BATS_TEST_TMPDIR/home
  mkdir -p -- "$SCRATCH" "$HOME"
}

teardown() {
  if [[ -n ${job:-} ]]; then scancel --quiet "$job"; fi
  if [[ -n ${own_folder:-} ]]; then rm -rf -- "$own_folder"; fi
}

# in_container OPTION...   Submits a job that runs in the container.
in_container() {
  submit --singularity-container "$image" --mem-per-gpu 2G "$@"
}

# accuracy RUN_DIRECTORY   Prints the accuracy of a run of four ranks.
accuracy() {
  python3 -c 'import json, sys
result = json.load(open(sys.argv[1] + "/task_1/output/result.json"))
assert result["validation_accuracy"] >= 0.95 and result["world_size"] == 4, result
print(result["validation_accuracy"])' "$1"
}

@test "the digits: four ranks on two nodes reach the same accuracy as in the virtual environment" {
  shorter_digits
  prepare_digits "$SCRATCH/${project##*/}/datasets/digits"
  submit --gpus 2 --num-nodes 2 --mem-per-gpu 2G --nodelist 'node[1-2]'
  local -r outside=$run_directory
  ended "$job" 120 COMPLETED 0:0
  in_container --gpus 2 --num-nodes 2 --nodelist 'node[1-2]'
  ended "$job" 120 COMPLETED 0:0
  same "$(accuracy "$run_directory")" "$(accuracy "$outside")"
  same "$(job_log | sed -nE 's/^rank ([0-9]) of 4: node ([0-9]), ([^ ]+) \((.*)\), local.*/\1 \2 \3 \4/p' | sort)" \
    "$(sed -nE 's/^rank ([0-9]) of 4: node ([0-9]), ([^ ]+) \((.*)\), local.*/\1 \2 \3 \4/p' "$outside/task_1/log.txt" | sort)"
  # The log has no lines but those of the program and the kit.
  if job_log | grep -iE 'warning|apptainer|singularity'; then return 1; fi
  same "$(local_folders "$job")" ''
}

@test "an ordinary user gets the same with an image that root made" {
  ((EUID == 0)) || skip 'only root can be somebody else'
  local -r user=nobody
  runuser -u "$user" -- test -r "$SLURM_CONF" || skip "$user cannot read the configuration of this cluster"
  # A folder that this user can enter, unlike the checkout and the folders of bats.
  own_folder=$(mktemp -d /tmp/hpc_kit_test.XXXXXX)
  chmod 755 -- "$own_folder"
  make_project_in "$own_folder"
  rm -- "$project/.venv"
  shorter_digits
  ln -- "$image" "$own_folder/image.sif" 2>/dev/null || cp -- "$image" "$own_folder/image.sif"
  mkdir -- "$own_folder/home" "$own_folder/scratch"
  prepare_digits "$own_folder/scratch/${project##*/}/datasets/digits"
  chown -R -- "$user:" "$own_folder/home" "$own_folder/scratch" "$project"

  run --separate-stderr runuser -u "$user" -- env HOME="$own_folder/home" SCRATCH="$own_folder/scratch" PATH="$PATH" bash -c '
    cd -- "$1"
    exec bash hpc/job_submitter.sh -s "$2" --gpus 2 --num-nodes 2 --mem-per-gpu 2G --follow' - "$project" "$own_folder/image.sif" 3>&- 4>&-
  printf '%s\n' "$stderr" >&2
  ((status == 0))
  [[ $(job_field "$output" UserId) == "$user("* ]]
  run_directory=$(echo "$own_folder/scratch"/*/hpc_outputs/*/)
  accuracy "${run_directory%/}"
  same "$(stat -c %U -- "$run_directory/task_1/output/result.json")" "$user"
  same "$(local_folders "$output")" ''
}

@test "inside: arguments, folders, what can be written and where it stays, and no variable of the host" {
  use_programs "inside.py 0.9,0.999 'a  b' \"it's\" '' '\$HOME' '\"quoted\"' 'two
lines' '--x=[1, 2]' \"\${exp_name}\" \"\${source_dir}\" ü \\\\"
  mkdir -- "$BATS_TEST_TMPDIR/shown, and more"
  printf 'shown\n' >"$BATS_TEST_TMPDIR/shown, and more/file"
  printf '%s\n' "FROM_DOTENV='\$(touch canary) \"a\", \`b\` \\n'" 'HOME=/nowhere' >"$project/.env"
  HOST_ONLY=leaked NCCL_OF_TEST='1,2 "3"' in_container -W srun --gpus 2 --nodelist node1 --exp-name 'two words' --workdir '/work dir/of, mine' \
    --bind "$BATS_TEST_TMPDIR/shown, and more:/shown:ro"
  ended "$job" 60 COMPLETED 0:0

  local rank
  for rank in 0 1; do
    same "$(told "$rank" arguments folder written code source root home FROM_DOTENV NCCL_OF_TEST HOST_ONLY source_dir \
      RUN_DIRECTORY SLURM_JOB_ID SLURM_PROCID CUDA_VISIBLE_DEVICES HOME)" "\
arguments=[\"0.9,0.999\", \"a  b\", \"it's\", \"\", \"\$HOME\", \"\\\"quoted\\\"\", \"two\\nlines\", \"--x=[1, 2]\", \"two words\", \"/code\", \"ü\", \"\\\\\"]
folder=\"/code\"
written={\"/db\": 80, \"/tmp\": 80, \"/var/tmp\": 80, \"/work dir/of, mine\": 80, \"~\": 80}
code=\"Read-only file system\"
source=\"Read-only file system\"
root=\"none\"
home=\"$HOME\"
FROM_DOTENV=\$(touch canary) \"a\", \`b\` \\n
NCCL_OF_TEST=1,2 \"3\"
HOST_ONLY is not set
source_dir=/code
RUN_DIRECTORY=$run_directory
SLURM_JOB_ID=$job
SLURM_PROCID=$rank
CUDA_VISIBLE_DEVICES=0,1
HOME=$HOME"
  done
  # Each variable belongs to the kit, to Slurm, to a family that singularity/README.md lists, or to the container itself.
  python3 - "$run_directory/task_1/output/rank_0.json" <<'PYTHON'
import json, re, sys
names = json.load(open(sys.argv[1]))["environment"]
families = r"(SLURM|SLURMD|CUDA|NCCL|OMP|APPTAINER|SINGULARITY|PMI)_.*|ROCR_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|PYTHONFAULTHANDLER|FROM_DOTENV|USER|LOGNAME"
kit = """source_dir project_name scratch_dir exp_name RUN_DIRECTORY CHECKPOINT_DIRECTORY CHECKPOINT_ARTIFACT_PATH
LOSSY_ARTIFACT_PATH OUTPUT_PATH STOP_FILE HEARTBEAT_FILE ATTEMPT MASTER_ADDR MASTER_PORT NNODES NODE_RANK NODE_ADDRESS N_PROC N_PROCESSES RANK LOCAL_RANK WORLD_SIZE
LOCAL_WORLD_SIZE RANK_RECORD PYTHONPATH WANDB_DIR WANDB_DATA_DIR WANDB_CACHE_DIR TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR TORCH_EXTENSIONS_DIR
CUDA_CACHE_PATH MIOPEN_USER_DB_PATH MIOPEN_CUSTOM_CACHE_DIR MPLCONFIGDIR""".split()
own = "PATH HOME PWD OLDPWD SHLVL _ LANG LC_CTYPE LD_LIBRARY_PATH PS1 PROMPT_COMMAND TERM VIRTUAL_ENV".split()
unknown = [name for name in names if name not in kit + own and not re.fullmatch(families, name)]
missing = [name for name in kit if name not in names]
assert not unknown and not missing, (unknown, missing)
PYTHON

  # The node's disk is unchanged, and the files to keep are on scratch.
  same "$(local_folders "$job")" ''
  same "$(ls -A -- "$HOME")" .apptainer # the runtime's own, outside
  [[ ! -e $project/probe && ! -e $run_directory/source/probe ]]
  same "$(ls -- "$SCRATCH/${project##*/}/two words/singularity_${job}_0")" $'kept.0\nkept.1'
  same "$(find "$BATS_TEST_TMPDIR" -name canary)" ''
}

@test "data of --data are at /data and in SLURM_TMPDIR, unpacked or as an image that the runtime mounts" {
  local -r folder="$SCRATCH/${project##*/}/datasets/d, \"1\""
  local format
  mkdir -p -- "$folder/deep er"
  printf 'data\n' >"$folder/deep er/file"
  use_programs 'inside.py'
  for format in image tar; do
    in_container -W srun --gpus 2 --data "datasets/${folder##*/}" --data-format "$format" --workdir '/work dir/of, mine'
    ended "$job" 60 COMPLETED 0:0
    same "$(told 1 data disk)" $'data=["datasets/d, \\\"1\\\"", "datasets/d, \\\"1\\\"/deep er", "datasets/d, \\\"1\\\"/deep er/file"]\ndisk=["d, \\\"1\\\"", "deep er", "file"]'
    same "$(local_folders "$job")" ''
  done
}

# Prints name, inode and size of each copy of the image on the disks of node1 and node2.
copies() {
  find "$POCKET_CLUSTER_DIR"/disks/node[12]/"$(id -un)_images" -type f -printf '%f %i %s\n'
}

@test "--stage-image: each node's disk has one complete copy, later jobs use it, clean_nodes.sh removes it" {
  local -r wanted="$(sha256sum <"$image" | cut -d ' ' -f 1).sif" size=$(stat --dereference --format=%s -- "$image")
  local before way file
  experiments "sh -c 'echo image \$APPTAINER_CONTAINER'"

  # The image is on the same file system as the nodes' disks, so a copy would gain nothing.
  in_container -W srun --num-nodes 2 --nodelist 'node[1-2]'
  ended "$job" 60 COMPLETED 0:0
  same "$(job_log | grep -c "^image $(realpath -- "$image")\$")" 2
  same "$(copies 2>/dev/null)" ''

  for way in read sbcast; do
    in_container -W srun --num-nodes 2 --nodelist 'node[1-2]' --stage-image --broadcast "$way"
    ended "$job" 120 COMPLETED 0:0
    same "$(job_log | grep -c "^image $POCKET_CLUSTER_DIR/localscratch/$(id -un)_images/$wanted\$")" 2
    for file in "$POCKET_CLUSTER_DIR"/disks/node[12]/"$(id -un)_images/$wanted"; do cmp -- "$image" "$file"; done
    before=$(copies)
    if [[ $way == read ]]; then
      in_container -W srun --num-nodes 2 --nodelist 'node[1-2]' --stage-image
      ended "$job" 60 COMPLETED 0:0
      same "$(copies)" "$before"
      # A truncated copy is not used.
      truncate --size=1000 -- "$POCKET_CLUSTER_DIR/disks/node2/$(id -un)_images/$wanted"
    fi
  done
  same "$(cut -d ' ' -f 1,3 <<<"$before" | sort -u)" "$wanted $size"

  touch --date='2 hours ago' -- "$POCKET_CLUSTER_DIR"/disks/node[12]/"$(id -un)_images/$wanted"
  SCRATCH=$BATS_TEST_TMPDIR/scratch bash "$project/hpc/clean_nodes.sh" >/dev/null 3>&-
  same "$(copies 2>/dev/null)" ''
}

@test "an image that was replaced after the submission: the job fails before its ranks start" {
  cp --reflink=auto -- "$image" "$BATS_TEST_TMPDIR/mine.sif"
  experiments 'true'
  submit -s "$BATS_TEST_TMPDIR/mine.sif" --stage-image --begin now+2
  printf 'other' | dd of="$BATS_TEST_TMPDIR/mine.sif" bs=1 seek=100000000 conv=notrunc status=none
  ended "$job" 120 FAILED 1:0
  [[ $(job_log) == *'does not arrive as it was at submission; was it replaced?'* ]]
  [[ $(job_log) != *'rank 0 of'* ]]
}

@test "the W&B key reaches the program and appears on no command line" {
  use_programs 'checksums.py WANDB_API_KEY OTHER_KEY'
  local key other
  key=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
  other=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s\n' "$key" >"$HOME/wandb_credentials.txt"
  printf 'OTHER_KEY = "%s"\n' "$other" >"$project/.env"
  printf '%s\n' "$key" "$other" >"$HOME/keys"
  in_container -W srun --num-nodes 2
  keep_arguments "$job" "$BATS_TEST_TMPDIR/arguments"
  ended "$job" 30 COMPLETED 0:0
  job_log | grep -xF "WANDB_API_KEY $(printf '%s' "$key" | sha256sum | cut -d ' ' -f 1)"
  job_log | grep -xF "OTHER_KEY $(printf '%s' "$other" | sha256sum | cut -d ' ' -f 1)"
  grep -qx programs/checksums.py "$BATS_TEST_TMPDIR/arguments"
  grep -qx -- --writable-tmpfs "$BATS_TEST_TMPDIR/arguments"
  same "$(grep -rlaF -f "$HOME/keys" -- "$SCRATCH" "$BATS_TEST_TMPDIR/arguments" \
    "$POCKET_CLUSTER_DIR"/{log,state,spool,scratch,disks,localscratch} 2>/dev/null)" ''
}

# failing HOW STATUS OPTION...   As in jobs.bats, but in the container.
failing() {
  local -r how=$1 expected=$2
  use_programs "fail.py $how 2"
  in_container --gpus 2 --num-nodes 2 --nodelist 'node[1-2]' "${@:3}"
  ended "$job" 60 FAILED "$expected:0"
  job_log | grep -xF "the first rank that failed: rank 2 on node2, exit status $expected"
}

@test "a program that exits with 3 in the container, under torchrun: the job's status is 3, and the log names the rank" {
  failing exit 3
}

@test "a program that is killed in the container, under srun: the job's status is 137, and the log names the rank" {
  failing kill 137 -W srun
}

are_here() {
  (($(find "$run_directory/task_1/output" -name 'here.*' | wc -l) == $1))
}

@test "the stop file and signals reach the programs in the container once each, and the status is 75" {
  use_programs notices.py
  local launcher
  for launcher in srun torchrun; do
    in_container -W "$launcher" --gpus 2 --num-nodes 2 --max-restarts 0
    wait_until 30 are_here 4
    if [[ $launcher == srun ]]; then
      scancel --signal=TERM "$job" # all steps of it
      wait_until 20 all_told_of_a_signal
    fi
    touch -- "$run_directory/task_1/attempt_0/stop"
    ended "$job" 30 FAILED 75:0
    if [[ $launcher == srun ]]; then same "$(signals_told)" $'rank 0 got signal 15\nrank 1 got signal 15\nrank 2 got signal 15\nrank 3 got signal 15'; fi
  done
}

signals_told() {
  job_log | grep 'got signal' | LC_ALL=C sort
}

all_told_of_a_signal() {
  (($(signals_told | wc -l) >= 4))
}

@test "scancel: no process, mount or folder of the job is left" {
  use_programs stay.py
  in_container --gpus 2 --num-nodes 2
  wait_until 30 are_here 4
  scancel "$job"
  wait_for_job "$job" 30
  wait_until 15 no_processes
  wait_until 5 no_local_folders
  if grep -F "$run_directory" /proc/mounts; then return 1; fi
}

no_processes() {
  ! grep -lsaF -f <(printf '%s\n' "$run_directory") /proc/[0-9]*/{environ,cmdline}
}

no_local_folders() {
  [[ -z $(local_folders "$job") ]]
}

@test "srun: torch's own process group, four ranks on two nodes" {
  use_programs all_reduce.py
  in_container -W srun --gpus 2 --num-nodes 2
  ended "$job" 60 COMPLETED 0:0
  job_log | grep -E '^sum 15 at [0-9.]+ port [0-9]+$'
}

@test "lightning, which the image lacks, works with --bind and .env" {
  local environment
  environment=$(lightning_environment)
  printf 'PYTHONPATH=/lightning\n' >"$project/.env"
  use_programs 'lightning_ranks.py --num_nodes {nodes} --gpus {gpus}'
  in_container -W lightning --gpus 2 --num-nodes 2 --nodelist 'node[1-2]' \
    --bind "$(echo "$environment"/lib/python3*/site-packages):/lightning:ro"
  ended "$job" 120 COMPLETED 0:0
  same "$(told 3 cluster rank world_size node_rank steps)" $'cluster="SLURMEnvironment"\nrank=3\nworld_size=4\nnode_rank=1\nsteps=2'
}

# small_image PROGRAM...   Makes small.sif, a container of sh and these programs alone.
small_image() {
  local -r root=$BATS_TEST_TMPDIR/root
  local library program
  mkdir -p -- "$root"/{bin,dev,proc,sys,tmp,etc}
  for program in sh "$@"; do
    cp -L -- "$(command -v "$program")" "$root/bin/"
    while read -r library; do
      mkdir -p -- "$root${library%/*}"
      cp -L -- "$library" "$root$library"
    done < <(ldd "$(command -v "$program")" | grep -oE '/[^ ]+\.so[^ ]*')
  done
  printf '#!/bin/sh\nexit 1\n' >"$root/bin/python" # one that has no torch
  chmod +x -- "$root/bin/python"
  apptainer --quiet build --force "$BATS_TEST_TMPDIR/small.sif" "$root" >/dev/null 2>&1
}

@test "an image without bash or torch is refused at submission, or else on the node before ranks start" {
  small_image
  fails_with 2 'small.sif has no bash inside' submitter -s "$BATS_TEST_TMPDIR/small.sif"
  small_image bash
  fails_with 2 'the python of the image .*small.sif has no torch' submitter -s "$BATS_TEST_TMPDIR/small.sif"
  same "$(find "$SCRATCH" -mindepth 1 ! -name '.*')" ''

  image=$BATS_TEST_TMPDIR/small.sif
  in_container --gpus 2 --no-preflight --no-stage-image
  ended "$job" 30 FAILED 1:0
  job_log | grep '^inside.sh: error: the python of the image .*small.sif has no torch, of which torchrun is a part'
  if job_log | grep '^rank '; then return 1; fi

  # srun needs no torch in the image.
  experiments 'bash -c "echo ran"'
  in_container -W srun --no-stage-image
  ended "$job" 30 COMPLETED 0:0
  job_log | grep -x ran
}

@test "a truncated image is refused at submission" {
  head -c 300000000 -- "$image" >"$BATS_TEST_TMPDIR/half.sif"
  fails_with 2 'half.sif.* is corrupt: it has 300000000 bytes of [0-9]+ at least' submitter -s "$BATS_TEST_TMPDIR/half.sif"
}

@test "no runtime on the node, a missing bind, a missing folder: reported before ranks start" {
  mkdir -p -- "$BATS_TEST_TMPDIR/there"
  PATH=$(path_without apptainer singularity) in_container --no-preflight
  ended "$job" 30 FAILED 1:0
  job_log | grep '^run.sh: error: no apptainer and no singularity on node1: '

  in_container -W srun --bind "$BATS_TEST_TMPDIR/there" --sbatch-arg=--hold
  rmdir -- "$BATS_TEST_TMPDIR/there"
  scontrol release "$job"
  ended "$job" 30 FAILED 1:0
  job_log | grep "^run.sh: error: --bind .*there.*: there is no .*/there' on node1"

  own_folder=$(mktemp -d /var/tmp/hpc_kit_test.XXXXXX)
  in_container -W srun --chdir "$own_folder"
  ended "$job" 30 FAILED 1:0
  job_log | grep -F "inside.sh: error: --chdir: there is no folder $own_folder in the container"
  if job_log | grep '^rank '; then return 1; fi
}

@test "ranks that train alone are reported, and ranks that train together are not" {
  use_programs 'meetings.py quick' 'meetings.py ddp'
  in_container -W srun --num-nodes 2
  wait_for_job "$job" 120
  job_log 1 | grep -qE '^warning: job [0-9]+: its 2 processes never spoke with each other'
  job_log 2 | grep -q ': exit status 0, finished$'
  if job_log 2 | grep 'never spoke'; then return 1; fi
}
