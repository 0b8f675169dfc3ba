# shellcheck shell=bash
# Sets the environment that the kit gives to the user's program. hpc/job/README.md has the same list.

declare -gA fact+=()

declare -ga node_environment_names=(source_dir project_name scratch_dir exp_name RUN_DIRECTORY
  CHECKPOINT_DIRECTORY CHECKPOINT_ARTIFACT_PATH LOSSY_ARTIFACT_PATH OUTPUT_PATH STOP_FILE HEARTBEAT_FILE ATTEMPT MASTER_ADDR
  MASTER_PORT NNODES NODE_RANK NODE_ADDRESS N_PROC N_PROCESSES RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE
  VIRTUAL_ENV_DIRECTORY RANK_RECORD SEED WANDB_RUN_ID WANDB_SWEEP_ID WANDB_SWEEP_PARAM_PATH WANDB_RESUME)

# node_environment::leave   Unsets what the kit has set for a job's program. Needed when a program submits another job from inside a job.
node_environment::leave() {
  if [[ -n ${RUN_DIRECTORY:-} ]]; then unset OMP_NUM_THREADS "${node_environment_names[@]}"; fi
}

# node_environment::export RUN_DIRECTORY ATTEMPT_DIRECTORY   Exports the variables for one node. batch.sh sets ATTEMPT, MASTER_ADDR and
# MASTER_PORT; torchrun sets RANK and the like, and for the other launchers they come from Slurm.
node_environment::export() {
  export source_dir=${fact[source_dir]} project_name=${fact[project_name]}
  export scratch_dir=${fact[scratch_dir]} exp_name=${fact[exp_name]}
  local -r task_directory=${2%/*}
  export RUN_DIRECTORY=$1 OUTPUT_PATH=$task_directory/output STOP_FILE=$2/stop HEARTBEAT_FILE=$2/heartbeat
  CHECKPOINT_DIRECTORY=$(node_environment::checkpoint_directory "$task_directory")
  export CHECKPOINT_DIRECTORY
  mkdir -p -- "$CHECKPOINT_DIRECTORY"
  export CHECKPOINT_ARTIFACT_PATH=$CHECKPOINT_DIRECTORY LOSSY_ARTIFACT_PATH=$OUTPUT_PATH
  export NNODES=${fact[nodes]} NODE_RANK=${SLURM_NODEID:?} N_PROC=${fact[processes_per_node]} N_PROCESSES=$((fact[nodes] * fact[processes_per_node]))
  # SIGABRT ends a program that hangs; Python then prints its stacks.
  export PYTHONFAULTHANDLER=${PYTHONFAULTHANDLER:-1}
  export VIRTUAL_ENV_DIRECTORY=${fact[environment]}
  if [[ -n ${fact[stage_venv]} ]]; then VIRTUAL_ENV_DIRECTORY=$SLURM_TMPDIR/.hpc_kit/environment; fi
  if [[ ${fact[launcher]} != torchrun ]]; then
    export RANK=${SLURM_PROCID:?} LOCAL_RANK=${SLURM_LOCALID:?} WORLD_SIZE=$((NNODES * fact[tasks_per_node])) LOCAL_WORLD_SIZE=${fact[tasks_per_node]}
  fi
  # One thread for each core: a process that starts a thread for every core of the node slows all the others. A pocket cluster
  # has fewer cores than Slurm was told, and all nodes of the job share them.
  local -i cores=$((fact[cpus] / fact[tasks_per_node])) machine
  machine=$(nproc)
  if [[ -n ${POCKET_CLUSTER_JOB:-} ]]; then machine=$((machine / (NNODES * fact[tasks_per_node]))); fi
  if ((machine < cores)); then cores=machine; fi
  local -r threads=$((cores * fact[tasks_per_node] / fact[processes_per_node]))
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
}

# node_environment::checkpoint_directory TASK_DIRECTORY
node_environment::checkpoint_directory() {
  printf '%s%s\n' "${fact[checkpoint_directory]}" "$(node_environment::own_folder "$1")"
}

# node_environment::own_folder TASK_DIRECTORY   Prints the folder that one of several tasks has, below the folder of the experiment.
node_environment::own_folder() {
  if ((fact[tasks] > 1)) || [[ -n ${fact[repeats]}${fact[sweep]}${fact[sweep_config]} ]]; then printf '/%s\n' "$(node_environment::task_id "${1%/*}" "${1##*/task_}")"; fi
}

# node_environment::task_id RUN_DIRECTORY TASK   See tasks.sh.
node_environment::task_id() {
  awk -F '\t' -v task="$2" '$1 == task { print $2; exit }' "$1/tasks"
}

# node_environment::has_no_checkpoint TASK_DIRECTORY
node_environment::has_no_checkpoint() {
  [[ -z $(find "$(node_environment::checkpoint_directory "$1")" ! -type d -print -quit 2>/dev/null) ]]
}

# node_environment::make_url_own TASK_DIRECTORY   Two experiments, or two tasks of an array, never share checkpoints, also in a
# bucket.
node_environment::make_url_own() {
  if [[ -z ${CHECKPOINT_URL:-} ]]; then return; fi
  export CHECKPOINT_URL=${CHECKPOINT_URL%/}/${fact[project_name]}/${fact[exp_name]}
  CHECKPOINT_URL+=$(node_environment::own_folder "$1")
}

# node_environment::export_caches TASK_DIRECTORY   Moves caches that programs keep in the home by default: a compute node may be unable
# to write there, and a shared file system is slow at the locks that the programs take. The caches go to the job's folder on the node's
# own disk. All ranks of the node share them, because each of these programs locks or renames what it writes. Artifacts that W&B may
# upload after the job stay with the task.
node_environment::export_caches() {
  local -r folder=$SLURM_TMPDIR/.hpc_kit/cache
  local name
  local -a missing=()
  export WANDB_DATA_DIR=${WANDB_DATA_DIR:-$1/wandb_data}
  for name in WANDB_CACHE_DIR TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR TORCH_EXTENSIONS_DIR CUDA_CACHE_PATH \
    MIOPEN_USER_DB_PATH MIOPEN_CUSTOM_CACHE_DIR MPLCONFIGDIR; do
    if [[ -z ${!name:-} ]]; then missing+=("$name"); fi
  done
  mkdir -p -- "${missing[@]/#/"$folder/"}" 2>/dev/null || return 0
  for name in "${missing[@]}"; do export "$name=$folder/$name"; done
}

# node_environment::export_task TASK_DIRECTORY   Exports what only this task has: its environment file (words NAME=VALUE that end in
# NUL), the parameters of its point of a sweep, and a folder for W&B.
node_environment::export_task() {
  local word
  # A job that another job submits inherits that job's folder.
  if [[ -z ${WANDB_DIR:-} || $WANDB_DIR == */hpc_outputs/*/task_* ]]; then export WANDB_DIR=$1; fi
  if [[ -n ${fact[offline]} && ${WANDB_MODE:-} != disabled ]]; then export WANDB_MODE=offline; fi
  if [[ -e $1/parameters.yaml ]]; then export WANDB_SWEEP_PARAM_PATH=$1/parameters.yaml; fi
  if [[ ! -e $1/environment ]]; then return; fi
  while LC_ALL=C IFS= read -r -d '' word; do export "${word?}"; done <"$1/environment"
}
