#!/usr/bin/env bats
# Lines as users have them from READMEs and scripts: launchers, shell syntax, programs that do not exist (hpc/lib/launchers.sh,
# hpc/lib/line.sh), from every source of commands.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -g line_module # of line.sh

setup() {
  use_libraries common launchers line
}

# becomes LAUNCHER NODES LINE WANTED   Splits LINE at blanks. WANTED is the remaining command, or ! and the beginning of the refusal.
becomes() {
  local -a words
  local got
  read -ra words <<<"$3"
  line::read "$1" "$2" '' "${words[@]}"
  got=${line_words[*]}
  if [[ -n $line_refusal ]]; then got="!$line_refusal"; fi
  if [[ $got != "$4" && ! ($4 == '!'* && $got == "$4"*) ]]; then
    printf '%s -W %s\n  gives   %s\n  wanted  %s\n' "$3" "$1" "$got" "$4" >&2
    return 1
  fi
}

# all_become LAUNCHER NODES   Checks lines of standard input: LINE -> WANTED
all_become() {
  local line wrong=0
  while IFS= read -r line; do
    becomes "$1" "$2" "${line%% -> *}" "${line#* -> }" || wrong=1
  done
  return "$wrong"
}

@test "a launcher is removed, with its options in each form; the program's words stay" {
  all_become torchrun 2 <<'LINES'
torchrun x.py -> python -u x.py
torchrun --standalone --nproc_per_node=4 x.py 50 10 -> python -u x.py 50 10
torchrun --nnodes 2 --nproc-per-node 4 --rdzv_endpoint=$$h:29500 x.py --nnodes 3 -> python -u x.py --nnodes 3
torchrun --nproc_per_node gpu -m pkg.mod -m other -> python -u -m pkg.mod -m other
torchrun --module --nnodes=1:4 pkg.mod -> python -u -m pkg.mod
torchrun --nproc 4 -- x.py -- a -> python -u x.py -- a
torchrun -t 3 -r3 x.py -> python -u x.py
torchrun --no-python ./run -v -> ./run -v
/opt/e/bin/torchrun --standalone x.py -> python -u x.py
A=1 B=2 torchrun --standalone x.py -> A=1 B=2 python -u x.py
env -u A B=2 nohup torchrun x.py -> env -u A B=2 nohup python -u x.py
uv run torchrun --standalone x.py -> uv run python -u x.py
python -m torch.distributed.run --nnodes=2 x.py a -> python -u x.py a
python3.11 -X dev -u -m torch.distributed.run x.py -> python3.11 -u x.py
python -m torch.distributed.launch --nproc_per_node=2 x.py a -> python -u x.py --local-rank=${LOCAL_RANK} a
python -m torch.distributed.launch --use_env x.py a -> python -u x.py a
accelerate launch x.py -> python -u x.py
accelerate launch --multi_gpu --num_processes 8 -m pkg.mod -> python -u -m pkg.mod
accelerate launch --mixed_precision bf16 x.py -> env ACCELERATE_MIXED_PRECISION=bf16 python -u x.py
accelerate launch --mixed_precision=no x.py -> python -u x.py
deepspeed --num_gpus=2 x.py --deepspeed c.json -> python -u x.py --local_rank=${LOCAL_RANK} --deepspeed c.json
deepspeed --include localhost:0,1 --no_local_rank --module a.b -> python -u -m a.b
srun --nodes=2 -u torchrun --nnodes 2 --node_rank $$X x.py -> python -u x.py
python x.py --launcher torchrun --nnodes 2 -> python x.py --launcher torchrun --nnodes 2
python -m package.torchrun x -> python -m package.torchrun x
accelerate config -> accelerate config
LINES
  all_become srun 2 <<'LINES'
srun python x.py -> python x.py
srun -n4 -N 2 --gpus-per-task 1 --kill-on-bad-exit=1 -l python x.py -n 3 -> python x.py -n 3
torchrun --standalone x.py -> python -u x.py
LINES
  all_become lightning 2 <<<'torchrun --standalone x.py --num_nodes 2 -> python -u x.py --num_nodes 2'
}

@test "a launcher that also sets how to train is refused, and the message has the line to write; so are other launchers" {
  all_become torchrun 2 <<'LINES'
accelerate launch --use_fsdp --num_processes 8 --fsdp_offload_params true x.py a -> !accelerate's --use_fsdp says more than how many processes there are, so accelerate must stay: give -W node, which runs the line once on each node, and write it as  accelerate launch --num_machines ${NNODES} --num_processes {processes} --machine_rank ${NODE_RANK} --main_process_ip ${MASTER_ADDR} --main_process_port ${MASTER_PORT} --use_fsdp --fsdp_offload_params true x.py a
accelerate launch --config_file f.yaml x.py -> !accelerate's --config_file says more
torchrun --run-path x.py -> !torchrun's --run-path says more
deepspeed --autotuning run x.py -> !deepspeed's --autotuning says more
deepspeed --num_gpus 2 -> !deepspeed starts no program
srun python x.py -> !srun starts a process for each task, with Slurm's variables: give -W srun, and the line  python x.py
srun --export=ALL,A=1 python x.py -> !srun's --export=ALL,A=1 has no place in the line
mpirun -np 4 python x.py -> !'mpirun' starts processes itself, as the job does: write the line without it
fabric run --devices 2 x.py -> !'fabric' starts processes itself
nsys profile -o x torchrun x.py -> !nsys starts 'torchrun'
LINES
  line::read torchrun 1 '' bash -c 'cd x && torchrun --standalone x.py'
  [[ $line_refusal == "the script in the line starts 'torchrun'"* ]]
  # These settings of accelerate's configuration would have no effect.
  export HF_HOME=$BATS_TEST_TMPDIR/home
  mkdir -p -- "$HF_HOME/accelerate"
  printf 'distributed_type: MULTI_GPU\nmixed_precision: '"'no'"'\n' >"$HF_HOME/accelerate/default_config.yaml"
  becomes torchrun 1 'accelerate launch x.py' 'python -u x.py'
  printf 'distributed_type: FSDP\n' >"$HF_HOME/accelerate/default_config.yaml"
  becomes torchrun 1 'accelerate launch x.py' "!'$HF_HOME/accelerate/default_config.yaml' says how accelerate trains"
}

@test "-W node keeps the launcher; on several nodes, a launcher that would train on each node alone is refused" {
  local line
  for line in 'torchrun --standalone --nproc_per_node=4 x.py' 'accelerate launch --use_fsdp x.py' 'mpirun -np 2 python x.py' 'srun python x.py'; do
    becomes node 1 "$line" "$line"
  done
  all_become node 2 <<'LINES'
torchrun --standalone --nproc_per_node=4 x.py -> !with -W node torchrun would train on each of the 2 nodes alone: write  torchrun --nnodes=${NNODES} --nproc-per-node=${N_PROC} --node-rank=${NODE_RANK} --master-addr=${MASTER_ADDR} --master-port=${MASTER_PORT} x.py
torchrun --nnodes=${NNODES} x.py -> torchrun --nnodes=${NNODES} x.py
accelerate launch --num_processes 4 x.py -> !with -W node accelerate would train on each
accelerate launch --num_machines 2 --num_processes 4 x.py -> accelerate launch --num_machines 2 --num_processes 4 x.py
deepspeed x.py -> !with -W node deepspeed would train on each
LINES
}

@test "the tables of torchrun and srun equal those of torch and Slurm" {
  local python wanted
  for python in "$checkout"/.venv/*/bin/python; do
    if "$python" -c 'import torch.distributed.run' 2>/dev/null; then break; fi
  done
  wanted=$("$python" -c '
from torch.distributed.run import get_args_parser
for action in get_args_parser()._actions:
    for name in {name.lstrip("-").replace("_", "-") for name in action.option_strings} - {"h", "help"}:
        print("flag" if action.nargs == 0 else "valued", name)' | sort)
  [[ $wanted == *'valued nproc-per-node'* ]]
  # Two options also set how to train, and use-env belongs to torch.distributed.launch.
  diff <(grep -vxE 'flag (run-path|virtual-local-rank)' <<<"$wanted") \
    <(table torchrun | grep -vxF 'flag use-env')
  common::has_command srun || skip 'no srun on this machine'
  printf 'ClusterName=x\nSlurmctldHost=localhost\nNodeName=x\nPartitionName=x Nodes=x\n' >"$BATS_TEST_TMPDIR/slurm.conf"
  # An option takes a value after =, none if it is in brackets or without one. The others also set how to train, or end srun.
  SLURM_CONF=$BATS_TEST_TMPDIR/slurm.conf srun --help 2>&1 | python3 -c '
import re, sys
more = "help h usage version V container multi-prog bcast bcast-exclude compress no-allocate Z send-libs chdir D export het-group input i mpi prolog epilog task-prolog task-epilog"
for short, name, value in re.findall(r"^(?:  -(\w),? +| {6})--([a-z-]+)(\[?=|=?)", sys.stdin.read(), re.MULTILINE):
    for name in filter(None, (short, name)):
        if name not in more.split():
            print("valued" if value == "=" or name == "switches" else "flag", name)
' | sort -u >"$BATS_TEST_TMPDIR/of_slurm"
  (($(wc -l <"$BATS_TEST_TMPDIR/of_slurm") > 100))
  comm -23 "$BATS_TEST_TMPDIR/of_slurm" <(table srun) | diff - /dev/null
}

# table LAUNCHER
table() {
  local -n valued=launchers_valued flags=launchers_flags
  local -a names
  read -rd '' -a names <<<"${valued[$1]}" || true
  printf 'valued %s\n' "${names[@]}" >"$BATS_TEST_TMPDIR/table"
  read -rd '' -a names <<<"${flags[$1]}" || true
  printf 'flag %s\n' "${names[@]}" | sort - "$BATS_TEST_TMPDIR/table"
}

@test "what only a shell can do is refused, and the message says where it belongs" {
  all_become torchrun 1 <<'LINES'
export A=1 -> !'export' is the shell's, and no shell reads the line: put variables into the project's .env
A=1 B=2 -> !'A=1' 'B=2' sets variables and runs nothing: put variables into the project's .env
cd src -> !'cd' is the shell's, and no shell reads the line: give the folder by --chdir src, and the line without it
source /e/bin/activate -> !'source' is the shell's, and no shell reads the line: give the environment by --environment /e,
. ./setup.sh -> !'.' is the shell's, and no shell reads the line: an environment is given by --environment FOLDER
module load cuda -> !'module' is the shell's, and no shell reads the line: name modules in the site's profile
conda activate e -> !'conda' is the shell's, and no shell reads the line: give the environment by --environment
ulimit -n 4096 -> !'ulimit' is the shell's, and no shell reads the line: it belongs into node_setup
for i in 1 2 -> !'for' is the shell's, and no shell reads the line: write the loop into a script
done -> !'done' is the shell's
[[ -e x ]] -> !'[[' is the shell's
exec python x.py -> !'exec' is the shell's, and no shell reads the line: remove this word
trap x EXIT -> !'trap' is the shell's
true -> true
echo done -> echo done
conda run -n e python x.py -> conda run -n e python x.py
A=1 python x.py -> A=1 python x.py
LINES
  line::read torchrun 1 2 cd src '&&' python x.py
  [[ $line_refusal == "'cd' is the shell's"*'--chdir src'* ]]
  line::read torchrun 1 2 python x.py '>log'
  [[ $line_refusal == "'>log' has an operator of the shell, and no shell reads the line: remove it: the kit keeps the output"* ]]
  line::read torchrun 1 1 python 'x.py;' date
  [[ $line_refusal == "'x.py;' has an operator of the shell"*'bash script.sh. In quotes it is text' ]]
}

# program PROJECT FOLDER WORD...   Runs line::check_program on this line.
program() {
  line::read torchrun 1 '' "${@:3}"
  line::check_program torchrun "$1" "$2"
}

@test "a program that is not in the project is refused, Python's options considered, with similar names" {
  local -r project=$BATS_TEST_TMPDIR/"it's a project"
  local line wrong=0
  local -a words
  mkdir -p -- "$project"/{src/pkg,.hidden}
  touch -- "$project"/{main.py,run.sh,src/train_gpt.py,src/pkg/mod.py,.hidden/missing.py}
  while IFS= read -r line; do
    read -ra words <<<"$line"
    program "$project" . "${words[@]}"
    if [[ -n $line_refusal ]]; then echo "$line: $line_refusal" >&2 && wrong=1; fi
  done <<'LINES'
python main.py
python -u -O -X dev -W ignore -Wd main.py x
python -c print(1)
python -m anything
python - x
python --version
python /opt/not_here.py
python ${DIR}/x.py
python3.11 src/train_gpt.py
A=1 env B=2 python main.py
bash run.sh
bash -x missing.sh
./run.sh
missing
torchrun --standalone main.py
LINES
  while IFS= read -r line; do
    read -ra words <<<"$line"
    program "$project" . "${words[@]}"
    if [[ $line_refusal != "there is no 'missing."*"' in ${project@Q}" ]]; then echo "$line: $line_refusal" >&2 && wrong=1; fi
  done <<'LINES'
python missing.py
python -u -X dev missing.py
python -Wignore -OO missing.py main.py
A=1 python missing.py
bash missing.sh
torchrun --standalone missing.py
LINES
  ((wrong == 0))
  program "$project" . python train_gpt.py
  [[ $line_refusal == *"there is no 'train_gpt.py' in ${project@Q}: did you mean  src/train_gpt.py ?" ]]
  program "$project" . python src/trian_gpt.py
  [[ $line_refusal == *': did you mean  src/train_gpt.py ?' ]]
  program "$project" src python train_gpt.py
  [[ -z $line_refusal ]]
  program "$project" src python main.py
  [[ $line_refusal == *"(it is in the project's folder: --chdir 'src' is where the line runs)" ]]
  # Only modules that the project lacks are kept; they are looked for in the environment.
  for line in pkg.mod src.pkg.mod; do
    program "$project" src python -um "$line" x
    [[ $line_module == "$([[ $line == pkg* ]] || echo "$line")" && -z $line_refusal ]]
  done
  printf '#!/bin/bash\n# torchrun x\nA=1 torchrun --nproc_per_node=2 main.py\n' >"$project/run.sh"
  for line in 'bash run.sh' './run.sh'; do
    read -ra words <<<"$line"
    program "$project" . "${words[@]}"
    [[ $line_refusal == "run.sh starts 'torchrun', and would do so in each of the job's processes: give -W node"* ]]
  done
  line::check_program node "$project" .
}

@test "paths that lead out of the project, relative to the folder of the line" {
  line_words=(python x.py ../data --out=../../o a/../b src/../../c https://x/../y /a/../b '${A}/../b' ..)
  [[ $(line::list_outside .) == $'../data\n../../o\nsrc/../../c\n..' ]]
  [[ $(line::list_outside src) == $'../../o\nsrc/../../c' || $(line::list_outside src) == '../../o' ]]
}

# submitting   Makes a project, and a Slurm that accepts every job.
submitting() {
  make_project
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default
  mkdir -- "$SCRATCH"
  touch -- "$project"/{x,train}.py
}

# command_is WORD...   The run's command must be these words.
command_is() {
  diff <(printf '%s\0' "$@" | tr '\0' '\n') <(tr '\0' '\n' <"$run_directory/task_1/command")
}

@test "the configuration file: removed words are reported with the line's number; a refusal leaves nothing" {
  submitting
  experiments '# README' '' 'torchrun --standalone --nproc_per_node=4 x.py 50 "10 1"'
  submit --no-snapshot --gpus 2 2>"$BATS_TEST_TMPDIR/said"
  command_is python -u x.py 50 '10 1'
  grep -qF 'note: line 3: left out, as the job starts the processes itself (--gpus, --num-nodes; -W node keeps it):  torchrun --standalone --nproc_per_node=4  ; what each process runs:  python -u x.py 50 10 1' "$BATS_TEST_TMPDIR/said"
  submit --no-snapshot -W node 2>"$BATS_TEST_TMPDIR/said"
  command_is torchrun --standalone --nproc_per_node=4 x.py 50 '10 1'
  rm -r -- "${SCRATCH:?}"/*
  fails_with 2 'error: line 3: with -W node torchrun would train on each of the 2 nodes alone' submitter -W node --num-nodes 2
  experiments 'python x.py' 'export A=1'
  fails_with 2 "error: line 2: 'export' is the shell's" submitter
  experiments 'cd src && python x.py'
  fails_with 2 "error: line 1: 'cd' is the shell's.*--chdir src" submitter
  experiments 'python missing.py'
  fails_with 2 "error: line 1: there is no 'missing.py' in " submitter --dry-run
  printf 'torchrun --standalone x.py\n' >"$project/run.sh"
  experiments 'bash run.sh'
  fails_with 2 "error: line 1: run.sh starts 'torchrun', and would do so in each" submitter --gpus 2
  run -0 submitter --dry-run # once: as it likes
  experiments 'python x.py > log'
  fails_with 2 "error: line 1: '>' has an operator" submitter
  [[ -z $(ls -- "$SCRATCH") ]]
  # In an array, a message that holds for all lines is printed once.
  experiments 'torchrun --standalone x.py 1' 'torchrun --standalone x.py 2'
  submit --no-snapshot 2>"$BATS_TEST_TMPDIR/said"
  [[ $(grep -c 'left out' "$BATS_TEST_TMPDIR/said") == 1 ]]
  [[ $(tr '\0' ' ' <"$run_directory/task_2/command") == 'python -u x.py 2 ' ]]
}

@test "warnings for paths that lead out of the copy, and for modules that do not exist" {
  submitting
  experiments 'python x.py --data ../data'
  run -0 --separate-stderr submitter --dry-run
  [[ $stderr == *"warning: line 1: '../data' leads out of the project, and the job runs in a copy of it: write  $BATS_TEST_TMPDIR/data"* ]]
  run -0 --separate-stderr submitter --dry-run --no-snapshot
  [[ $stderr != *'leads out'* ]]
  experiments 'python -m no_such_module_anywhere.at_all'
  run -0 --separate-stderr submitter --dry-run
  [[ $stderr == *"warning: line 1: python -m no_such_module_anywhere.at_all: neither the project nor the environment "*" has a module no_such_module_anywhere"* ]]
  experiments 'python -m train' 'python -m json.tool'
  run -0 --separate-stderr submitter --dry-run
  [[ $stderr != *'has a module'* ]]
}

@test "an .isc file's command, and a sweep file's" {
  local file=$BATS_TEST_TMPDIR/f.isc
  submitting
  printf '%s\n' 'gpus = 1' 'compute_mode = "burst"' 'command = "missing.py"' >"$file"
  fails_with 2 "error: the command of .*f.isc'.*: there is no 'missing.py'" submitter --dry-run --isc "$file" || [[ $stderr == *"the command of "*"there is no 'missing.py'"* ]]
  printf '%s\n' 'program: x.py' 'method: grid' 'parameters: {a: {values: [1, 2]}}' 'command: [torchrun, --standalone, "${program}", "${args}"]' >"$project/sweep.yaml"
  submit --no-snapshot --sweep-config "$project/sweep.yaml" --offline 2>"$BATS_TEST_TMPDIR/said" || { cat -- "$BATS_TEST_TMPDIR/said" >&2 && return 1; }
  command_is python -u x.py --a=1
  [[ $(tr '\0' ' ' <"$run_directory/task_2/command") == 'python -u x.py --a=2 ' && $(grep -c 'left out' "$BATS_TEST_TMPDIR/said") == 1 ]]
}

@test "the command that W&B's server gives to the node" {
  export RUN_DIRECTORY=$BATS_TEST_TMPDIR/run STOP_FILE=$BATS_TEST_TMPDIR/run/task_1/attempt_0/stop
  export WANDB_SWEEP_PARAM_PATH=$BATS_TEST_TMPDIR/parameters WANDB_RUN_ID=id
  local -a words
  mkdir -p -- "$RUN_DIRECTORY"/task_1/{agent,attempt_0}
  ln -s -- "$checkout" "$RUN_DIRECTORY/kit"
  printf 'fact[launcher]=torchrun\nfact[nodes]=2\n' >"$RUN_DIRECTORY/facts"
  echo $$ >"$RUN_DIRECTORY/task_1/agent/batch"
  echo 0 >"$RUN_DIRECTORY/task_1/attempt_0/trial_over"
  : >"$WANDB_SWEEP_PARAM_PATH"
  bash "$checkout/hpc/job/sweep_trial.sh" torchrun --standalone --nproc_per_node 2 x.py '--a=$HOME 1'
  run_directory=$RUN_DIRECTORY
  command_is python -u x.py '--a=$$HOME 1'
  # A launcher that cannot be removed is an error in the rank's log.
  bash "$checkout/hpc/job/sweep_trial.sh" accelerate launch --use_fsdp x.py
  use_libraries command
  command::read "$RUN_DIRECTORY/task_1/command" words
  run -2 "${words[@]}"
  [[ $output == "the command of the sweep: accelerate's --use_fsdp says more"*'--num_machines ${NNODES} '* ]]
}
