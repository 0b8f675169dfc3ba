#!/usr/bin/env bats
# How the keys of .isc files become options (hpc/job_submitter/isc.py, hpc/job_submitter/isc.sh), and the messages for wrong ones.
# cluster/isc.bats runs the files of tests/isc.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  make_project
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default
  mkdir -- "$SCRATCH"
  file=$project/file.isc
  touch -- "$project"/{train,a}.py # a program that does not exist is refused
}

# isc LINE...   Writes the file; adds a command unless one of the lines has it.
isc() {
  printf '%s\n' "$@" >"$file"
  if [[ $* != *command* ]]; then echo 'command = "train.py --x 1"' >>"$file"; fi
}

# options [GPUS_PER_NODE [GPUS [NODES]]]   Prints the options that the file becomes, sorted, in one line.
options() {
  python3 "$checkout/hpc/job_submitter/isc.py" "$file" "$project" "${1:-4}" "${@:2}" 2>"$BATS_TEST_TMPDIR/said" | tr '\0' '\n' | sed '/^--$/,$d' |
    sed -n 'n;p' | sort | paste --serial --delimiters=' '
}

# command_words   Prints the words of the command in the argv file, one a line.
command_words() {
  python3 "$checkout/hpc/job_submitter/isc.py" "$file" "$project" 4 2>/dev/null | tr '\n\0' '~\n' | sed '1,/^--$/d'
}

# becomes WANTED OPTION...   Compares the program's output with WANTED.
becomes() {
  local -r wanted=$1
  local got
  got=$("${@:2}")
  if [[ $got != "$wanted" ]]; then
    printf '%s gives\n  %s\nnot\n  %s\n' "${*:2}" "$got" "$wanted" >&2
    return 1
  fi
}

# refused PATTERN LINE...   The submitter must refuse a file of these lines.
refused() {
  isc "${@:2}"
  fails_with 2 "$1" submitter --dry-run --isc "$file"
}

@test "gpus become as few nodes as can share them evenly" {
  local case
  isc 'gpus = 16' 'compute_mode = "burst"'
  for case in '4 --gpus=4 4' '8 --gpus=8 2' '6 --gpus=4 4' '16 --gpus=16 1' '3 --gpus=2 8'; do
    becomes "${case% *}" printf '%s' "${case% *}"
    becomes "--gpus=$(cut -d = -f 2 <<<"${case% *}") --interrupt=kill --num-nodes=${case##* } --rapid-cycle=none --which-distributed=torchrun" \
      options "${case%% *}"
  done
  isc 'gpus = 7' 'compute_mode = "burst"'
  [[ $(options 4) == '--gpus=1 '*' --num-nodes=7 '* ]]
  isc 'gpus = 6' 'nnodes = 3'
  [[ $(options 4) == '--gpus=2 '*' --num-nodes=3 '* ]]
  # A value on the command line decides the other one, too.
  isc 'gpus = 8'
  [[ $(options 4 2) == '--gpus=2 '*' --num-nodes=4 '* ]]
  [[ $(options 4 '' 8) == '--gpus=1 '*' --num-nodes=8 '* ]]
  [[ $(options 4 0) == '--gpus=0 '*' --num-nodes=1 '* ]]
  refused "line 1: gpus = 8 cannot be shared evenly by 3 nodes: give another --gpus" 'gpus = 8' 'nnodes = 3'
  fails_with 2 'cannot be shared evenly by nodes of 3 GPUs' submitter --dry-run --gpus 3 --isc <(printf 'gpus = 8\ncommand = "a.py"\n')
}

@test "the first generation: whole nodes, its environment, its outputs" {
  isc 'gpu_type = "24GB VRAM GPU"' 'nnodes = 12' 'venv_path = "~/.venv/bin/activate"' 'output_path = "/outputs/x"'
  HOME=/home/me becomes '--environment=/home/me/.venv --gpus=6 --interrupt=kill --num-nodes=12 --output-path=/outputs/x --rapid-cycle=5x90 --which-distributed=torchrun' options 6
  grep -qF "note: gpu_type = '24GB VRAM GPU': any GPU" "$BATS_TEST_TMPDIR/said"
  grep -qF 'note: no compute_mode: cycles come first' "$BATS_TEST_TMPDIR/said"
  isc 'gpu_type = "a100"' 'venv_path = "env"'
  becomes "--environment=$project/env"$'\n--gpu-type=a100' only environment gpu-type
}

# only NAME...   Keeps these options.
only() {
  local names
  names=$(IFS='|' && echo "$*")
  options | sed 's/ --/\n--/g' | grep -E "^--($names)=" || true
}

@test "compute modes and cycles" {
  isc 'compute_mode = "cycle"' '_cycle_count = 3' '_time_per_cycle_ms = 60500'
  becomes '--rapid-cycle=3x61' only rapid-cycle max-restarts
  isc 'compute_mode = "cycle"'
  becomes '--rapid-cycle=5x90' only rapid-cycle max-restarts
  isc 'compute_mode = "burst"' '_cycle_count = 3'
  becomes '--rapid-cycle=none' only rapid-cycle max-restarts
  options >/dev/null
  grep -qF 'note: _cycle_count = 3: left aside: compute_mode = "burst" has no cycles' "$BATS_TEST_TMPDIR/said"
  isc 'compute_mode = "interruptible"'
  becomes $'--max-restarts=50\n--rapid-cycle=none' only rapid-cycle max-restarts
}

@test "data sets and artifacts are --data; keys that Slurm cannot use are reported" {
  isc 'dataset_id = "a"' 'dataset_id_list = ["b", "c"]' 'input_artifact_id_list = ["d"]' 'isc_project_id = "p"' \
    'burst_shape_priority_list = ["s"]' 'command = "train.py --data /data/a --other /data/ab /data/d/x"'
  becomes $'--data=a\n--data=b\n--data=c\n--data=d' only data
  becomes $'python\ntrain.py\n--data\n${SLURM_TMPDIR}/a\n--other\n/data/ab\n${SLURM_TMPDIR}/d/x' command_words
  options >/dev/null
  [[ $(grep -c '^note: .*: left aside: ' "$BATS_TEST_TMPDIR/said") == 2 ]]
}

@test "a plain command is the program of the kit's torchrun, as words, or run by a shell where it needs one" {
  isc "command = \"train.py --name 'two words' --to \$OUTPUT_PATH\""
  becomes $'bash\n-c\nexec python train.py --name \'two words\' --to $$OUTPUT_PATH' command_words
  isc 'command = "train.py --to $OUTPUT_PATH/${exp_name} \"two words\""' 'compute_mode = "burst"'
  sed -i "s/^command.*/command = 'train.py --to \$OUTPUT_PATH\/\${exp_name} \"two words\"'/" "$file"
  becomes $'python\ntrain.py\n--to\n${OUTPUT_PATH}/${exp_name}\ntwo words' command_words
  isc 'command = "-m package.train --x ~/data"'
  becomes $'bash\n-c\nexec python -m package.train --x ~/data' command_words
  isc 'command = "train.py \"open"'
  sed -i "s/^command.*/command = 'train.py \"open'/" "$file"
  fails_with 2 'command: No closing quotation' submitter --dry-run --isc "$file"
}

@test "other commands are run by bash, once on each node; a line break becomes a blank" {
  local -r run='torchrun --nnodes=$$NNODES'
  isc "command = '''" 'source /e/bin/activate && ' 'torchrun --nnodes=$NNODES ' '--x=1 ' 'lr=2' "train.py'''"
  becomes $'bash\n-c\nsource /e/bin/activate && '"$run --x=1 lr=2 train.py" command_words
  becomes $'--environment=/e\n--which-distributed=node' only environment which-distributed
  isc "command = '''" '. "/e/bin/activate"' 'cd /x' 'torchrun --nnodes=$NNODES train.py' "python after.py'''"
  becomes $'bash\n-c\n. "/e/bin/activate"~cd /x~'"$run train.py~python after.py" command_words
  becomes $'--environment=/e' only environment
  isc "command = '''" "torchrun --nnodes=\$NNODES \\" '  --x train.py' "'''"
  becomes $'bash\n-c\n'"$run   --x train.py" command_words
  isc "command = '''" 'for i in 1 2' 'do' 'python a.py' "done'''"
  becomes $'bash\n-c\nfor i in 1 2~do~python a.py~done' command_words
}

@test "a torchrun that would wait for other nodes or processes is refused" {
  refused 'the command says --nnodes=12, and this job has 2: write --nnodes=\$NNODES$' 'nnodes = 2' 'command = "source x/bin/activate && torchrun --nnodes=12 --nproc-per-node=4 train.py"'
  refused 'says --nproc_per_node=6, and this job has 4: write --nproc_per_node=\$N_PROC$' 'gpus = 8' 'compute_mode = "burst"' 'command = "torchrun --nnodes=2 --nproc_per_node=6 train.py"'
  isc 'gpus = 8' 'command = "torchrun --nnodes=1:2 --nproc-per-node=4 train.py"'
  submitter --dry-run --isc "$file" >/dev/null
}

@test "errors in a file: key, value, line and remedy" {
  refused "file.isc'?: line 2: unknown key experiment_nam: did you mean experiment_name\?$" 'gpus = 1' 'experiment_nam = "x"'
  refused 'unknown key zzz: the keys are experiment_name, command, gpus' 'zzz = 1'
  refused "line 1: gpus = '16' is not a whole number from 1 up: write it like  gpus = 8$" 'gpus = "16"'
  refused 'line 2: gpus = 0 is not a whole number' '' 'gpus = 0'
  refused 'gpus = true is not a whole number' 'gpus = true'
  refused '_cycle_count = -1000 is not' '_cycle_count = -1000'
  refused "dataset_id_list = 'a' is not a list of texts: write it like  dataset_id_list = \[\"…\", \"…\"\]$" 'dataset_id_list = "a"'
  refused "dataset_id_list = \['a', 1\] is not a list" 'dataset_id_list = ["a", 1]'
  refused "experiment_name = '' is not a text" 'experiment_name = ""'
  refused "line 1: compute_mode = 'fast' is none of: cycle, burst, interruptible$" 'compute_mode = "fast"'
  refused 'is not TOML: .*line 1' 'experiment_name = deepseek'
  refused "experiment_name: 'a/b' cannot name a folder" 'experiment_name = "a/b"' 'compute_mode = "burst"'
  printf 'gpus = 1\n' >"$file"
  fails_with 2 'has no command: add  command = "train.py …"$' submitter --isc "$file"
  fails_with 2 'cannot be read: No such file or directory \(--isc\)$' submitter --isc "$project/none.isc"
  printf 'experiment_name = "\xff"\n' >"$file"
  fails_with 2 'is not a text file in UTF-8' submitter --isc "$file"
  fails_with 1 "no python in the environment '/nowhere' of .*file.isc$" submitter --isc <(printf 'venv_path = "/nowhere"\ncommand = "a.py"\n') || {
    isc 'venv_path = "/nowhere"'
    run -1 --separate-stderr submitter --isc "$file"
    [[ $stderr == *"no python in the environment '/nowhere' of "*file.isc ]]
  }
}

@test "options come first, then the file, then the environment and the site; options that contradict the file are refused" {
  isc 'experiment_name = "from file"' 'gpus = 8' 'compute_mode = "burst"' 'dataset_id = "x"'
  mkdir -p -- "$SCRATCH/${project##*/}"/{x,y}
  run -0 --separate-stderr submitter --dry-run --isc "$file" --data y
  [[ $output == *"'--job-name=from file'"*"'--nodes=2'"*"'--gpus-per-node=4'"* && ${#lines[@]} == 1 ]]
  HPC_EXP_NAME=env HPC_RAPID_CYCLE=1x5 run -0 --separate-stderr submitter --dry-run --isc "$file"
  [[ $output == *"'--job-name=from file'"* && ${#lines[@]} == 1 ]]
  HPC_ISC=$file run -0 --separate-stderr submitter --dry-run -e mine --rapid-cycle 1x5 --gpus 2 -p main
  [[ ${#lines[@]} == 2 && ${lines[1]} == *"'--job-name=mine'"*"'--nodes=4'"*"'--gpus-per-node=2'"* ]]
  run -0 --separate-stderr submitter --dry-run --isc "$file" -p big
  [[ $output == *"'--nodes=1'"*"'--gpus-per-node=8'"* ]]
  submit --no-snapshot --isc "$file" --data y
  run tr '\0' '\n' <"$run_directory/data"
  [[ $output == y ]]
  fails_with 2 '^[^ ]*: error: --isc and --configs contradict each other: give one$' submitter --isc "$file" --configs x
  fails_with 2 '--isc and --wandb-sweepid contradict' submitter --isc "$file" -w abc
}

@test "the command runs in the file's folder; --output-path leads to the run, and is not created when the job is refused" {
  mkdir -- "$project/demos"
  file=$project/demos/d.isc
  isc 'command = "train.py $OUTPUT_PATH"' 'compute_mode = "burst"'
  fails_with 2 "the command of .*d.isc'.*: there is no 'train.py' in .*demos'.* \(it is in the project's folder: --chdir 'demos' " submitter --isc "$file"
  touch -- "$project/demos/train.py"
  isc "output_path = '$BATS_TEST_TMPDIR/out put'" 'command = "train.py $OUTPUT_PATH"'
  submit --no-snapshot --isc "$file" --rapid-cycle none
  [[ $(tr '\0' '\n' <"$run_directory/task_1/command") == $'python\ntrain.py\n${OUTPUT_PATH}' ]]
  grep -qxF "fact[working_directory]='demos'" "$run_directory/facts"
  [[ "$BATS_TEST_TMPDIR/out put/${run_directory##*/}" -ef $run_directory ]]
  rm -r -- "$BATS_TEST_TMPDIR/out put"
  printf '#!/bin/sh\nexit 1\n' >"$stub/sbatch"
  run -1 submitter --no-snapshot --no-preflight --isc "$file" --rapid-cycle none
  [[ -z $(ls -- "$BATS_TEST_TMPDIR/out put") ]]
}

@test "a Python before 3.11 reads the file with tomli, or with pip's own copy; without either there is a message" {
  local -r modules=$BATS_TEST_TMPDIR/modules
  isc 'compute_mode = "burst"' 'experiment_name = "read"'
  mkdir -- "$modules"
  printf 'raise ImportError\n' | tee -- "$modules/tomllib.py" >"$modules/tomli.py"
  mkdir -p -- "$modules/pip/_vendor"
  touch -- "$modules/pip/__init__.py" "$modules/pip/_vendor/__init__.py"
  PYTHONPATH=$modules fails_with 1 'python3 is 3[0-9.]* and has no reader of TOML: take 3.11 or later, or install tomli$' submitter --dry-run --isc "$file"
  printf 'from _here import *\n' >"$modules/pip/_vendor/tomli.py"
  printf 'TOMLDecodeError = ValueError\ndef loads(text):\n    return {"command": "train.py", "experiment_name": "vendored"}\n' >"$modules/_here.py"
  PYTHONPATH=$modules run -0 --separate-stderr submitter --dry-run --isc "$file"
  [[ $output == *"'--job-name=vendored'"* ]]
}

@test "train.sh is the short form" {
  isc 'experiment_name = "short"' 'compute_mode = "burst"'
  run -0 --separate-stderr bash "$project/hpc/train.sh" "$file" --dry-run -n 2
  [[ $output == *"'--job-name=short' '--nodes=2'"* ]]
  fails_with 2 'train.sh: error: train.sh FILE.isc' bash "$project/hpc/train.sh"
  fails_with 2 "'--gpus' where the file should be" bash "$project/hpc/train.sh" --gpus 2
}

@test "--interrupt kill: ten seconds to stop at the end of a cycle, or --grace-seconds" {
  run -0 --separate-stderr submitter --dry-run --rapid-cycle 2x30 --interrupt kill
  [[ ${lines[0]} == *"'--time=0-00:07:20'"* ]]
  run -0 --separate-stderr submitter --dry-run --rapid-cycle 2x30 --interrupt kill --grace-seconds 60
  [[ ${lines[0]} == *"'--time=0-00:09:00'"* ]]
}

@test "--environment replaces the one that the command sources; programs of another machine; /data/ID without a container" {
  local -ra command=("command = '''" 'source /opt/venv/bin/activate && ' 'torchrun --nnodes=$NNODES ' '/root/demos/sub/a.py --x /tmp/b.py' "'''")
  mkdir -p -- "$project/sub" "$BATS_TEST_TMPDIR/env/bin" "$SCRATCH/${project##*/}/uds-x"
  ln -s -- "$(command -v python3)" "$BATS_TEST_TMPDIR/env/bin/python"
  touch -- "$project/sub/a.py"
  isc "${command[@]}" 'dataset_id = "uds-x"'
  run -0 --separate-stderr submitter --dry-run --isc "$file" --environment "$BATS_TEST_TMPDIR/env"
  [[ $stderr == *'note: command: source /opt/venv/bin/activate is left out, as --environment is given'* ]]
  [[ $stderr == *'note: command: there is no /root/demos/sub/a.py on this machine: write  $source_dir/sub/a.py'* ]]
  [[ $stderr == *"note: dataset_id = 'uds-x': on each node it is SLURM_TMPDIR/ID; a program that opens /data/ID finds it in a container alone"* ]]
  same_command() {
    python3 "$checkout/hpc/job_submitter/isc.py" "$file" "$project" 4 '' '' "$@" 2>/dev/null | tr '\n\0' '~\n' | sed '1,/^--$/d'
  }
  becomes $'bash\n-c\ntorchrun --nnodes=$$NNODES /root/demos/sub/a.py --x /tmp/b.py' same_command /env
  becomes $'bash\n-c\nsource /opt/venv/bin/activate && torchrun --nnodes=$$NNODES /root/demos/sub/a.py --x /tmp/b.py' same_command ''
  isc 'dataset_id = "uds-x"' 'command = "train.py --data /data/uds-x"'
  run -0 --separate-stderr submitter --dry-run --isc "$file" --environment "$BATS_TEST_TMPDIR/env"
  [[ $stderr != *'container alone'* && $stderr != *'there is no'* ]]
}
