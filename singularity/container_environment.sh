# shellcheck shell=bash
# The variables that a container gets from the environment outside: only these. Each is passed in the environment of the
# runtime, never on its command line, which every user of the node can read. singularity/README.md has the same list.

declare -gA fact+=()
declare -ga node_environment_names+=()

declare -g container_environment_beginnings='SLURM_|SLURMD_|PMI_|PMIX_|CUDA_|CUBLAS_|CUDNN_|NVIDIA_|NCCL_|HIP_|ROCR_|HSA_|RCCL_|MIOPEN_|GLOO_|UCX_|FI_|OMP_|MKL_|KMP_|OPENBLAS_|TORCH|PYTORCH_|TRITON_|WANDB_|HF_|TRANSFORMERS_|TOKENIZERS_|PL_'
declare -g container_environment_names='USER|LOGNAME|TZ|PYTHONFAULTHANDLER|CHECKPOINT_URL|SPOT_NOTICES|GPU_DEVICE_ORDINAL|SEED|MPLCONFIGDIR'
# The container has its own values for these; and a program must not get a token for Slurm's controller.
declare -g container_environment_never='PATH|HOME|PWD|LD_LIBRARY_PATH|LD_PRELOAD|SLURM_JWT|VIRTUAL_ENV_DIRECTORY'

# container_environment::export RUNTIME
container_environment::export() {
  local name
  local -A passed=()
  for name in "${node_environment_names[@]}"; do passed[$name]=1; done
  while IFS= read -r name; do
    if [[ $name =~ ^(($container_environment_beginnings).*|$container_environment_names)$ ]]; then passed[$name]=1; fi
  done < <(compgen -e)
  dotenv::each "${fact[project_directory]}/.env" container_environment::take 2>/dev/null

  if [[ -n ${RUN_DIRECTORY:-} ]]; then export source_dir=/code; fi
  # Values are text: escape `$`, so that the container's shell does not expand it.
  export APPTAINER_NO_EVAL=1 SINGULARITY_NO_EVAL=1
  for name in "${!passed[@]}"; do
    if [[ -z ${!name+set} || $name =~ ^($container_environment_never)$ ]]; then continue; fi
    export "APPTAINERENV_$name=${!name}"
    # The program singularity may be Apptainer, which reads both names.
    if [[ $1 == singularity ]]; then export "SINGULARITYENV_$name=${!name}"; fi
  done
}

container_environment::take() {
  passed[$1]=1
}
