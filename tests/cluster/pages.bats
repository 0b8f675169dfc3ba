#!/usr/bin/env bats
# Runs each shell command that a page shows, in the order of the page, in a project of its own on the pocket cluster, and compares what it
# prints with the output that the page shows. pages_not_run.txt lists the commands that cannot run here, and why. unit/readme.bats checks
# everything else about the pages.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  export shown=$BATS_FILE_TMPDIR/shown tools
  mkdir -- "$shown"
  read_pages >"$BATS_FILE_TMPDIR/unseen" || true # a test of its own
  tools=$(tools_environment)
  cluster_up
  start_drill
}

teardown_file() {
  if [[ -e $BATS_FILE_TMPDIR/drill.process && ! -e $BATS_FILE_TMPDIR/drill.status ]]; then
    kill -- "-$(<"$BATS_FILE_TMPDIR/drill.process")"
    wait_until 60 test -e "$BATS_FILE_TMPDIR/drill.status"
  fi
  cut -f 1 -- "$BATS_FILE_TMPDIR/jobs" | xargs --no-run-if-empty scancel --quiet || true
  cluster_down
}

# The pages speak of ~/project, of `python -m train` in its environment, and of a clone of the kit, where most commands are typed.
setup() {
  make_project
  cp -- "$BATS_TEST_DIRNAME/programs/shown.py" "$project/train.py"
  experiments 'python train.py'
  export HOME=$BATS_TEST_TMPDIR/'a home' SCRATCH=$BATS_TEST_TMPDIR/scratch PATH=$tools/bin:$PATH
  export OMP_NUM_THREADS=1
  export HPC_LAUNCHER=srun # torchrun imports torch on each node: one page starts it
  mkdir -p -- "$HOME" "$SCRATCH/${project##*/}"
  cd -- "$project" || return
  out=$BATS_TEST_TMPDIR/out err=$BATS_TEST_TMPDIR/err
  job='' sweep='' state=COMPLETED wanted=0
}

# A page may have left a cluster of its own, or a server.
teardown() {
  local cluster
  for cluster in "$BATS_TEST_TMPDIR"/*.cluster; do
    if [[ -d $cluster ]]; then POCKET_CLUSTER_DIR=$cluster bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-; fi
  done
  if [[ -n ${server:-} ]]; then kill "$server"; fi
}

read_pages() {
  python3 "$BATS_TEST_DIRNAME/page_commands.py" read "$checkout" "$BATS_TEST_DIRNAME/pages_not_run.txt" "$shown"
}

# follow PAGE   Runs its commands. Around each, the test's own functions `before` and `after` are called with the command in one line; a
# file that the page shows goes to `file NAME`.
follow() {
  local page kind text content
  while IFS=$'\t' read -r -u 9 page kind content text; do
    [[ $page == "$1" ]] || continue
    case $kind in
      no | output) ;;
      run | session) run_shown "$text" "$content" ;;
      *)
        cp -- "$content" "$project/$kind"
        file "$project/$kind"
        ;;
    esac
  done 9<"$shown/index"
}

before() { :; }
after() { :; }
file() { false; }

# filled TEXT   Prints it with values in place of what the pages leave open.
filled() {
  local -r text=$1
  local -a values=(
    JOB... "$job"
    JOB "$job"
    EXPERIMENT rates
    '--cluster NAME' '--cluster mine'
    'rates 36' "rates $job"
    ' [OPTIONS]' ''
    ENTITY/PROJECT/ID "$sweep"
    /folder/that/all/nodes/share "${SCRATCH@Q}"
    /var/tmp/like_mine "${BATS_TEST_TMPDIR@Q}/like_mine.cluster"
    /data/ilsvrc "${BATS_TEST_TMPDIR@Q}/ilsvrc"
  )
  local result=$text
  local -i i
  for ((i = 0; i < ${#values[@]}; i += 2)); do result=${result//"${values[i]}"/"${values[i + 1]}"}; done
  printf '%s\n' "$result"
}

# run_shown TEXT FILE   Runs one command in this shell, as `cd` and `export` are for the next ones. It must exit with $wanted. Sets `job` if
# it has printed the id of a job, which must end in $state.
run_shown() {
  local status=0 command
  before "$1"
  command=$(<"$2")
  if [[ $command == *$'\n'* && $command != *"\\"$'\n'* ]]; then # a session
    command="${command%%$'\n'*} <<'SESSION'"$'\n'"${command#*$'\n'}"$'\nSESSION'
  fi
  filled "$command" >"$BATS_TEST_TMPDIR/command"
  # shellcheck source=/dev/null
  source "$BATS_TEST_TMPDIR/command" >"$out" 2>"$err" </dev/null 3>&- 4>&- 9>&- || status=$?
  if ((status != wanted)); then
    printf '%s\nstatus %s, not %s:\n' "$1" "$status" "$wanted" >&2
    cat -- "$out" "$err" >&2
    return 1
  fi
  if [[ $1 =~ (job_submitter|train|sweep)\.sh|\ resubmit\  && $(<"$out") =~ ^[0-9]+$ ]]; then
    job=$(<"$out")
    keep_job "$1"
  fi
  after "$1"
}

# keep_job COMMAND   The last test looks how it has ended.
keep_job() {
  run_directory=$(scontrol show job "$job" | sed -n 's/^ *WorkDir=//p')
  run_directory=${run_directory%%$'\n'*} # of each task
  printf '%s\t%s\t%s\t%s\n' "$job" "$state" "$SLURM_CONF" "$1" >>"$BATS_FILE_TMPDIR/jobs"
}

# block FIRST   Prints the name of the file with the output that begins so on a page.
block() {
  awk -F '\t' -v first="$1" '$2 == "output" && index($4, first) == 1 { print $3 }' "$shown/index"
}

# shows FIRST [PATTERN]   The output that begins with FIRST on a page is like that of the last command. Lines that match PATTERN are not
# compared.
shows() {
  local real
  real=$(cat -- "$out" "$err")
  printf '%s\n' "${real//"${project##*/}"/kit}" >"$BATS_TEST_TMPDIR/real" # as the pages call it
  grep -vE -- "${2:-^$}" "$(block "$1")" >"$BATS_TEST_TMPDIR/shown"
  if ! python3 "$BATS_TEST_DIRNAME/page_commands.py" compare "$BATS_TEST_TMPDIR/shown" "$BATS_TEST_TMPDIR/real" >&2; then
    printf 'are shown, and not in\n%s\n' "$real" >&2
    return 1
  fi
}

# own_project   Makes ~/project, whose environment exists, as making one takes minutes.
own_project() {
  mkdir -p -- "$HOME/project"
  cp -- "$project/train.py" "$HOME/project/"
  ln -sfn -- "$checkout/.venv" "$HOME/project/.venv"
}

# light_environment FOLDER   An environment with the kit's Python and nothing else.
light_environment() {
  mkdir -p -- "$1/bin"
  ln -s -- "$(bash "$checkout/venv/create.sh" cpu)/bin/python" "$1/bin/python"
}

# The drill takes a minute, in which the other pages are followed.
start_drill() {
  {
    local status=0
    set -m # a process group, which can be ended
    follow_drill >"$BATS_FILE_TMPDIR/drill.said" 2>&1 &
    printf '%s\n' "$!" >"$BATS_FILE_TMPDIR/drill.process"
    wait "$!" || status=$?
    printf '%s\n' "$status" >"$BATS_FILE_TMPDIR/drill.status"
  } >/dev/null 2>&1 3>&- 4>&- &
}

follow_drill() {
  BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR/drill
  mkdir -- "$BATS_TEST_TMPDIR"
  setup
  echo 'python train.py --epochs 100 --forgets' >short.txt
  wanted=1
  follow hpc/drill/README.md
}

@test "each page that shows a command is followed, and each command of the list is shown" {
  local page
  same "$(<"$BATS_FILE_TMPDIR/unseen")" ''
  while read -r page; do
    grep -qxE " *follow $page" "$BATS_TEST_FILENAME" || { printf 'no test follows %s\n' "$page" && return 1; }
  done < <(awk -F '\t' '$2 != "no" && $2 != "output" { print $1 }' "$shown/index" | sort -u)
}

@test "README.md" {
  local -r quick=$BATS_TEST_TMPDIR/quick.cluster
  before() {
    case $1 in
      *quickstart.sh)
        PYTHONPATH=$(echo "$tools"/lib/python*/site-packages) # scikit-learn, as pip would install it
        export PYTHONPATH
        experiments 'python -m train --epochs 1'
        unset HPC_LAUNCHER
        export was=$SLURM_CONF before_quick=$POCKET_CLUSTER_DIR POCKET_CLUSTER_DIR=$quick
        unset SLURM_CONF
        ;;
      *adopt.sh*) own_project ;;
      bats*) cd -- "$checkout" ;;
    esac
  }
  after() {
    case $1 in
      *quickstart.sh)
        # With pip's scikit-learn it is said that the digits were written.
        echo 'digits: written' >>"$out"
        shows '== The cluster'
        bash hpc/pocket_cluster.sh down
        export SLURM_CONF=$was POCKET_CLUSTER_DIR=$before_quick
        unset PYTHONPATH
        ;;
    esac
  }
  file() {
    { printf 'source %q\n' "$checkout/tests/helpers.bash" && cat -- "$1"; } >"$BATS_TEST_TMPDIR/shown.bats"
    bats "$BATS_TEST_TMPDIR/shown.bats"
  }
  follow README.md
}

@test "hpc/README.md" {
  before() {
    case $1 in
      *adopt.sh*)
        own_project
        touch hpc/job/rendezvous.py # an older kit has it
        ;;
      *'--repeat 5') experiments 'python train.py --fails 3' && state=any ;;
      *report*) wait_for_job "$job" 60 ;;
      *--only-missing) state=COMPLETED ;;
      *'-W node'*)
        light_environment light
        printf '#!/bin/sh\necho accelerate "$@"\n' >light/bin/accelerate
        chmod +x light/bin/accelerate
        export HPC_ENVIRONMENT=light
        ;;
      salloc*) experiments 'python train.py --lr 0.1' ;;
    esac
  }
  after() {
    case $1 in
      *--only-missing) tr '\0' '\n' <"$run_directory/sbatch_argv" | grep -x -- '--array=4' ;;
      *'-W node'*)
        wait_for_job "$job" 60
        job_log | grep -qxE "accelerate launch --multi_gpu --num_machines 2 --num_processes 4 --machine_rank 1 $address train.py"
        ;;
      salloc*) grep -q '^arguments: --lr 0.1$' "$out" "$err" ;;
    esac
  }
  local -r address='--main_process_ip [0-9.]+ --main_process_port [0-9]+'
  file() {
    if grep -q '^accelerate' "$1"; then return; fi
    cp -- train.py lightning.py
    submit --follow 3>&- 4>&-
  }
  follow hpc/README.md

  experiments 'torchrun --standalone --nproc_per_node=4 train.py 5'
  submitter --dry-run >"$out" 2>"$err"
  same "$(sed '/^dry run/,$d' "$err")" "$(<"$(block 'note: line 1')")"

  # A newer kit: the user has changed a file of the older one.
  echo '# newer' | tee -a hpc/doctor.sh >>hpc/clusters/fir.sh
  echo '# mine' >>"$HOME/project/hpc/clusters/fir.sh"
  rm -- hpc/job/rendezvous.py
  bash hpc/adopt.sh "$HOME/project" >"$out" 2>"$err"
  shows upgraded
}

# doctors_lines FILE   Prints the names in its second column.
doctors_lines() {
  sed -nE 's/^(ok|note|problem) +//p' "$1" | sed 's/   *.*//' | LC_ALL=C sort
}

@test "hpc/clusters/README.md" {
  before() {
    case $1 in
      *doctor.sh\ --cluster*) wanted=1 ;; # its modules and its disk are not here
      *--mem*) wanted=1 ;;
      *) wanted=0 ;;
    esac
  }
  after() {
    case $1 in
      'bash hpc/doctor.sh') same "$(comm -13 <(doctors_lines "$out") <(doctors_lines "$(block 'ok       slurm')"))" '' ;;
      *--profile) shows '# shellcheck' ;;
    esac
  }
  file() {
    mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
    mv -- "$1" "$XDG_CONFIG_HOME/hpc_kit/clusters/mine.sh"
    light_environment "$HOME/miniconda3/envs/mine"
    submitter --cluster mine --dry-run >"$out"
    grep -o -- '--account=abc@a100' "$out"
    grep -o -- '--gres=gpu:1' "$out"
    fails_with 1 'a day; --qos long is not for us' submitter --cluster mine --dry-run --time 2-0
    fails_with 1 'memory comes with the GPUs' submitter --cluster mine --dry-run --mem 1G
  }
  follow hpc/clusters/README.md
}

@test "hpc/drill/README.md" {
  wait_until 300 test -s "$BATS_FILE_TMPDIR/drill.status"
  if [[ $(<"$BATS_FILE_TMPDIR/drill.status") != 0 ]]; then cat -- "$BATS_FILE_TMPDIR/drill.said" && return 1; fi
  out=$BATS_FILE_TMPDIR/drill/out
  err=/dev/null
  shows 'fault '
}

# send NAME COMMAND OPTION...   A run that the page speaks of; sets `job`.
send() {
  experiments "$2"
  submit --exp-name "$1" "${@:3}"
  keep_job "$1"
}

@test "hpc/experiments/README.md" {
  local rates baseline stopped cancelled wide
  state=COMPLETED send rates 'python train.py' --gpus 1 --repeat 2
  rates=$job
  send baseline 'python train.py' --gpus 2 --num-nodes 2
  baseline=$job
  state=any send long 'python train.py --epochs 500 --seconds 1' --gpus 2
  state=any send stopped 'python train.py --epochs 500 --seconds 1' --gpus 1
  stopped=$job
  state=any send later 'python train.py' --begin now+1hour
  state=any send cancelled 'python train.py' --begin now+1hour
  cancelled=$job
  state=any send wide 'python train.py --memory 600000000' --gpus 2 --mem 1G
  wide=$job
  wait_for_job "$wide" 60
  wait_for_job "$baseline" 60
  wait_for_job "$rates" 60
  before() {
    case $1 in
      *stop*) job=$stopped ;;
      *cancel*) job=$cancelled ;;
      *) job=$baseline ;;
    esac
  }
  after() {
    case $1 in
      'bash hpc/experiments.sh') shows 'JOB  NAME' ;;
      *'why wide') shows 'job 16 (wide)' slurmstepd ;; # as its version prints it
      *'why long') shows 'job 12 (long)' ;;
      *'open long') shows 'run ' '^kit ' ;; # its commit
      *'report rates --rate-per-hour 2.5')
        # No task of these was interrupted, or has more cores than it needs.
        shows METRIC '^python -m train|notice request|--cpus'
        ;;
      *stop*) wait_for_job "$stopped" 60 ;;
    esac
  }
  follow hpc/experiments/README.md
}

@test "hpc/job/README.md" {
  follow hpc/job/README.md
}

@test "hpc/job_submitter/README.md" {
  local name
  after() {
    wait_for_job "$job" 60
    # Each file of the run is named.
    for name in "$run_directory"/* "$run_directory"/task_1/* "$run_directory"/task_1/attempt_0/*; do
      name=${name##*/}
      grep -qwF -- "${name/usage_*/usage_NODE.tsv}" "$(block '${SCRATCH}/PROJECT')" || { printf '%s is not named\n' "$name" && return 1; }
    done
  }
  follow hpc/job_submitter/README.md
}

@test "hpc/job_submitter/DATA.md" {
  local -r folder=$SCRATCH/${project##*/}
  before() {
    case $1 in
      *imagenet*)
        mkdir -p -- "$folder/datasets/imagenet"
        echo x | tee "$folder/datasets/imagenet/x" >"$folder/labels.json"
        ;;
      mkdir*)
        own_project
        (cd -- "$HOME/project" && bash "$project/hpc/adopt.sh" "$HOME/project") 2>/dev/null
        cd -- "$HOME/project"
        mkdir -p -- "$HOME/downloads/d1"
        echo x >"$HOME/downloads/d1/x"
        ;;
    esac
  }
  follow hpc/job_submitter/DATA.md
  wait_for_job "$job" 60
  job_log | grep -E '^arguments: --data /.*/datasets/d1$'
}

@test "hpc/job_submitter/CLOUD.md" {
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\necho "Job submitted, ID: 7"\n' >"$BATS_TEST_TMPDIR/bin/sky"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/sky"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  unset HPC_LAUNCHER
  keep_job() { same "$job" 7; } # of the stand-in for SkyPilot
  after() {
    case $1 in
      *--dry-run) shows '{' ;;
    esac
  }
  follow hpc/job_submitter/CLOUD.md
}

@test "hpc/job_submitter/MIGRATING.md" {
  own_project
  mkdir -p -- "$HOME/old/jobs"
  cat >"$HOME/project/job.sbatch" <<'SBATCH'
#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gres=gpu:a100:4
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=1-00:00:00
#SBATCH --output=%x.out
module load python/3.11 cuda
source /home/me/envs/x/bin/activate

export WANDB_API_KEY=0123456789
export NNODES=2
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# continue, if there is something
if [ -f ckpt.pt ]; then
  resume=--resume
fi

HF_HOME=$SCRATCH/hf srun torchrun --nnodes ${NNODES} --nproc_per_node 4 train.py --lr 0.1 --workers 32
SBATCH
  cp -- "$HOME/project/job.sbatch" "$HOME/old/jobs/"
  printf '%s\n' 'experiment_name = "fashion_mnist"' 'gpus = 2' 'gpu_type = "24GB VRAM GPU"' 'compute_mode = "burst"' \
    'command = "train.py --lr 0.01"' >fashion_mnist.isc
  after() {
    case $1 in
      *job.sbatch*) shows 'from ' ;;
      *train.sh*) shows 'note: gpus' ;;
    esac
  }
  follow hpc/job_submitter/MIGRATING.md

  printf '%s\n' '' '' 'command = "train.py"' 'gpu = 2' >deepseek.isc
  run -2 bash hpc/train.sh deepseek.isc
  same "$output" "$(<"$(block 'job_submitter.sh: error')")"
}

@test "hpc/pocket_cluster/README.md" {
  export POCKET_CLUSTER_DIR=$BATS_TEST_TMPDIR/plain.cluster
  unset SLURM_CONF
  state=any
  after() {
    case $1 in
      *status) shows /var/tmp/pocket_cluster_root ;;
      *job_submitter.sh*)
        wait_for_job "$job" 60
        same "$job_states" COMPLETED
        ;;
    esac
  }
  follow hpc/pocket_cluster/README.md
}

# start_server   A stand-in for W&B's server.
start_server() {
  export WANDB_API_KEY=0123456789012345678901234567890123456789 WANDB_ERROR_REPORTING=false
  python "$checkout/tests/wandb_server.py" "$BATS_TEST_TMPDIR" 3>&- 4>&- &
  server=$!
  wait_until 30 test -s "$BATS_TEST_TMPDIR/url"
  WANDB_BASE_URL=$(<"$BATS_TEST_TMPDIR/url")
  export WANDB_BASE_URL
}

@test "hpc/sweep/README.md" {
  start_server
  before() {
    case $1 in
      *sweep.sh*)
        printf '%s\n' 'program: train.py' 'method: grid' 'parameters:' '  lr: {values: [0.1, 0.01]}' '  seed: {values: [0, 1]}' >sweeper.yml
        export HPC_BEGIN=now+1hour
        state=any
        ;;
      *--sweep-config*)
        unset HPC_BEGIN
        state=COMPLETED
        ;;
      *sync*) wait_for_job "$job" 60 ;;
    esac
  }
  after() {
    case $1 in
      *sweep.sh*) sweep=$(sed -nE 's/.*; to submit for it again: job_submitter.sh --wandb-sweepid //p' "$err") ;;
      *--sweep-config*) diff "$(block '1 ')" "$run_directory/tasks" ;;
    esac
  }
  follow hpc/sweep/README.md
}

@test "singularity/README.md" {
  export image=$BATS_TEST_TMPDIR/image.sif HPC_BEGIN=now+1hour
  state=any
  make_sif "$image"
  follow singularity/README.md
}

# write_data FUNCTION FOLDER [ARGUMENT]   Makes a small data set by one of tests/train/real_formats.py.
write_data() {
  PYTHONPATH=$checkout/tests/train:$checkout python - "$@" <<'PYTHON'
import sys
from pathlib import Path
import real_formats
folder = Path(sys.argv[2])
folder.mkdir(parents=True)
getattr(real_formats, sys.argv[1])(folder, *map(int, sys.argv[3:]))
PYTHON
}

small_digits() {
  write_data write_mnist "$SCRATCH/${project##*/}/datasets/digits" 64 32 8
}

@test "train/README.md" {
  small_digits
  follow train/README.md
}

@test "train/data/README.md" {
  local image=$BATS_TEST_TMPDIR/ilsvrc/val/n01443537/n01443537_2.JPEG
  write_data write_class_folders "$BATS_TEST_TMPDIR/ilsvrc"
  follow train/data/README.md
  truncate --size=-44 -- "$image"
  run -1 python -m train.prepare imagenet "$BATS_TEST_TMPDIR/ilsvrc" --verify
  same "$(sed -e "s|$BATS_TEST_TMPDIR|/data|" -e 's/([0-9]* bytes/(44 bytes/' <<<"$output")" "$(<"$(block 'python -m train.prepare: ')")"
}

@test "train/tasks/README.md" {
  small_digits
  write_data write_cifar10 "$HOME/data/cifar10" 2 10
  printf 'epochs: 1\nbatch_size: 10\nwidth: 4\n' >mine.yml
  after() {
    case $1 in
      *'--epochs 2') shows 'train.distributed_wandb' ;;
    esac
  }
  follow train/tasks/README.md
}

@test "venv/README.md" {
  small_digits
  before() {
    case $1 in
      *miniconda3*) light_environment "$HOME/miniconda3/envs/mine" ;;
    esac
  }
  follow venv/README.md
}

@test "each job that the pages have submitted has ended as it should" {
  local id state command
  while IFS=$'\t' read -r id state SLURM_CONF command; do
    if [[ $state == any ]]; then continue; fi
    wait_for_job "$id" 120
    same "$command: $(sort -u <<<"$job_states")" "$command: $state"
  done <"$BATS_FILE_TMPDIR/jobs"
}
