#!/usr/bin/env bats
# --backend sky: the task for SkyPilot, its schemas and its parser, and a rehearsal of what its machines do. No cloud.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/../cluster/reports.bash"

setup() {
  make_project
  cp -- "$BATS_TEST_DIRNAME/../cluster/programs/spot.py" "$project/"
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HOME=$BATS_TEST_TMPDIR/home
  mkdir -p -- "$HOME" "$SCRATCH/${project##*/}/data sets/d"
  unset CHECKPOINT_URL WANDB_API_KEY
  # The tests need neither Slurm nor SkyPilot.
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  mkdir -- "$BATS_TEST_TMPDIR/bin"
}

# task OPTION...   Prints the task of a dry run.
task() {
  submitter --backend sky --dry-run "$@" 2>/dev/null
}

# field EXPRESSION   Prints a value of the YAML on standard input, named `t`.
field() {
  "$kit/bin/python" -c 'import json, sys, yaml; t = yaml.safe_load(sys.stdin); print(json.dumps(eval(sys.argv[1]), sort_keys=True))' "$1"
}

setup_file() {
  kit=$(bash "$checkout/venv/create.sh" cpu)
  export kit
}

# python_with MODULE   Prints a Python that has it, from an environment of the tests or this machine. Status 1: there is none.
python_with() {
  local python
  for python in "$checkout"/.venv/*/bin/python python3; do
    if "$python" -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec(sys.argv[1]))' "$1" 2>/dev/null; then
      printf '%s\n' "$python"
      return
    fi
  done
  return 1
}

# Make tasks of three kinds, as task_N.yaml.
make_tasks() {
  export CHECKPOINT_URL=gs://bucket/runs OTHER=x
  task --gpus 0 --on-demand >"$BATS_TEST_TMPDIR/task_0.yaml"
  task --gpus 2 -G L4 --secret OTHER --data='data sets/d' >"$BATS_TEST_TMPDIR/task_1.yaml"
  task -G A100 -g 8 -n 4 --infra aws/us-east-1 --disk-size 512G >"$BATS_TEST_TMPDIR/task_2.yaml"
}

@test "the task: machines, folders, secrets by name, and the commands that it runs" {
  printf '%s\n' 'CHECKPOINT_URL=gs://bucket/runs' 'HPC_GPU_TYPE=A100' 'HF_TOKEN="hidden one"' >"$project/.env"
  export WANDB_API_KEY=hidden_two_of_twenty_letters OTHER=hidden_three
  local text
  text=$(task --gpus 2 --infra gcp/us-central1 --cpus 8 --exp-name 'my run' --data 'data sets/d' --secret OTHER --disk-size 1T)
  [[ $text != *hidden* ]]
  [[ $(field 't["resources"]' <<<"$text") == '{"accelerators": "A100:2", "cpus": "8+", "disk_size": 1024, "infra": "gcp/us-central1", "job_recovery": {"recover_on_exit_codes": [75]}, "memory": "20+", "use_spot": true}' ]]
  [[ $(field '[t["name"], t["num_nodes"], t["secrets"], t["envs"]]' <<<"$text") == '["my-run", 1, {"HF_TOKEN": null, "OTHER": null, "WANDB_API_KEY": null}, {"CHECKPOINT_URL": "gs://bucket/runs"}]' ]]
  [[ $(field 't["file_mounts"]["~/hpc_data/data sets/d"]' <<<"$text") == "$("$kit/bin/python" -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$SCRATCH/${project##*/}/data sets/d")" ]]
  [[ $(field 'list(t)' <<<"$text") == '["name", "num_nodes", "resources", "file_mounts", "envs", "secrets", "setup", "run"]' ]]
  [[ -z $(ls -A -- "$SCRATCH/${project##*/}/hpc_outputs" 2>/dev/null) ]]
  text=$(CHECKPOINT_URL=s3://b task --num-nodes 3 --on-demand -W node)
  [[ $(field '[t["num_nodes"], t["resources"]["use_spot"], t["file_mounts"]["~/hpc_run/checkpoints"]["mode"]]' <<<"$text") == '[3, false, "MOUNT"]' ]]
}

@test "the tasks follow the schemas of SkyPilot 0.14.1" {
  local python
  python=$(python_with jsonschema) || { echo "no jsonschema: bash tests/run.sh lint" && return 1; }
  make_tasks
  "$python" "$BATS_TEST_DIRNAME/sky_schema.py" "$BATS_TEST_TMPDIR"/task_*.yaml
  sed -i 's/"use_spot":/"use_spots":/' "$BATS_TEST_TMPDIR/task_1.yaml"
  run ! "$python" "$BATS_TEST_DIRNAME/sky_schema.py" "$BATS_TEST_TMPDIR"/task_*.yaml
}

@test "SkyPilot's own parser accepts the tasks (if an environment has SkyPilot)" {
  local python
  python=$(python_with sky) || skip 'no SkyPilot: python3 -m venv .venv/sky && .venv/sky/bin/python -m pip install skypilot==0.14.1'
  make_tasks
  export SKYPILOT_DISABLE_USAGE_COLLECTION=1
  run -0 --separate-stderr "$python" "$BATS_TEST_DIRNAME/sky_parser.py" "$BATS_TEST_TMPDIR"/task_*.yaml
  [[ ${lines[0]} == "1 False None 256 "*"'recover_on_exit_codes': [75]"* ]]
  [[ ${lines[1]} == "1 True {'L4': 2} 256 "* && ${lines[2]} == "4 True {'A100': 8} 512 "* ]]
}

@test "an .isc file works, too" {
  printf '%s\n' 'experiment_name = "x"' 'gpus = 16' 'output_path = "/nowhere"' 'compute_mode = "burst"' 'command = "train.py"' >"$project/x.isc"
  export CHECKPOINT_URL=gs://bucket/runs
  : >"$project/train.py"
  [[ $(task --isc "$project/x.isc" -G H100 | field '[t["num_nodes"], t["resources"]["accelerators"]]') == '[2, "H100:8"]' ]]
}

@test "impossible requests are refused" {
  export CHECKPOINT_URL=gs://bucket/runs
  fails_with 2 'needs --gpu-type, such as L4' submitter --backend sky
  fails_with 2 '--partition means nothing with --backend sky: leave it out$' submitter --backend sky --gpus 0 -p main
  fails_with 2 '--which-distributed srun starts the processes by Slurm' submitter --backend sky --gpus 0 -W srun
  fails_with 2 "--secret 'A=b': give the name of a variable, not its value$" submitter --backend sky --gpus 0 --secret A=b
  fails_with 2 '--secret NOT_THERE: no such variable here' submitter --backend sky --gpus 0 --secret NOT_THERE
  unset CHECKPOINT_URL
  fails_with 2 "CHECKPOINT_URL is not set, and a machine's disk goes with it: put  CHECKPOINT_URL=" submitter --backend sky --gpus 0
  task --gpus 0 --on-demand | grep -q '"use_spot": false'
  fails_with 1 "no SkyPilot on this machine: install it for your cloud, such as  pip install 'skypilot" submitter --backend sky --gpus 0 --on-demand
  experiments 'true 1' 'true 2'
  fails_with 2 '--backend sky takes one experiment: the file has 2' submitter --backend sky --gpus 0 --on-demand
  stub_slurm
  fails_with 2 '--infra is about --backend sky: give both$' submitter --infra gcp
}

# A stand-in for sky that records its arguments and environment.
stub_sky() {
  cat >"$BATS_TEST_TMPDIR/bin/sky" <<'STUB'
#!/bin/sh
printf '%s\n' "$@" >"$0.arguments"
printf '%s\n' "$HF_TOKEN" >"$0.token"
printf 'Job submitted, ID: \033[1m7\033[0m\n'
STUB
  chmod +x -- "$BATS_TEST_TMPDIR/bin/sky"
}

@test "the launch: only the job's id on standard output, secrets through the environment" {
  stub_sky
  printf '%s\n' 'CHECKPOINT_URL=gs://bucket/runs' 'HF_TOKEN=hf_never_to_be_seen' >"$project/.env"
  run -0 --separate-stderr submitter --backend sky --gpus 0 --exp-name zz
  [[ $output == 7 && $stderr == *'Job submitted'* ]]
  run_directory=$(compgen -G "$SCRATCH/*/hpc_outputs/zz_*")
  [[ $(<"$BATS_TEST_TMPDIR/bin/sky.arguments") == $'jobs\nlaunch\n--yes\n--detach-run\n--secret\nHF_TOKEN\n'"$run_directory/task.yaml" ]]
  [[ $(<"$BATS_TEST_TMPDIR/bin/sky.token") == hf_never_to_be_seen ]]
  run ! grep -r hf_never_to_be_seen "$run_directory"
  printf '#!/bin/sh\nexit 3\n' >"$BATS_TEST_TMPDIR/bin/sky"
  run -1 --separate-stderr submitter --backend sky --gpus 0
  [[ -z $output && $stderr == *'sky jobs launch ended with status 3; the task is '*/task.yaml ]]
}

# machine NAME   Makes a new machine as SkyPilot makes it from the task, and runs the task's setup there. It uses the checkout's environment
# instead of making one.
machine() {
  local -r task=$run_directory/task.yaml
  export HOME=$BATS_TEST_TMPDIR/$1
  mkdir -p -- "$HOME"
  "$kit/bin/python" - "$task" <<'PYTHON'
import os, shutil, sys, yaml
for there, here in yaml.safe_load(open(sys.argv[1]))["file_mounts"].items():
    there = os.path.expanduser(there)
    (shutil.copytree if os.path.isdir(here) else shutil.copy)(here, there)
PYTHON
  mkdir -p -- "$HOME/hpc_run/source"
  ln -s -- "$checkout/.venv" "$HOME/hpc_run/source/.venv"
  field 't["setup"]' <"$task" | "$kit/bin/python" -c 'import json, sys; print(json.load(sys.stdin))' >"$HOME/setup.sh"
  field 't["run"]' <"$task" | "$kit/bin/python" -c 'import json, sys; print(json.load(sys.stdin))' >"$HOME/run.sh"
  (cd -- "$HOME" && bash setup.sh >/dev/null)
}

# run_machine   Runs the task there as SkyPilot would; sets status and output.
run_machine() {
  run env CHECKPOINT_URL="$CHECKPOINT_URL" SKYPILOT_NODE_IPS=127.0.0.1 SKYPILOT_NODE_RANK=0 SKYPILOT_NUM_GPUS_PER_NODE=2 \
    SPOT_NOTICES=gcp bash -c 'cd && bash run.sh'
}

@test "rehearsal without a cloud: a notice, the save in the bucket, another machine that continues from it, two processes each" {
  local -r bucket=$BATS_TEST_TMPDIR/bucket
  stub_sky
  export CHECKPOINT_URL=file://$bucket
  prepare_digits "$SCRATCH/${project##*/}/digits"
  experiments 'python spot.py --epochs 2 --data-dir=${SLURM_TMPDIR}/digits'
  submitter --backend sky -g 2 -G L4 --exp-name spotty --data digits 2>/dev/null
  run_directory=$(compgen -G "$SCRATCH/*/hpc_outputs/spotty_*")

  machine first
  export NOTICE=TRUE
  run_machine
  [[ $status == 75 && $output == *'GCP preempts this machine'* ]]
  [[ -n $(find "$bucket" -name manifest.json) ]]

  machine second
  NOTICE=FALSE
  run_machine
  [[ $status == 0 && $output == *'bringing '*" from file://$bucket/"* && $output == *'epoch 2/2'* ]]
  # Only its place has changed; its content is there.
  [[ -n $(find "$bucket" -path '*/output/node_0/*' -type f) ]]
}
