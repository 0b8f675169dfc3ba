#!/usr/bin/env bats
# Where ranks meet, and through which interface (hpc/job/lib/{address,rendezvous}.sh). PATH has no python, because a node may have none.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  use_libraries common slurm address rendezvous
  mkdir -- "$BATS_TEST_TMPDIR/stubs"
  # Nodes with the addresses of the file `addresses`, in the order of their numbers.
  cat >"$BATS_TEST_TMPDIR/stubs/scontrol" <<'STUB'
#!/bin/sh
case $* in
  *hostnames*) sed 's/.*/&/;=' "${0%/*}/addresses" | sed -n 's/^[0-9]*$/node&/p' ;;
  *) for node in $(echo "$4" | tr , ' '); do echo "NodeName=$node Arch=x NodeAddr=$(sed -n "${node#node}p" "${0%/*}/addresses") Port=1"; done ;;
esac
STUB
  chmod +x -- "$BATS_TEST_TMPDIR/stubs/scontrol"
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  export SLURM_JOB_NODELIST=nodes SLURM_JOB_ID=4711 SLURMD_NODENAME=node1
}

# choose ATTEMPT ADDRESS...   Prints what the ranks of a job get on nodes with these addresses, without python3.
choose() {
  printf '%s\n' "${@:2}" >"$BATS_TEST_TMPDIR/stubs/addresses"
  (
    PATH=$(path_without python3)
    rendezvous::choose "$1"
  )
}

# port SEED   Prints only the port.
port() {
  address::free_port "$1"
}

# listen FAMILY ADDRESS PORT   Listens until the test ends.
listen() {
  coproc LISTENER {
    exec python3 -c '
import socket, sys
listener = socket.socket(getattr(socket, sys.argv[1]))
if sys.argv[1] == "AF_INET6":
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
listener.bind((sys.argv[2], int(sys.argv[3])))
listener.listen()
print("listens", flush=True)
sys.stdin.read()
' "$@" 3>&- 2>&1
  }
  local answer
  read -r answer <&"${LISTENER[0]}"
  [[ $answer == listens ]]
}

teardown() {
  if [[ -n ${LISTENER_PID:-} ]]; then
    kill "$LISTENER_PID"
    wait "$LISTENER_PID" || true
  fi
}

@test "one node needs no address, and gets a port outside of the kernel's range for clients" {
  local low attempt answer
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  for SLURM_JOB_ID in 1 2 77 123456 4294967294; do
    for attempt in 0 1000; do
      answer=$(choose "$attempt" 192.0.2.1)
      [[ $answer =~ ^127\.0\.0\.1\ [0-9]+$ ]]
      ((${answer#* } >= 10000 && ${answer#* } < low))
    done
  done
}

@test "a controller that does not answer for a while is asked again for the nodes' addresses" {
  cat >"$BATS_TEST_TMPDIR/stubs/scontrol" <<'STUB'
#!/bin/sh
if [ ! -e "$0.asked" ]; then touch "$0.asked"; echo 'slurm_load_node error: Unable to contact slurm controller (connect failure)' >&2; exit 1; fi
printf 'NodeName=node2 NodeAddr=10.0.0.2 Port=1\nNodeName=node1 Arch=x NodeAddr=10.0.0.1 Port=1\n'
STUB
  local head peer
  rendezvous::ask_slurm head node1 peer node2
  [[ $head == 10.0.0.1 && $peer == 10.0.0.2 ]]
}

@test "where users may not ask for nodes (PrivateData), their names are their addresses" {
  printf '#!/bin/sh\necho "slurm_load_node error: Access/permission denied" >&2; exit 1\n' >"$BATS_TEST_TMPDIR/stubs/scontrol"
  local head peer
  rendezvous::ask_slurm head node1 peer node2
  [[ $head == node1 && $peer == node2 ]]
}

@test "neighbouring jobs get ports far apart, and a job always gets the same one" {
  local -A seen=()
  local seed
  for seed in 100 101 102 103 104 105; do seen[$(port "$seed")]=1; done
  ((${#seen[@]} == 6))
  [[ $(port 100) == "$(port 100)" ]]
}

@test "a port on which a process listens, at any address, is skipped" {
  local free now
  free=$(port 4711)
  listen AF_INET 0.0.0.0 "$free"
  now=$(port 4711)
  [[ $now != "$free" ]]
  teardown
  unset LISTENER_PID
  [[ $(port 4711) == "$free" ]]

  listen AF_INET 127.0.0.1 "$free"
  [[ $(port 4711) != "$free" ]]
}

@test "a port that is used in IPv6 only is skipped, too" {
  if [[ ! -e /proc/net/if_inet6 ]]; then skip 'no IPv6 here'; fi
  local free
  free=$(port 815)
  listen AF_INET6 ::1 "$free"
  [[ $(port 815) != "$free" ]]
}

@test "another node at a loopback address is refused, unless it is this machine" {
  local peer
  for peer in 127.0.0.1 127.0.1.1 localhost ::1; do
    if [[ $peer == ::1 && ! -e /proc/net/if_inet6 ]]; then continue; fi
    fails_with 1 "error: on node1, $peer is a loopback address \(.*correct its name in /etc/hosts" choose 0 192.0.2.1 "$peer"
    run -0 choose 0 "$peer" "$peer"
    [[ $output =~ ^(127\.0\.0\.1|::1)\ [0-9]+$ ]]
  done
}

@test "a node that cannot be resolved or reached is named in the message" {
  fails_with 1 'error: no way from node1 to no-such-node\.invalid: .*(known|resolution)' choose 0 192.0.2.1 no-such-node.invalid
  # A link-local address without an interface cannot be reached.
  fails_with 1 'error: no way from node1 to fe80::1: ' choose 0 192.0.2.1 fe80::1
}

# own_addresses   Prints pairs of an interface and its address, one of them not loopback; not those of pocket clusters, which change.
own_addresses() {
  ip -oneline address show scope global 2>/dev/null | awk '$4 !~ /^198\.19\./ { sub("/.*", "", $4); print $2, $4 }'
}

@test "the address is the source address of the route to the other node, and decides the interface" {
  local interface own
  [[ -n $(own_addresses) ]] || skip 'no address but loopback here'
  while read -r interface own; do
    run -0 choose 0 192.0.2.77 "$own"
    [[ $output == "$own "* ]]
    [[ $(address::interface "$own") == "$interface" ]]
  done < <(own_addresses)
  [[ $(address::interface 127.0.0.1) == lo ]]
  PATH=$(path_without ip)
  [[ -z $(address::interface 127.0.0.1) ]]
}

@test "the profile's interface, or its suffix for the head node's name, decides the address" {
  local interface own
  read -r interface own < <(own_addresses) || skip 'no address but loopback here'
  declare -A fact=([head_address]=interface=$interface)
  run -0 choose 0 127.0.0.1 127.0.0.1
  [[ $output == "$own "* ]]
  fact=([head_address]=interface=nope0)
  fails_with 1 "error: the profile's head_address: interface nope0 has no address on node1" choose 0 192.0.2.1 192.0.2.2
  fact=([head_address]=suffix=.no-such.invalid)
  fails_with 1 "error: the profile's head_address: no way from node1 to node1.no-such.invalid: " choose 0 192.0.2.1 192.0.2.2
  fact=([head_address]=suffix=${own##*.})
  [[ $(rendezvous::address "${own%"${own##*.}"}" other) == "$own" ]] # a name and a suffix that make its address
}

# exported NODES   Prints the variables that address::export sets for the program.
exported() {
  declare -gA fact+=([nodes]=$1)
  address::export
  printf '%s %s %s\n' "$NODE_ADDRESS" "${GLOO_SOCKET_IFNAME:--}" "${NCCL_SOCKET_IFNAME:--}"
}

@test "gloo and NCCL use the interface to the head node on several nodes, unless the user has set another" {
  local interface own
  read -r interface own < <(own_addresses) || skip 'no address but loopback here'
  unset GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME
  export MASTER_ADDR=$own
  declare -gA fact=()
  [[ $(exported 2) == "$own $interface $interface" ]]
  [[ $(NCCL_SOCKET_IFNAME=hsn exported 2) == "$own $interface hsn" ]]
  fact[interface]=hsn0,hsn1
  [[ $(exported 2) == "$own hsn0,hsn1 hsn0,hsn1" ]]
  fact[interface]=^docker
  [[ $(exported 2) == "$own $interface ^docker" ]]
  fact[interface]=''
  [[ $(MASTER_ADDR=127.0.0.1 exported 1) == '127.0.0.1 - -' ]]
  MASTER_ADDR=no-such-node.invalid fails_with 1 'error: node1 has no way to the head node, no-such-node.invalid: ' exported 2
}
