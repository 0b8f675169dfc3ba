# shellcheck shell=bash
# Where the ranks of this attempt meet. Only batch.sh decides it, on the head node.

# rendezvous::choose KIT ATTEMPT   Prints "ADDRESS PORT".
rendezvous::choose() {
  local -r kit=$1 attempt=$2
  local -a how=(--seed "$((${SLURM_JOB_ID:?} + 1000003 * attempt))") hosts=()
  mapfile -t hosts < <(scontrol show hostnames "${SLURM_JOB_NODELIST:?}")
  if ((${#hosts[@]} > 1)); then
    local here peer
    here=$(rendezvous::slurm_address "${hosts[0]}")
    peer=$(rendezvous::slurm_address "${hosts[1]}")
    how+=(--peer "$peer")
    # Two nodes at one address are one machine: the pocket cluster without namespaces.
    if [[ $here == "$peer" ]]; then how+=(--same-machine); fi
  fi
  python3 "$kit/hpc/job/rendezvous.py" "${how[@]}"
}

# The address by which Slurm itself reaches a node: it knows of no other that must work.
rendezvous::slurm_address() {
  local answer
  if ! slurm::ask answer 600 scontrol --oneliner show node "$1" || [[ ! $answer =~ [[:space:]]NodeAddr=([^[:space:]]+) ]]; then
    common::die "Slurm tells no address of node $1 ($answer)"
  fi
  printf '%s\n' "${BASH_REMATCH[1]}"
}
