"""The attempts of a task: when and where they ran, how they ended, and what they used. For runs.py."""

import functools
import os
import re
import time
from typing import NamedTuple

from files import changed, names_in, read

OLD_NAMES = {"deaf": "ignored_stop"}  # causes in the files of earlier runs


class NodeUsage(NamedTuple):
    """The resources that one node used in one attempt."""

    node: str
    last: float  # time of the last sample
    seconds: float
    cpu_seconds: float
    peak_cores: float
    peak_memory_bytes: int
    gpu_percent: list  # of the samples that have one
    peak_gpu_memory_mib: float


def read_usage(path):
    """Read the usage file of one node; None if it has no sample. Columns: see job/usage.py."""
    rows = []
    for line in read(path).splitlines()[1:]:
        try:
            when, cpu, memory, percent, gpu_memory = line.split("\t")
            rows.append(
                (float(when), float(cpu), int(memory), percent and float(percent), gpu_memory and float(gpu_memory))
            )
        except ValueError:
            continue  # a disk was full
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    peak, since = 0.0, first
    for row in rows[1:]:
        if row[0] - since[0] >= 1:  # a shorter time gives no meaningful share
            peak, since = max(peak, (row[1] - since[1]) / (row[0] - since[0])), row
    return NodeUsage(
        node=os.path.basename(path)[len("usage_") : -len(".tsv")],
        last=last[0],
        seconds=last[0] - first[0],
        cpu_seconds=last[1] - first[1],
        peak_cores=peak,
        peak_memory_bytes=max(row[2] for row in rows),
        gpu_percent=[row[3] for row in rows if row[3] != ""],
        peak_gpu_memory_mib=max((row[4] for row in rows if row[4] != ""), default=0.0),
    )


class Attempt:
    """One start of a task: from the start of the batch script to its end."""

    def __init__(self, task, number):
        self.task, self.run, self.number = task, task.run, number
        self.folder = os.path.join(task.folder, f"attempt_{number}")

    def _line(self, name):
        return read(os.path.join(self.folder, name)).strip()

    @functools.cached_property
    def cause(self):
        cause = self._line("cause")
        return OLD_NAMES.get(cause, cause)

    @property
    def ending(self):
        """The cause, or else `running` or `unknown`."""
        return self.cause or ("running" if self.is_running else "unknown")

    @property
    def kind(self):
        """The ending without the rank and the node."""
        return " ".join(self.ending.split()[:2])

    @property
    def doubt(self):
        """Why the cause comes only from what the batch script saw; empty if Slurm confirmed it."""
        return self._line("doubt")

    @property
    def stop_file(self):
        return os.path.join(self.folder, "stop")

    @property
    def is_stopped_for_good(self):
        """Whether `experiments.sh stop` ended it, so that the kit does not restart the task (job/lib/restart.sh)."""
        return bool(self._line("stop"))

    @functools.cached_property
    def unconnected(self):
        """If ranks never communicated, the lines of job/meeting.py: what it saw, what to do, the groups."""
        return read(os.path.join(self.folder, "unconnected")).splitlines()

    @property
    def nodes(self):
        return self._line("nodes")

    @functools.cached_property
    def beat(self):
        return changed(os.path.join(self.folder, "heartbeat"))

    @functools.cached_property
    def usage(self):
        """NodeUsage of each node that has one."""
        names = [name for name in names_in(self.folder) if name.startswith("usage_") and name.endswith(".tsv")]
        return [usage for usage in (read_usage(os.path.join(self.folder, name)) for name in names) if usage]

    @functools.cached_property
    def _times(self):
        found = re.findall(r"^(began|ended) (\d+(?:\.\d+)?)$", self._line("times"), re.MULTILINE)
        return {word: float(when) for word, when in found}

    @functools.cached_property
    def began(self):
        """The time of the start; None if it failed during the start."""
        return self._times["began"] if "began" in self._times else changed(os.path.join(self.folder, "nodes"))

    @property
    def is_running(self):
        return not self.cause and self is self.task.attempts[-1] and self.task.state in ("running", "suspended")

    @functools.cached_property
    def ended(self):
        """The time of the end; now if it runs. If the batch script was killed too, when the attempt was last seen."""
        if "ended" in self._times:
            return self._times["ended"]
        if self.is_running:
            return time.time()
        seen = None
        if not self._times:
            seen = changed(os.path.join(self.folder, "cause"))
        seen = seen or max([self.beat or 0, *(usage.last for usage in self.usage)])
        if not seen and self is self.task.attempts[-1]:
            seen = changed(self.task.log)
        return max(self.began or 0, seen or 0)

    @property
    def seconds(self):
        return max(0.0, self.ended - self.began) if self.began is not None else 0.0

    @property
    def node_hours(self):
        return self.seconds * self.run.request.nodes / 3600

    @property
    def gpu_hours(self):
        return self.node_hours * self.run.request.gpus
