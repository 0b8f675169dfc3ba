# shellcheck shell=bash
# Finds this node's address, interface and free ports through the kernel: a node may have no python3, and its own name
# may resolve to 127.0.1.1, to an old address, or not at all.

declare -gA fact+=()

# address::towards VARIABLE PEER   Sets VARIABLE to the address from which packets to PEER (a name or an address) leave: PEER reaches
# this node at that address. Status 1, with the reason in VARIABLE, if there is none.
address::towards() {
  local address_answer status=0
  address_answer=$(address::probe "$2" 2>&1) || status=$?
  if ((status == 0)) && [[ $address_answer == fe80:* ]]; then
    address_answer="reached from the link-local address $address_answer only" status=1
  elif ((status != 0)); then
    address_answer=${address_answer%%$'\n'*} # bash's own message: FILE: line N: PEER: REASON
    address_answer=${address_answer##*: }
  fi
  printf -v "$1" '%s' "$address_answer"
  return "$status"
}

# Opening a UDP socket looks up the route and sends nothing; /proc then shows the socket's own address.
address::probe() {
  local probe link
  local -a fields
  exec {probe}<>"/dev/udp/$1/9" || return 1
  link=$(readlink "/proc/self/fd/$probe")
  while read -ra fields; do
    if [[ "socket:[${fields[9]:-}]" == "$link" ]]; then
      address::of_hex "${fields[1]%:*}"
      return
    fi
  done < <(cat /proc/net/udp /proc/net/udp6 2>/dev/null)
  printf '/proc/net/udp does not show it\n'
  return 1
}

# address::of_hex DIGITS   Converts an address of /proc/net, which is in words of four bytes, the lowest byte first.
address::of_hex() {
  local bytes='' word address=''
  local -i position
  for ((position = 0; position < ${#1}; position += 8)); do
    word=${1:position:8}
    bytes+=${word:6:2}${word:4:2}${word:2:2}${word:0:2}
  done
  if ((${#1} == 8)); then
    printf '%d.%d.%d.%d\n' "0x${bytes:0:2}" "0x${bytes:2:2}" "0x${bytes:4:2}" "0x${bytes:6:2}"
    return
  fi
  for ((position = 0; position < 32; position += 4)); do printf -v address '%s:%x' "$address" "0x${bytes:position:4}"; done
  if [[ $address: =~ (:0){2,}: ]]; then
    address=$address:
    address=${address/"${BASH_REMATCH[0]}"/::}
    address=${address%:}
    if [[ $address == *: ]]; then address+=:; fi
  fi
  case $address in
    ::*) printf '%s\n' "$address" ;;
    *) printf '%s\n' "${address#:}" ;;
  esac
}

# address::interface ADDRESS   Prints the name of the interface with this address; nothing if `ip` is missing.
address::interface() {
  local line
  line=$(ip -oneline address show to "$1" 2>/dev/null) || return 0
  if [[ $line =~ ^[0-9]+:\ +([^ @]+) ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; fi
}

# address::of_interface NAME   Prints the first address of the interface, an IPv4 address if it has one.
address::of_interface() {
  local line
  line=$({ ip -oneline -4 address show dev "$1" && ip -oneline -6 address show dev "$1" scope global; } 2>/dev/null) || return 1
  [[ $line =~ \ inet6?\ ([^/ ]+) ]] && printf '%s\n' "${BASH_REMATCH[1]}"
}

# address::free_port SEED   Prints a port that no program uses, and that the kernel does not assign by itself. The search starts
# at a place that differs from job to job.
address::free_port() {
  local low high first=10000 address port sockets
  local -i count number
  read -r low high </proc/sys/net/ipv4/ip_local_port_range || { low=32768 && high=60999; }
  count=$((low - first))
  if ((count <= 0)); then first=$((high + 1)) count=$((65535 - high)); fi
  if ((count <= 0)); then first=10000 count=55536; fi
  # Read it as one text: `read` takes lines from a pipe byte by byte, and a head node may have thousands of sockets.
  sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null) || true
  for ((number = 0; number < count; number++)); do
    port=$((first + ($1 * 7919 + number) % count)) # a prime apart: neighbouring jobs do not walk the same ports
    printf -v address '%04X' "$port"
    if [[ $sockets != *":$address "* ]]; then
      printf '%s\n' "$port"
      return
    fi
  done
  common::die "no free port on $(common::node)"
}

# address::export   Call it after batch.sh has chosen MASTER_ADDR. On several nodes gloo and NCCL would otherwise listen at the address
# that the node's own name resolves to, or on the first interface. (gloo accepts only names; NCCL's may begin with = or ^.)
address::export() {
  local found
  local -r named=${fact[interface]:-}
  NODE_ADDRESS=$MASTER_ADDR
  export NODE_ADDRESS
  if ((fact[nodes] == 1)); then return; fi
  address::towards NODE_ADDRESS "$MASTER_ADDR" ||
    common::die "$(common::node) has no way to the head node, $MASTER_ADDR: $NODE_ADDRESS"
  found=$(address::interface "$NODE_ADDRESS")
  if [[ -n $named$found ]]; then export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-${named:-$found}}; fi
  if [[ $named == [A-Za-z]* ]]; then found=$named; fi
  if [[ -n $found ]]; then export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$found}; fi
}
