#!/usr/bin/env bats
# shellcheck disable=SC2154 # sourced files
# Where ranks meet: hpc/job/rendezvous.py.

load ../helpers

rendezvous() {
  python3 "$checkout/hpc/job/rendezvous.py" "$@"
}

# port SEED   The port alone.
port() {
  local answer
  answer=$(rendezvous --seed "$1")
  printf '%s\n' "${answer#* }"
}

# listen FAMILY ADDRESS PORT   Until the test ends.
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

@test "one node needs no address, and gets a port that the kernel does not hand out" {
  local low seed answer
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  for seed in 0 1 2 77 123456 4294967294 1000003000001; do
    answer=$(rendezvous --seed "$seed")
    [[ $answer =~ ^127\.0\.0\.1\ [0-9]+$ ]]
    ((${answer#* } >= 10000 && ${answer#* } < low))
  done
}

@test "a controller that is silent for a while is asked again for the nodes' addresses" {
  use_libraries common slurm rendezvous
  mkdir -- "$BATS_TEST_TMPDIR/stubs"
  cat >"$BATS_TEST_TMPDIR/stubs/scontrol" <<'STUB'
#!/bin/sh
if [ ! -e "$0.asked" ]; then touch "$0.asked"; echo 'slurm_load_node error: Unable to contact slurm controller (connect failure)' >&2; exit 1; fi
echo 'NodeName=node1 NodeAddr=10.0.0.1 Port=1'
STUB
  chmod +x -- "$BATS_TEST_TMPDIR/stubs/scontrol"
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  [[ $(rendezvous::slurm_address node1) == 10.0.0.1 ]]
}

@test "neighbouring jobs get ports far apart, and the same job the same one" {
  local -A seen=()
  local seed
  for seed in 100 101 102 103 104 105; do seen[$(port "$seed")]=1; done
  ((${#seen[@]} == 6))
  [[ $(port 100) == "$(port 100)" ]]
}

@test "a port at which somebody listens is passed over, on whatever address" {
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

@test "so is one that is taken in IPv6 only" {
  if [[ ! -e /proc/net/if_inet6 ]]; then skip 'no IPv6 here'; fi
  local free
  free=$(port 815)
  listen AF_INET6 ::1 "$free"
  [[ $(port 815) != "$free" ]]
}

@test "another node at a loopback address is refused, unless it is this machine" {
  local peer
  for peer in 127.0.0.1 127.0.1.1 localhost; do
    fails_with 1 "^rendezvous: on .*, the other node $peer is a loopback address \(.*mend its name in /etc/hosts" \
      rendezvous --seed 1 --peer "$peer"
    run -0 rendezvous --seed 1 --peer "$peer" --same-machine
    [[ $output =~ ^(127\.|::1\ ) ]]
  done
}

@test "a node that cannot be found, or not be reached, is told by its name" {
  fails_with 1 '^rendezvous: no way from .* to no-such-node\.invalid: ' rendezvous --seed 1 --peer no-such-node.invalid
  # A link-local address without an interface leads nowhere.
  fails_with 1 '^rendezvous: no way from .* to fe80::1: ' rendezvous --seed 1 --peer fe80::1
}

@test "the address is the one that the way to the other node begins at" {
  local own
  own=$(ip -oneline -4 address show scope global 2>/dev/null | awk 'NR == 1 { sub("/.*", "", $4); print $4 }')
  if [[ -z $own ]]; then skip 'no address but loopback here'; fi
  run -0 rendezvous --seed 1 --peer "$own"
  [[ $output == "$own "* ]]
}

@test "wrong arguments" {
  run -2 --separate-stderr rendezvous
  run -2 --separate-stderr rendezvous --seed x
}
