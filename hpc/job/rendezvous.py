#!/usr/bin/env python3
"""Where the ranks of a job meet: the head node's address and a free port on it.

Run on the head node by hpc/job/batch.sh, before any rank starts; standard library only, Python 3.6 or later.
Prints "ADDRESS PORT".
"""

import argparse
import ipaddress
import socket
import sys


def address_towards(peer):
    """The local address that packets to `peer` leave from, so the one at which `peer` reaches this node.

    The kernel's routing decides, not the node's own idea of its name (often 127.0.1.1, or one of several
    addresses). connect() on a UDP socket looks up the route and sends nothing.
    """
    reasons = []
    for family, kind, protocol, _, destination in socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM):
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.connect(destination)
            except OSError as error:
                reasons.append("%s: %s" % (destination[0], error))
                continue
            source = probe.getsockname()[0]
        address = ipaddress.ip_address(source.split("%")[0])
        if address.is_link_local:
            reasons.append("%s: reached from the link-local address %s only" % (destination[0], source))
            continue
        return str(address)
    raise OSError("; ".join(reasons))


def candidate_ports(seed):
    """Ports that the kernel does not hand out by itself, begun at a place that differs from job to job."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
            low, high = map(int, limits.read().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    ports = list(range(10000, low)) or list(range(high + 1, 65536)) or list(range(10000, 65536))
    begin = seed * 7919 % len(ports)  # a prime apart: neighbouring jobs do not walk the same ports
    return ports[begin:] + ports[:begin]


def is_free(port):
    """Whether a listener on all addresses, as torch's store is, gets the port."""
    for family, every_address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((every_address, port))
        except OSError as error:
            if family == socket.AF_INET6 and "in use" not in str(error):
                continue  # no IPv6 on this node
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="a number that differs between jobs and attempts")
    parser.add_argument("--peer", help="host or address of another node of the job")
    parser.add_argument("--same-machine", action="store_true", help="the peer is this machine: loopback is right")
    arguments = parser.parse_args()

    address = "127.0.0.1"
    if arguments.peer is not None:
        try:
            address = address_towards(arguments.peer)
        except OSError as error:
            sys.exit("rendezvous: no way from %s to %s: %s" % (socket.gethostname(), arguments.peer, error))
        if ipaddress.ip_address(address).is_loopback and not arguments.same_machine:
            sys.exit(
                "rendezvous: on %s, the other node %s is a loopback address (%s), at which no other node can reach"
                " this one: mend its name in /etc/hosts, or the NodeAddr of Slurm"
                % (socket.gethostname(), arguments.peer, address)
            )
    for port in candidate_ports(arguments.seed):
        if is_free(port):
            print(address, port)
            return
    sys.exit("rendezvous: no free port on %s" % socket.gethostname())


if __name__ == "__main__":
    main()
