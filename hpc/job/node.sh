#!/usr/bin/env bash
# node.sh RUN_DIRECTORY ATTEMPT_DIRECTORY [COMMAND...]
#
# batch.sh starts it through srun, once for each task of the step: once on each node for torchrun, which starts
# the node's ranks itself, and once for each rank with the other launchers. It sets up the node as the site needs, sets the
# program's environment, and becomes the launcher, inside the environment. With COMMAND it becomes COMMAND instead:
# batch.sh uses that to run a command beside the ranks (lib/sweep.sh), outside any step.
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
  unset SLURM_OVERLAP # set for batch.sh's srun, not for those that the program may call
  node::set_limits
  node_setup::run "$kit/hpc" "$run_directory"
  if ((${#command[@]} == 0)); then
    usage::start "$kit" "$attempt_directory" # uses the site's python3
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
    # Use the copy on this node's own disk if keep_node.sh has made one.
    if [[ -r $SLURM_TMPDIR/.hpc_kit/container_image ]]; then CONTAINER_IMAGE=$(<"$SLURM_TMPDIR/.hpc_kit/container_image"); fi
    inside=$kit/singularity/run.sh
  fi
  exec bash "$inside" "${command[@]}"
}

# With twice or half the processes a job would train wrongly without an error. So compare what Slurm gave with the
# request; nothing is derived from it again.
node::check_step() {
  local -r expected=$((fact[nodes] * fact[tasks_per_node]))
  ((${SLURM_STEP_NUM_TASKS:?} == expected)) ||
    common::die "the step has $SLURM_STEP_NUM_TASKS tasks; ${fact[launcher]} needs $expected"
  local -r shown=${CUDA_VISIBLE_DEVICES:-${ROCR_VISIBLE_DEVICES:-${HIP_VISIBLE_DEVICES:-}}}
  if ((fact[gpus] > 0)) && [[ -n $shown ]]; then
    local -a devices
    IFS=, read -ra devices <<<"$shown"
    # On some sites each rank that Slurm starts sees only its own GPU.
    if ((${#devices[@]} == 1 && fact[tasks_per_node] == fact[gpus] && ${SLURM_GPUS_ON_NODE:-0} == fact[gpus])); then return; fi
    ((${#devices[@]} == fact[gpus])) ||
      common::die "$(common::node) shows ${#devices[@]} GPUs ($shown); the run asked for ${fact[gpus]}"
  fi
}

# Data loaders with many processes open many files, and the soft limit is often 1024; a program may raise it up to the hard limit.
# (At most 65536, because some programs close every descriptor that they could have open.) A core file is as large as the program's
# memory, and would be written into the run's sources; node_setup, or the program, may raise that limit again.
node::set_limits() {
  local soft hard
  ulimit -S -c 0
  soft=$(ulimit -S -n)
  hard=$(ulimit -H -n)
  if [[ $hard == unlimited ]] || ((hard > 65536)); then hard=65536; fi
  if [[ $soft != unlimited ]] && ((soft < hard)); then ulimit -S -n "$hard"; fi
}

# One node needs no agreed port: torchrun takes a free port at the loopback address, because the node's own name may not resolve
# (--standalone uses that name). On several nodes, the static rendezvous keeps the address, the port and the node ranks that are
# already decided; c10d would choose its own. Slurm's MPI variables for this process do not hold for the ranks.
node::choose_torchrun() {
  # Ignore ABRT: torchrun would die of the signal that makes ranks print their stacks (interruption.sh), and so would Slurm's step,
  # before they are printed. Python's faulthandler in the ranks still works when the signal is ignored.
  trap '' ABRT
  unset "${!PMI@}"
  # torchrun never removes its own log folder, so it must not be in /tmp.
  launcher=(python "$kit/hpc/job/torchrun.py" --nproc-per-node="${fact[processes_per_node]}" --max-restarts=0 --log-dir="$SLURM_TMPDIR/torchrun" --no-python)
  if ((NNODES == 1)); then
    launcher+=(--nnodes=1 --rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:0 --local-addr=127.0.0.1)
  else
    launcher+=(--nnodes="$NNODES" --node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT")
  fi
}

main
