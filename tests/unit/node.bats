#!/usr/bin/env bats
# One task of the ranks' step: hpc/job/node.sh sets the program's environment and becomes the launcher.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  run_directory=$BATS_TEST_TMPDIR/'a "run", ü' task=$run_directory/task_1
  mkdir -p -- "$task/attempt_0" "$BATS_TEST_TMPDIR"/{environment/bin,disk,home}
  ln -s -- "$checkout" "$run_directory/kit"
  declare -gA fact=([site]=default [launcher]=torchrun [nodes]=1 [tasks_per_node]=1 [processes_per_node]=2 [gpus]=2 [cpus]=2
    [source_dir]=$run_directory [project_directory]=$run_directory [working_directory]=. [environment]=$BATS_TEST_TMPDIR/environment
    [checkpoint_directory]=$BATS_TEST_TMPDIR/checkpoints [scratch_dir]=$BATS_TEST_TMPDIR [project_name]=p [exp_name]=e [tasks]=1)
  # Records the launcher's words, each ended by a NUL, and its environment.
  printf '#!/bin/sh\nprintf "%%s\\0" "$@" >"%s/argv"\nenv -0 >"%s/environ"\nulimit -S -n >"%s/files"\nulimit -S -c >"%s/core"\n' \
    "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR" >"$BATS_TEST_TMPDIR/environment/bin/python"
  chmod +x -- "$BATS_TEST_TMPDIR/environment/bin/python"
  export HOME=$BATS_TEST_TMPDIR/home SLURM_TMPDIR=$BATS_TEST_TMPDIR/disk SLURM_JOB_ID=1 SLURMD_NODENAME=node1 HPC_USAGE_SECONDS=60
  export SLURM_STEP_NUM_TASKS=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 ATTEMPT=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=12345
  unset CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES WANDB_DIR WANDB_DATA_DIR GLOO_SOCKET_IFNAME
  unset WANDB_CACHE_DIR TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR TORCH_EXTENSIONS_DIR CUDA_CACHE_PATH MPLCONFIGDIR
}

# node   Runs it with the facts in `fact`.
node() {
  local name
  for name in "${!fact[@]}" stage_venv repeats sweep sweep_config offline modules container node_local_directory; do
    printf 'fact[%s]=%q\n' "$name" "${fact[$name]:-}"
  done >"$run_directory/facts"
  bash "$checkout/hpc/job/node.sh" "$run_directory" "$task/attempt_0" 3>&- 4>&-
}

# launcher_has WORD...   The launcher must have got each of these words.
launcher_has() {
  local word
  for word in "$@"; do grep -zqxF -e "$word" "$BATS_TEST_TMPDIR/argv"; done
}

# variable NAME   Prints the launcher's value; nothing if it is not set.
variable() {
  local line
  while IFS= read -r -d '' line; do
    if [[ $line == "$1="* ]]; then printf '%s\n' "${line#*=}"; fi
  done <"$BATS_TEST_TMPDIR/environ"
}

@test "torchrun on one node uses the loopback address, whatever the node's own name resolves to" {
  node
  launcher_has --nnodes=1 --rdzv-endpoint=127.0.0.1:0 --local-addr=127.0.0.1
  [[ -z $(variable GLOO_SOCKET_IFNAME) ]]
}

@test "on several nodes torchrun uses the chosen address, and gloo the interface to it" {
  fact[nodes]=2
  SLURM_STEP_NUM_TASKS=2 node
  launcher_has --nnodes=2 --node-rank=0 --master-addr=127.0.0.1 --master-port=12345
  [[ $(variable GLOO_SOCKET_IFNAME) == lo && $(variable NCCL_SOCKET_IFNAME) == lo ]]
  printf 'GLOO_SOCKET_IFNAME=ib7\n' >"$run_directory/.env"
  SLURM_STEP_NUM_TASKS=2 node
  [[ $(variable GLOO_SOCKET_IFNAME) == ib7 ]]
}

@test "torchrun's ranks do not get the MPI variables of the node's srun task; Slurm's own ranks keep them" {
  export PMI_RANK=1 PMI_SIZE=2 PMIX_RANK=1 PMI2_X=1
  node
  run ! grep -zq '^PMI' "$BATS_TEST_TMPDIR/environ"
  fact[launcher]=srun fact[processes_per_node]=1 fact[gpus]=1
  printf 'env\0' >"$task/command"
  run -0 node
  [[ $output == *$'\n'PMIX_RANK=1* ]]
}

@test "srun's own settings affect only the kit's srun" {
  SLURM_OVERLAP=1 node
  [[ -z $(variable SLURM_OVERLAP) ]]
}

@test "caches are on the node's own disk, unless the user has set another place; the home is not read" {
  local name
  printf 'TRITON_CACHE_DIR=/somewhere\n' >"$run_directory/.env"
  rmdir -- "$HOME"
  : >"$HOME" # nobody can read or write below it
  node
  for name in WANDB_CACHE_DIR TORCHINDUCTOR_CACHE_DIR TORCH_EXTENSIONS_DIR CUDA_CACHE_PATH MPLCONFIGDIR MIOPEN_USER_DB_PATH; do
    [[ $(variable "$name") == "$SLURM_TMPDIR/.hpc_kit/cache/"* && -d $(variable "$name") ]]
  done
  [[ $(variable TRITON_CACHE_DIR) == /somewhere ]]
  # Files that W&B sends after the job.
  [[ $(variable WANDB_DATA_DIR) == "$task/"* ]]
  unset HOME
  node
}

@test "the soft limit of open files is raised to the hard one, up to the number that programs close one by one" {
  local -ri hard=$(ulimit -H -n)
  (ulimit -S -n 64 && node)
  [[ $(<"$BATS_TEST_TMPDIR/files") == $((hard > 65536 ? 65536 : hard)) ]]
  (ulimit -n 512 && ulimit -S -n 64 && node)
  [[ $(<"$BATS_TEST_TMPDIR/files") == 512 ]]
}

@test "no core files, unless node_setup of the profile wants them" {
  (ulimit -S -c hard && node)
  [[ $(<"$BATS_TEST_TMPDIR/core") == 0 ]]
  printf 'node_setup() { ulimit -S -c hard; }\n' >"$run_directory/profile.sh"
  node
  [[ $(<"$BATS_TEST_TMPDIR/core") == $(ulimit -H -c) ]]
}

@test "GPUs are counted with whichever variable shows them; a rank that sees only its own is correct" {
  CUDA_VISIBLE_DEVICES=0,1 node
  ROCR_VISIBLE_DEVICES=0,1 node
  ROCR_VISIBLE_DEVICES=0 fails_with 1 'error: node1 shows 1 GPUs \(0\); the run asked for 2' node
  fact[launcher]=srun fact[tasks_per_node]=2
  printf 'true\0' >"$task/command"
  export SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1 SLURM_LOCALID=1
  CUDA_VISIBLE_DEVICES=1 fails_with 1 'error: node1 shows 1 GPUs' node
  CUDA_VISIBLE_DEVICES=1 SLURM_GPUS_ON_NODE=2 node
}

@test "a variable that jobs have on the node may name its own disk" {
  unset SLURM_TMPDIR
  fact[node_local_directory]='$DISK_OF_THE_JOB'
  fails_with 1 'error: the profile default has node_local_directory=.DISK_OF_THE_JOB, and DISK_OF_THE_JOB is not set on node1' node
  DISK_OF_THE_JOB=$BATS_TEST_TMPDIR/disk node
  [[ $(variable SLURM_TMPDIR) == "$BATS_TEST_TMPDIR/disk/$(id -un)_1_0" ]]
}

@test "threads: one for each core of a process; on a pocket cluster all processes of the job share this machine" {
  printf '#!/bin/sh\necho 8\n' >"$BATS_TEST_TMPDIR/nproc" && chmod +x -- "$BATS_TEST_TMPDIR/nproc"
  PATH=$BATS_TEST_TMPDIR:$PATH
  fact[cpus]=16
  node
  [[ $(variable OMP_NUM_THREADS) == 4 ]] # two processes, eight cores
  fact[nodes]=2
  POCKET_CLUSTER_JOB=/x SLURM_STEP_NUM_TASKS=2 node
  [[ $(variable OMP_NUM_THREADS) == 2 ]]
  fact[nodes]=16
  POCKET_CLUSTER_JOB=/x SLURM_STEP_NUM_TASKS=16 node
  [[ $(variable OMP_NUM_THREADS) == 1 ]]
}

@test "torchrun starts faster: a part of torch is imported only when it is used, or at once where that is impossible" {
  local -r torch=$BATS_TEST_TMPDIR/torch torchrun=(python3 "$checkout/hpc/job/torchrun.py" --nnodes=1 'a "b"')
  mkdir -p -- "$torch/distributed/elastic/utils"
  echo 'class DistNetworkError(Exception): pass' >"$torch/distributed/__init__.py"
  printf '%s\n' 'import os' 'from torch.distributed import DistNetworkError' 'def barrier(error):' ' os.write(2, b"frames\n")' ' if error: raise error' \
    >"$torch/distributed/elastic/utils/store.py"
  echo 'print("registered"); name = 1' >"$torch/_meta_registrations.py"
  mkdir -- "$torch/export"
  echo 'print("exports")' >"$torch/export/__init__.py"
  echo 'name = 2' >"$torch/export/part.py"
  printf '%s\n' 'import inspect, os, sys' 'from torch import _meta_registrations' 'inspect.getmodule(os)' \
    'if os.environ["NEEDS"] == "name": print(_meta_registrations.name)' \
    'if os.environ["NEEDS"] == "part": from torch.export.part import name; print(name)' \
    'if os.environ["NEEDS"] == "file": print(os.path.basename(_meta_registrations.__file__))' >"$torch/__init__.py"
  printf '%s\n' 'import gc, os, sys' 'def main(): print(*sys.argv[1:], gc.isenabled(), sys.path[0] == os.getcwd(), __name__)' \
    'if __name__ == "__main__": main()' >"$torch/distributed/run.py"
  cd -- "$BATS_TEST_TMPDIR"
  export NEEDS=''
  run -0 "${torchrun[@]}"
  [[ $output == '--nnodes=1 a "b" True True torch.distributed.run' ]]
  export NEEDS=name
  run -0 "${torchrun[@]}"
  [[ $output == $'registered\n1\n--nnodes=1 a "b" True True torch.distributed.run' ]]
  export NEEDS=part
  run -0 "${torchrun[@]}"
  [[ $output == $'exports\n2\n--nnodes=1 a "b" True True torch.distributed.run' ]]
  export NEEDS='file'
  run -0 "${torchrun[@]}"
  [[ $output == $'registered\n_meta_registrations.py\n--nnodes=1 a "b" True True __main__' ]]
  # The end: silent only if the connection to the store is lost; with other errors, and without one, nothing is left out.
  printf '%s\n' 'import logging' 'from torch.distributed.elastic.utils import store' 'def main():' \
    ' for error in None, store.DistNetworkError("lost"), ValueError("odd"):' '  print(error, flush=True)' '  try: store.barrier(error)' \
    '  except ValueError: logging.exception("waiting")' 'if __name__ == "__main__": main()' >"$torch/distributed/run.py"
  export NEEDS=''
  run -0 "${torchrun[@]}"
  [[ $output == $'None\nframes\nlost\nodd\nframes\nERROR:root:waiting\nTraceback (most recent call last):\n'*$'\nValueError: odd' ]]
  rm -r -- "$torch"
  run -1 "${torchrun[@]}"
  [[ $output == *"No module named 'torch'"* || $output == *'ModuleNotFoundError'* ]]
}
