# shellcheck shell=bash disable=SC2154 # pocket_cluster.sh and cluster.sh set the globals
# Owns addresses and ports, and how the nodes of the form `hosts` are joined.
#
# A process in a network namespace of its own holds a bridge: the switch. Each node is a process in namespaces of
# its own with one cable (a veth pair) to it, and so is this machine, the login node. No namespace has a name, so
# each is gone with its processes, and no firewall rule of this machine stands between the nodes.

# Says on standard output why this machine cannot give nodes namespaces; nothing if it can.
network::obstacle() {
  if ((EUID != 0)); then
    printf 'only root can make network namespaces\n'
  elif ! common::has_command ip; then
    printf 'iproute2 is not installed\n'
  else
    unshare --net --uts --mount --pid --fork --mount-proc -- bash "$here/pocket_cluster/machine.sh" try 2>&1 || true
  fi
}

# Sets cluster[network] from what was asked.
network::choose() {
  local obstacle
  [[ ${cluster[network]} != loopback ]] || return 0
  obstacle=$(network::obstacle)
  obstacle=${obstacle%%$'\n'*}
  if [[ -z $obstacle ]]; then
    cluster[network]=hosts
  elif [[ ${cluster[network]} == hosts ]]; then
    common::die "--network hosts is not possible here: $obstacle"
  else
    cluster[network]=loopback
    common::note "network: loopback ($obstacle)"
  fi
}

# A block of 256 ports below those that the kernel gives to any program: the controller's, then one per node.
network::choose_port() {
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
      cluster["port"]=$((first * 256))
      return
    fi
  done
  common::die "found no free block of ports between 10240 and $low"
}

# A /24 of the range set aside for tests of networks (RFC 2544), which this machine has no route for.
network::choose_subnet() {
  local try prefix routes number
  number=$(cluster::hash)
  for ((try = 0; try < 512; try++)); do
    prefix=198.$((18 + (number + try) / 256 % 2)).$(((number + try) % 256))
    routes=$(ip -4 route show to match "$prefix.0/24" && ip -4 route show to root "$prefix.0/24")
    if ! grep -qv '^\(default.*\|\)$' <<<"$routes"; then
      cluster["subnet"]=$prefix
      # At most 15 characters for the name of an interface.
      printf -v "cluster[interface]" 'pocket%08x' "$number"
      return
    fi
  done
  common::die "found no free subnet in 198.18.0.0/15"
}

network::address() {
  local -r name=$1
  case ${cluster[network]} in
    hosts) printf '%s\n' "${cluster[subnet]}.${name#node}" ;;
    loopback) printf '127.0.0.1\n' ;;
  esac
}

# This machine, where the controller runs and jobs are submitted.
network::login_address() {
  case ${cluster[network]} in
    hosts) printf '%s\n' "${cluster[subnet]}.254" ;;
    loopback) printf '127.0.0.1\n' ;;
  esac
}

# A second address for each, as nodes of real clusters have. Only the IPv4 address belongs to the host name.
network::address6() {
  local -r number=$1
  printf 'fd00:%x::%x\n' "$(($(cluster::hash) % 65536))" "$number"
}

# Does this machine's cable to the switch work?
network::is_joined() {
  [[ $(ip -4 address show dev "${cluster[interface]}" up 2>/dev/null) == *" $(network::login_address)/24 "* ]]
}

# Brings up the switch, and this machine's cable to it.
network::start_switch() {
  local -r interface=${cluster[interface]}
  local try
  ip link delete dev "$interface" 2>/dev/null || true
  daemons::start switch unshare --net -- bash "$here/pocket_cluster/machine.sh" switch "$interface" $$
  for ((try = 0; try < 100; try++)); do
    if ip link show dev "$interface" >/dev/null 2>&1; then
      ip link set dev "$interface" up
      ip -6 address add "$(network::address6 254)/64" dev "$interface" nodad 2>/dev/null || true
      # Last: by it network::is_joined knows that nothing is missing.
      ip address add "$(network::login_address)/24" dev "$interface"
      return
    fi
    sleep 0.05
  done
  daemons::die_with_log "the switch did not start" switch
}
