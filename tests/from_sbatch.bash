# shellcheck shell=bash disable=SC2034 # the tests use the variables
# Helpers for the scripts of tests/sbatch_scripts/, for unit/from_sbatch.bats and cluster/from_sbatch.bats. Needs helpers.bash.

from_sbatch_scripts=${BASH_SOURCE[0]%/*}/sbatch_scripts
from_sbatch_golden=${BASH_SOURCE[0]%/*}/golden/from_sbatch # _said, _cases and _differences.txt

# from_sbatch::project FOLDER   Makes a project in FOLDER with the files that the scripts name.
from_sbatch::project() {
  local file
  mkdir -p -- "$1"
  for file in pytorch_ddp.py train.py main.py fsdp.py ddp_rocm.py mnist_classify_ddp.py nlp/complete_example.py src/sft.py run_train.py \
    open_clip/src/open_clip_train/main.py torch-distributed-gpu-test.py pretrain_gpt.py script_mn.py multinode_olcf.py \
    project1/train_bmi.py train_mpi.py multinode_torchrun.py my_program.py plot_results.py prepare_data.py eval.py pipeline/train.py \
    download.py torchtitan/train.py; do
    mkdir -p -- "$1/$(dirname -- "$file")"
    : >"$1/$file"
  done
  mkdir -p -- "$1/configs" "$1/images"
  printf '%s\n' '--lr 0.1 --wd 0' '--lr 0.2 --wd 0' '--lr 0.1 --wd 1e-4' >"$1/configs/all.txt"
  printf '%s\n' 'export RANK=$SLURM_PROCID' 'export WORLD_SIZE=$SLURM_NTASKS' >"$1/export_ddp_vars.sh"
  printf '%s\n' 'conda activate /opt/envs/acc' 'export NCCL_IB_DISABLE=0' >"$1/activate_environment.sh"
  printf '%s\n' 'from lightning import Trainer' 'Trainer(num_nodes=2, devices=8)' >"$1/lit_train.py"
  for file in pytorch_24.sif images/lumi-pytorch.sif images/cuda12.1.sif; do make_sif "$1/$file"; done
}
