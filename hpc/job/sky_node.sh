#!/usr/bin/env bash
# sky_node.sh RUN_DIRECTORY DATA_FOLDER
#
# A SkyPilot task runs it on each of its machines (sky_task.py). It does for node.sh what batch.sh and srun do on Slurm,
# so all launchers work in the same way. At the end it copies what the program has left in OUTPUT_PATH to CHECKPOINT_URL.
# Exit status: the program's; 75 if it has saved and continues later, which makes SkyPilot start the task again on
# another machine.
set -euo pipefail
shopt -s inherit_errexit

run_directory=$1 data=$2
kit=$run_directory/source # the machine has only the sources, not hpc_outputs/.kits
source "$kit/hpc/lib/common.sh"
source "$kit/hpc/lib/run_directory.sh"
source "$kit/venv/environment.sh"
# shellcheck source=/dev/null
source "$run_directory/facts"

main() {
  local status=0
  sky_node::adapt_facts
  sky_node::export_place
  output_url=${CHECKPOINT_URL:-}
  # With several machines, the folder of checkpoints is the bucket itself.
  if ((fact[nodes] > 1)); then unset CHECKPOINT_URL; fi
  bash "$kit/hpc/job/node.sh" "$run_directory" "$attempt_directory" || status=$?
  if [[ -r $attempt_directory/failed_rank ]]; then read -r _ _ status <"$attempt_directory/failed_rank"; fi
  sky_node::keep_output
  exit "$status"
}

# Sets folders of this machine.
sky_node::adapt_facts() {
  fact[source_dir]=$kit fact[project_directory]=$kit
  fact[run_directory]=$run_directory
  fact[scratch_dir]=$run_directory/scratch
  fact[checkpoint_directory]=$run_directory/checkpoints
  fact[environment]=$(environment::find "$kit") ||
    common::die "no environment in ${kit@Q}: the task's setup makes it"
  mkdir -p -- "${fact[scratch_dir]}" "$data"
  ln -sfn -- source "$run_directory/kit"
  run_directory::write_facts "$run_directory"
}

# Sets what node.sh gets from Slurm and batch.sh. The machines belong to the job, so any port is free.
sky_node::export_place() {
  local -a addresses
  mapfile -t addresses <<<"${SKYPILOT_NODE_IPS:?}"
  ((${#addresses[@]} == fact[nodes])) ||
    common::die "SkyPilot gave ${#addresses[@]} machines (${addresses[*]}); the run asked for ${fact[nodes]}"
  export MASTER_ADDR=${addresses[0]} MASTER_PORT=29400 SLURM_TMPDIR=$data
  export SLURM_NODEID=${SKYPILOT_NODE_RANK:?} SLURM_PROCID=$SKYPILOT_NODE_RANK SLURM_LOCALID=0
  export SLURM_STEP_NUM_TASKS=${fact[nodes]}
  export ATTEMPT=0
  while [[ -d $run_directory/task_1/attempt_$ATTEMPT ]]; do ATTEMPT=$((ATTEMPT + 1)); done
  attempt_directory=$run_directory/task_1/attempt_$ATTEMPT
  mkdir -p -- "$attempt_directory" "$run_directory/task_1/output"
}

# The machine's disk is deleted with the machine.
sky_node::keep_output() {
  if [[ -z $output_url || -z $(find "$run_directory/task_1/output" ! -type d -print -quit) ]]; then return; fi
  "${fact[environment]}/bin/python" -c '
import sys
from fsspec.core import url_to_fs
folder, url = sys.argv[1:]
files, path = url_to_fs(url)
files.makedirs(path, exist_ok=True)
files.put(folder + "/", path + "/", recursive=True)
' "$run_directory/task_1/output" "${output_url%/}/${fact[project_name]}/${fact[exp_name]}/output/node_$SLURM_NODEID" ||
    common::warn "OUTPUT_PATH could not be copied to $output_url"
}

main
