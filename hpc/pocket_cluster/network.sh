# shellcheck shell=bash
# Owns addresses and ports, and the network that connects the nodes of the form `hosts`.
#
# A process in its own network namespace holds a bridge: the switch. Each node is a process in its own namespaces, with one cable
# (a veth pair) to the switch; this machine, the login node, also has a cable. No namespace has a name, so each disappears with its
# processes, and no firewall rule of this machine stands between the nodes.

declare -gA cluster

# Prints why this machine cannot give nodes namespaces; nothing if it can.
network::obstacle() {
  if ((EUID != 0)); then
    printf 'only root can make network namespaces\n'
  elif ! common::has_command ip; then
    printf 'iproute2 is not installed\n'
  else
    unshare --net --uts --mount --pid --fork --mount-proc -- bash "${BASH_SOURCE[0]%/*}/machine.sh" try 2>&1 || true
  fi
}

# network::possible_form FORM   Prints hosts or loopback, for FORM hosts, loopback or auto.
network::possible_form() {
  local form=$1 obstacle=''
  if [[ $form != loopback ]]; then obstacle=$(network::obstacle); fi
  obstacle=${obstacle%%$'\n'*}
  if [[ $form == auto && -n $obstacle ]]; then
    common::note "network: loopback ($obstacle)"
    form=loopback
  fi
  [[ -z $obstacle || $form == loopback ]] || common::die "${cluster[shape]:+--shape ${cluster[shape]} needs }--network hosts${cluster[shape]:+, which} is not possible here: $obstacle"
  printf '%s\n' "${form/auto/hosts}"
}

# Prints the first of 256 free ports below those that the kernel assigns to any program: the controller's, then one per node.
network::free_port() {
  local low used first try
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  local -r blocks=$(((low < 32768 ? low : 32768) / 256 - 40))
  ((blocks > 0)) || common::die "no ports are free below $low (net.ipv4.ip_local_port_range)"
  local -A busy=()
  while read -r used; do
    busy[$((16#$used / 256))]=1
  done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -nE 's/^ *[0-9]+: [0-9A-F]+:([0-9A-F]{4}) .*/\1/p')
  for ((try = 0; try < blocks; try++)); do
    first=$((40 + ($(cluster::hash) + try) % blocks))
    if [[ ! ${busy[$first]:-} ]]; then
      printf '%d\n' $((first * 256))
      return
    fi
  done
  common::die "found no free block of ports between 10240 and $low"
}

# Chooses a /24 of the range reserved for network tests (RFC 2544) that this machine has no route for. Prints the first
# three numbers.
network::free_subnet() {
  local try prefix routes number
  number=$(cluster::hash)
  for ((try = 0; try < 512; try++)); do
    prefix=198.$((18 + (number + try) / 256 % 2)).$(((number + try) % 256))
    routes=$(ip -4 route show to match "$prefix.0/24" && ip -4 route show to root "$prefix.0/24")
    if ! grep -qv '^\(default.*\|\)$' <<<"$routes"; then
      printf '%s\n' "$prefix"
      return
    fi
  done
  common::die "found no free subnet in 198.18.0.0/15"
}

# network::address NAME   Prints the address of a node, or of `login`: this machine, where the controller runs and jobs are submitted.
network::address() {
  local number=254
  if [[ $1 != login ]]; then number=$(cluster::number "$1"); fi
  case ${cluster[network]} in
    hosts) printf '%s\n' "${cluster[subnet]}.$number" ;;
    loopback) printf '127.0.0.1\n' ;;
  esac
}

# Prints a second address for each, as nodes of real clusters have. The host name has only the IPv4 address.
network::address6() {
  local -r number=$1
  printf 'fd00:%x::%x\n' "$(($(cluster::hash) % 65536))" "$number"
}

# Whether this machine's cable to the switch works.
network::is_joined() {
  [[ $(ip -4 address show dev "${cluster[interface]}" up 2>/dev/null) == *" $(network::address login)/24 "* ]]
}

# Starts the switch, and connects this machine to it.
network::start_switch() {
  local -r interface=${cluster[interface]}
  ip link delete dev "$interface" 2>/dev/null || true
  processes::start switch unshare --net -- bash "${BASH_SOURCE[0]%/*}/machine.sh" switch "$interface" $$
  processes::wait_for switch ip link show dev "$interface"
  ip link set dev "$interface" up
  ip -6 address add "$(network::address6 254)/64" dev "$interface" nodad 2>/dev/null || true
  # Add it last: network::is_joined takes it as the sign that everything is complete.
  ip address add "$(network::address login)/24" dev "$interface"
}

# network::start_node NAME SLURMD...
network::start_node() {
  local -r name=$1
  local -a machine=()
  local switch number
  number=$(cluster::number "$name")
  if [[ ${cluster[network]} == hosts ]]; then
    switch=$(processes::pid switch) || processes::die_with_log switch "the switch ended"
    machine=(unshare --net -- bash "${BASH_SOURCE[0]%/*}/machine.sh" node "$name" "$switch" "$number"
      "$(network::address "$name")" "$(network::address6 "$number")" "${cluster[dir]}")
  fi
  processes::start "$name" "${machine[@]}" "${@:2}"
}
