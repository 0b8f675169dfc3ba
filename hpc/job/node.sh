#!/usr/bin/env bash
# node.sh RUN_DIRECTORY ATTEMPT_DIRECTORY [COMMAND...]
#
# Started by batch.sh through srun, once for each task of the step: on each node for torchrun, which
# starts the node's ranks itself, and for each rank with the other launchers. Sets up the node as its
# site needs, gives the program its environment, and becomes the launcher, inside the environment; or COMMAND, which
# batch.sh runs beside the ranks (lib/sweep.sh), outside of any step.
set -euo pipefail
shopt -s inherit_errexit

run_directory=$1 attempt_directory=$2 command=("${@:3}")
declare -A fact
# shellcheck source=/dev/null
source "$run_directory/facts"
kit=$run_directory/kit
source "$kit/hpc/lib/common.sh"
source "$kit/hpc/lib/site.sh"
source "$kit/hpc/job/lib/step.sh"
source "$kit/hpc/job/lib/node_setup.sh"
source "$kit/hpc/job/lib/local_disk.sh"
source "$kit/hpc/lib/dotenv.sh"
source "$kit/hpc/lib/secrets.sh"
source "$kit/hpc/lib/node_environment.sh"
source "$kit/hpc/job/lib/address.sh"
source "$kit/hpc/job/lib/usage.sh"
source "$kit/hpc/job/lib/meeting.sh"

main() {
  if ((${#command[@]} == 0)); then
    step::note_begin "$attempt_directory" begun
    node::check_step
  fi
  unset SLURM_OVERLAP # of batch.sh's srun, not of those that the program may call
  node::raise_limit
  node_setup::run "$kit/hpc" "$run_directory"
  if ((${#command[@]} == 0)); then
    usage::start "$kit" "$attempt_directory" # by the site's python3
    meeting::watch "$kit" "$attempt_directory"
  fi
  local_disk::choose || true
  if [[ -n ${fact[here]:-} ]]; then local_disk::make; fi
  local_disk::hold
  node_environment::export "$run_directory" "$attempt_directory"
  secrets::export "${fact[project_directory]}"
  address::export
  node_environment::make_url_own "${attempt_directory%/*}"
  node_environment::export_task "${attempt_directory%/*}"
  node_environment::export_caches "${attempt_directory%/*}"
  cd -- "${fact[source_dir]}" || common::die "no project at ${fact[source_dir]@Q} on $(common::node): must it lie on the shared file system?"
  cd -- "${fact[working_directory]}" || common::die "--chdir ${fact[working_directory]@Q}: no such folder on $(common::node)"

  if ((${#command[@]} == 0)); then
    local -a launcher=()
    if [[ ${fact[launcher]} == torchrun ]]; then node::choose_torchrun; fi
    command=("${launcher[@]}" bash "$kit/hpc/job/rank.sh" "$kit" "$attempt_directory")
  fi
  local inside=$kit/venv/run.sh
  if [[ -n ${fact[container]} ]]; then
    export CONTAINER_IMAGE=${fact[container]}
    # The copy on this node's own disk, if keep_node.sh has made one.
    if [[ -r $SLURM_TMPDIR/.hpc_kit/container_image ]]; then CONTAINER_IMAGE=$(<"$SLURM_TMPDIR/.hpc_kit/container_image"); fi
    inside=$kit/singularity/run.sh
  fi
  exec bash "$inside" "${command[@]}"
}

# Twice the processes, or half, is a job that trains wrongly and says nothing. What Slurm gave is compared
# with what was asked for; nothing is derived from it again.
node::check_step() {
  local -r expected=$((fact[nodes] * fact[tasks_per_node]))
  ((${SLURM_STEP_NUM_TASKS:?} == expected)) ||
    common::die "the step has $SLURM_STEP_NUM_TASKS tasks; ${fact[launcher]} needs $expected"
  local -r shown=${CUDA_VISIBLE_DEVICES:-${ROCR_VISIBLE_DEVICES:-${HIP_VISIBLE_DEVICES:-}}}
  if ((fact[gpus] > 0)) && [[ -n $shown ]]; then
    local -a devices
    IFS=, read -ra devices <<<"$shown"
    # Some sites show each rank that Slurm starts its own GPU alone.
    if ((${#devices[@]} == 1 && fact[tasks_per_node] == fact[gpus] && ${SLURM_GPUS_ON_NODE:-0} == fact[gpus])); then return; fi
    ((${#devices[@]} == fact[gpus])) ||
      common::die "$(common::node) shows ${#devices[@]} GPUs ($shown); the run asked for ${fact[gpus]}"
  fi
}

# Loaders of many processes open many files, and the soft limit is often 1024: a program may raise it up to the hard one. (Some
# programs close all that they may have open: not more than 65536.)
node::raise_limit() {
  local soft hard
  soft=$(ulimit -S -n)
  hard=$(ulimit -H -n)
  if [[ $hard == unlimited ]] || ((hard > 65536)); then hard=65536; fi
  if [[ $soft != unlimited ]] && ((soft < hard)); then ulimit -S -n "$hard"; fi
}

# One node needs no agreed port: torchrun takes a free one, at the loopback address, as the node's own name may stand for
# none (--standalone asks for it). On several, the static rendezvous holds to the address, the port and the node ranks that are
# decided already, where c10d would choose its own. What srun has told this process of MPI is not true of the ranks.
node::choose_torchrun() {
  # It would die at the signal at which ranks show their stacks (interruption.sh), and with it Slurm's step, before they
  # are written. Python's faulthandler in the ranks does not mind that it is ignored.
  trap '' ABRT
  unset "${!PMI@}"
  # Its own folder it never removes: so not in /tmp.
  launcher=(python "$kit/hpc/job/torchrun.py" --nproc-per-node="${fact[processes_per_node]}" --max-restarts=0 --log-dir="$SLURM_TMPDIR/torchrun" --no-python)
  if ((NNODES == 1)); then
    launcher+=(--nnodes=1 --rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:0 --local-addr=127.0.0.1)
  else
    launcher+=(--nnodes="$NNODES" --node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT")
  fi
}

main
