"""Finds the logs of a task's ranks, and the nodes on which the ranks ran."""

import os
import re

from files import names_in, read


def rank_files(task):
    """Return the logs of the task's ranks, in the order of their numbers."""
    names = [name for name in names_in(task.folder) if re.fullmatch(r"rank_\d+\.txt", name)]
    return [os.path.join(task.folder, name) for name in sorted(names, key=lambda name: int(name[5:-4]))]


def node_of(path):
    """Return (number in the job, name) of the node of this log's rank, with None if the log does not say it."""
    found = re.search(r"^rank \d+ of \d+: node (\d+), (\S+) \(", read(path, 2000), re.MULTILINE)
    return found.groups() if found else (None, None)
