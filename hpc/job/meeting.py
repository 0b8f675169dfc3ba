"""Finds out whether the ranks of a job know each other. It works from outside the program, for any library.

    meeting.py watch ATTEMPT_DIRECTORY NODE PARENT [SECONDS]   on each node, beside the ranks, until PARENT ends
    meeting.py judge ATTEMPT_DIRECTORY                         once, when they have ended

ATTEMPT_DIRECTORY/ranks has a file RANK for each rank (hook/sitecustomize.py: its framework, its groups of torch), and a
file NODE.seen for each node. There `watch` records TCP connections, shared memory, and devices of a fast network, for
the processes below each rank.sh. `judge` prints nothing if all ranks are connected, or if fewer than two use a training
framework. Otherwise it prints a line that says so, one with what to do, and one for each group of ranks.
With SECONDS, `watch` prints the result so far after that time.
Standard library only, Python 3.6 or later.
"""

import os
import re
import select
import sys
import time

SHORTEST, LONGEST = 0.2, 10.0  # seconds between samples: a twentieth of the time since the first
DEEP = 0.02  # the share of the time that samples with the processes' memory may take
FORGET_AFTER = 5  # samples, after which processes of no rank are checked again: node.sh becomes rank.sh
MOST = 2000  # connections that are kept for each rank
NETWORKS = ("/dev/infiniband/", "/dev/cxi", "/dev/hfi", "/dev/knem", "/dev/xpmem")
SHARED = re.compile(rb"(?<= )/(?:dev/shm/|memfd:|SYSV)[^\n]*")
REMEDY = (
    "To train together, the program must form a group: init_process_group with DDP or FSDP, accelerate, or Lightning's "
    "num_nodes with -W lightning. For one process take --gpus 1 --num-nodes 1. If each is to work alone: --independent"
)


def read(path):
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""  # it has ended


def names_in(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


class Ranks:
    """The processes of this node's ranks: those below each rank.sh of the attempt, also if a parent has ended."""

    def __init__(self, attempt):
        self.attempt, self.ranks, self.ports, self.others, self.looks = os.fsencode(attempt), {}, {}, set(), 0

    def look(self):
        if self.looks % FORGET_AFTER == 0:
            self.others.clear()
        self.looks += 1
        parents, starts = {}, {}
        for name in names_in("/proc"):
            if name.isdigit() and name not in self.others:
                fields = read("/proc/%s/stat" % name).rpartition(b")")[2].split()
                if fields:
                    parents[name], starts[name] = fields[1].decode(), fields[19]
        known = {name: rank for (name, start), rank in self.ranks.items() if starts.get(name) == start}
        for name in parents:
            if name not in known:
                words = read("/proc/%s/cmdline" % name).split(b"\0")
                if words[1:2] and words[1].endswith(b"/hpc/job/rank.sh") and words[3:4] == [self.attempt]:
                    self.take(name, known)
        for name in parents:
            above, line = name, []
            while above in parents and above not in known:
                line.append(above)
                above = parents[above]
            if above in known:
                known.update((below, known[above]) for below in line)
        self.others.update(name for name in parents if name not in known)
        self.ranks = {(name, starts[name]): rank for name, rank in known.items()}
        return known

    def take(self, name, known):
        words = dict(word.partition(b"=")[::2] for word in read("/proc/%s/environ" % name).split(b"\0"))
        rank = words.get(b"RANK", b"").decode()
        if rank.isdigit():
            known[name] = rank
            self.ports[rank] = words.get(b"MASTER_PORT", b"").decode()


def address_of(digits, node):
    """The address as in /proc/net. Both tables show an IPv4 address alike; a loopback address includes the node."""
    host, _, port = digits.partition(":")
    if len(host) == 32 and host.startswith("0000000000000000FFFF0000"):
        host = host[24:]
    own = host.endswith("7F") if len(host) == 8 else host == "00000000000000000000000001000000"
    return "%s:%s%s" % (host, port, "@" + node if own else "")


def connections(node):
    """Maps the number of a socket to (its own address, its peer's address)."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in read("/proc/net/%s" % table).decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] not in ("0A", "06"):  # a socket that listens, or that no process owns any more
                found[fields[9]] = address_of(fields[1], node), address_of(fields[2], node)
    return found


def seen_now(ranks, node, deep):
    """Lines with what the processes of each rank hold; with DEEP also their memory."""
    known = ranks.look()
    sockets, owners, lines, shared = connections(node), {}, set(), {}
    for name, rank in known.items():
        for number in names_in("/proc/%s/fd" % name):
            try:
                target = os.readlink("/proc/%s/fd/%s" % (name, number))
            except OSError:
                continue
            if target.startswith("socket:["):
                owners.setdefault(sockets.get(target[8:-1]), set()).add(rank)
            elif target.startswith(NETWORKS):
                lines.add("fast\t%s" % rank)
        maps = read("/proc/%s/maps" % name) if deep else b""
        if b"/libtorch" in maps:  # the hook does not run if Python ignores its environment (-I)
            lines.add("uses\t%s" % rank)
        for path in SHARED.findall(maps):
            shared.setdefault(path, set()).add(rank)
    owners.pop(None, None)
    for (own, other), holders in owners.items():
        for rank in holders - owners.get((other, own), set()):
            lines.add("tcp\t%s\t%s\t%s" % (rank, own, other))
            if other.partition("@")[0].endswith(":%04X" % int(ranks.ports.get(rank) or 0)):
                lines.add("store\t%s\t%s" % (rank, ranks.ports[rank]))
    for holders in shared.values():
        if len(holders) > 1:
            lines.add("memory\t" + "\t".join(sorted(holders)))
    return known, lines


def have_met(folder, ranks):
    """Whether all of these have joined a group of torch."""
    return bool(ranks) and all(b"group " in read(os.path.join(folder, rank)) for rank in ranks)


def watch(attempt, node, parent, seconds):
    folder = os.path.join(attempt, "ranks")
    os.closerange(3, 1024)
    os.chdir("/")
    try:
        watched = os.pidfd_open(parent)
    except (AttributeError, OSError):  # before Linux 5.3, or Python 3.9
        watched = None
    ranks, written, counts, age, spent, begun = Ranks(attempt), set(), {}, 0.0, 0.0, time.monotonic()
    while os.getppid() == parent:
        deep, before = spent <= DEEP * age, time.process_time()
        known, lines = seen_now(ranks, node, deep)
        spent += deep * (time.process_time() - before)
        text = ""
        for line in sorted(lines - written):
            rank = line.split("\t")[1]
            counts[rank] = counts.get(rank, 0) + 1
            if counts[rank] <= MOST:
                written.add(line)
                text += line + "\n"
        if text:
            try:
                with open(os.path.join(folder, node + ".seen"), "a") as file:
                    file.write(text)
            except OSError:
                pass  # a full disk
        age = time.monotonic() - begun
        if seconds and age > seconds:
            found = judge(attempt)
            if found:
                print("warning: so far %s. %s" % (found[0], found[1]), file=sys.stderr)
            seconds = 0
        if have_met(folder, set(known.values())):
            return
        pause = min(max(SHORTEST, age / 20), LONGEST)
        if watched is None:
            time.sleep(pause)
        elif select.select([watched], [], [], pause)[0]:
            return


class Groups:
    """Union-find over ranks and the objects that join them."""

    def __init__(self):
        self.above = {}

    def find(self, one):
        while self.above.setdefault(one, one) != one:
            one = self.above[one]
        return one

    def join(self, *members):
        for member in members[1:]:
            self.above[self.find(member)] = self.find(members[0])


def judge(attempt):
    """Lines: the sentence, what to do, and the ranks of each group; empty if there is nothing to report."""
    folder = os.path.join(attempt, "ranks")
    groups, users, torch, ends = Groups(), set(), {}, {}
    for name in names_in(folder):
        for line in read(os.path.join(folder, name)).decode(errors="replace").splitlines():
            if name.endswith(".seen"):
                kind, *words = line.split("\t")
                if kind == "tcp" and len(words) == 3:
                    ends[words[1], words[2]] = words[0]
                elif kind == "memory":
                    groups.join(*words)
                elif kind == "uses":
                    users.add(words[0])
                elif words:  # ranks on a fast network may use it to communicate; a store is torchrun's
                    groups.join(words[0], (kind, *words[1:]))
            elif line.startswith("uses "):
                users.add(name)
            elif re.match(r"group \d+ \d+ ", line):
                _, size, number, point = line.split(" ", 3)
                torch.setdefault(int(size), []).append((int(number), name, point))
    for (own, other), rank in ends.items():
        if (other, own) in ends:
            groups.join(rank, ends[other, own])
    for size, members in torch.items():
        places = {}
        for number, rank, point in members:
            places.setdefault(number, set()).add(rank)
            if point != "-":
                groups.join(rank, ("point", size, point))
        if all(len(holders) == 1 for holders in places.values()):  # each place is taken once, so it is one group
            groups.join(*{rank for _, rank, _ in members})
    found = {}
    for rank in sorted(users, key=int):
        found.setdefault(groups.find(rank), []).append(rank)
    return sentence(list(found.values())) if len(found) > 1 else []


def sentence(found):
    count = sum(map(len, found))
    if len(found) == count:
        sentence = "its %d processes never spoke with each other" % count
    else:
        sentence = "its %d processes are %d groups that never spoke with each other (ranks %s)" % (
            count,
            len(found),
            "; ".join(ranges(ranks) for ranks in found[:4]) + "; …" * (len(found) > 4),
        )
    return [sentence + ": each may have trained alone", REMEDY, *(" ".join(ranks) for ranks in found)]


def ranges(ranks):
    """Ranks in the form 0-3,8."""
    parts = []
    for rank in map(int, ranks):
        if parts and rank == parts[-1][1] + 1:
            parts[-1][1] = rank
        else:
            parts.append([rank, rank])
    return ",".join(str(first) if first == last else "%d-%d" % (first, last) for first, last in parts)


if __name__ == "__main__":
    if sys.argv[1] == "judge":
        lines = judge(sys.argv[2])
        sys.stdout.buffer.write("".join(line + "\n" for line in lines).encode())
    else:
        watch(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]) if sys.argv[5:] else 0)
