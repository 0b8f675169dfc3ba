# shellcheck shell=bash
# Chooses where the ranks of this attempt meet. Only batch.sh decides it, on the head node.

declare -gA fact+=()

# rendezvous::choose ATTEMPT   Prints "ADDRESS PORT".
rendezvous::choose() {
  local -a hosts=()
  local address=127.0.0.1 port
  mapfile -t hosts < <(scontrol show hostnames "${SLURM_JOB_NODELIST:?}")
  if ((${#hosts[@]} > 1)); then address=$(rendezvous::address "${hosts[@]:0:2}") || return; fi
  port=$(address::free_port "$((${SLURM_JOB_ID:?} + 1000003 * $1))") || return
  printf '%s %s\n' "$address" "$port"
}

# rendezvous::address HEAD PEER   Prints the address at which PEER reaches HEAD, this node. It uses the profile's head_address
# (suffix=…, interface=…), else the kernel's route to PEER.
rendezvous::address() {
  local -r value=${fact[head_address]:-}
  local here peer address
  if [[ $value == interface=* ]]; then
    peer=${value#*=}
    address=$(address::of_interface "$peer") || common::die "the profile's head_address: interface $peer has no address on $(common::node)"
  elif [[ $value == suffix=* ]]; then
    peer=$1${value#*=} # from its own address to its own address
    address::towards address "$peer" || common::die "the profile's head_address: no way from $(common::node) to $peer: $address"
  else
    rendezvous::ask_slurm here "$1" peer "$2"
    address::towards address "$peer" || common::die "no way from $(common::node) to $peer: $address"
    # Two nodes with one address are one machine: the pocket cluster without namespaces.
    if [[ $here == "$peer" ]]; then
      printf '%s\n' "$address"
      return
    fi
  fi
  if [[ $address == @(127.*|::1) ]]; then
    common::die "on $(common::node), $peer is a loopback address ($address), at which no other node can reach this one: correct its name in /etc/hosts, or the NodeAddr in slurm.conf"
  fi
  printf '%s\n' "$address"
}

# rendezvous::ask_slurm VARIABLE NODE VARIABLE NODE   Sets each VARIABLE to the address by which Slurm itself reaches that NODE; Slurm
# knows no other address that must work. Where users may not ask (PrivateData=nodes), it is the node's name, which is what NodeAddr is
# by default.
rendezvous::ask_slurm() {
  local answer line status=0
  printf -v "$1" '%s' "$2"
  printf -v "$3" '%s' "$4"
  slurm::ask answer 600 scontrol --oneliner show node "$2,$4" || status=$?
  ((status != 2)) || common::die "Slurm tells no addresses of the nodes $2 and $4 ($answer)"
  if ((status != 0)); then return; fi
  while IFS= read -r line; do
    if [[ ! $line =~ ^NodeName=([^[:space:]]+)[[:space:]](.*[[:space:]])?NodeAddr=([^[:space:]]+) ]]; then continue; fi
    if [[ ${BASH_REMATCH[1]} == "$2" ]]; then printf -v "$1" '%s' "${BASH_REMATCH[3]}"; fi
    if [[ ${BASH_REMATCH[1]} == "$4" ]]; then printf -v "$3" '%s' "${BASH_REMATCH[3]}"; fi
  done <<<"$answer"
}
