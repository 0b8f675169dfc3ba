#!/usr/bin/env python3
"""Kills a part of a job on this node, as a crash or a dead node would. drill.sh runs it on the job's nodes.

    drill_kill.py rank ATTEMPT_DIRECTORY RANK    the program of that rank, if it is here
    drill_kill.py node JOB STEP                  all processes that the job's step has here

Prints the processes that it has killed. Standard library only.
"""

import os
import signal
import sys
from pathlib import Path


def main():
    kind, first, second = sys.argv[1:]
    here = os.environ.get("SLURMD_NODENAME", "")
    processes = {int(entry.name): entry for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    if kind == "node":
        wanted = {"SLURM_JOB_ID": first, "SLURM_STEP_ID": second, "SLURMD_NODENAME": here}
        hit = [process for process, entry in processes.items() if _has(entry, wanted)]
    else:
        # If several nodes are one machine, each node sees all processes.
        wanted = {"RANK": second, "SLURMD_NODENAME": here}
        shells = [process for process, entry in processes.items() if _is_rank(entry, first) and _has(entry, wanted)]
        hit = _below(processes, shells)
    for process in hit:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
        print(f"killed process {process} on {here}", flush=True)  # This may end the job, and this program with it.


def _words(entry, name):
    try:
        return (entry / name).read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except OSError:  # The process has ended, or belongs to another user.
        return []


def _is_rank(entry, attempt_directory):
    """Whether it is rank.sh, which has started the program."""
    words = _words(entry, "cmdline")
    return len(words) == 4 and words[1].endswith("/hpc/job/rank.sh") and words[3] == attempt_directory


def _has(entry, wanted):
    found = dict(word.partition("=")[::2] for word in _words(entry, "environ"))
    return all(found.get(name) == value for name, value in wanted.items())


def _below(processes, parents):
    """All descendants of `parents`."""
    children = {}
    for process, entry in processes.items():
        try:
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(process)
    found, left = [], list(parents)
    while left:
        more = children.get(left.pop(), [])
        found += more
        left += more
    return found


if __name__ == "__main__":
    main()
