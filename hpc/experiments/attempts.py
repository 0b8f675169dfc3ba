"""The attempts of a task: when and where they ran, how they ended, and what they used. For runs.py."""

import collections
import os
import re
import time

from cached import cached
from files import changed, names_in, read

OLD_NAMES = {"deaf": "ignored_stop"}  # causes in the files of earlier runs


# The resources that one node used in one attempt. `last` is the time of the last sample; `gpu_percent` is a list of the
# samples that have one.
NodeUsage = collections.namedtuple(
    "NodeUsage", "node last seconds cpu_seconds peak_cores peak_memory_bytes gpu_percent peak_gpu_memory_mib"
)


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
        self.folder = f"{task.folder}/attempt_{number}"

    def _line(self, name):
        return read(f"{self.folder}/{name}").strip()

    @cached
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
        return f"{self.folder}/stop"

    @property
    def is_stopped_for_good(self):
        """Whether `experiments.sh stop` ended it, so that the kit does not restart the task (job/lib/restart.sh)."""
        return bool(self._line("stop"))

    @cached
    def unconnected(self):
        """If ranks never communicated, the lines of job/meeting.py: what it saw, what to do, the groups."""
        return read(f"{self.folder}/unconnected").splitlines()

    @property
    def nodes(self):
        return self._line("nodes")

    @cached
    def beat(self):
        return changed(f"{self.folder}/heartbeat")

    @cached
    def usage(self):
        """NodeUsage of each node that has one."""
        names = [name for name in names_in(self.folder) if name.startswith("usage_") and name.endswith(".tsv")]
        return [usage for usage in (read_usage(f"{self.folder}/{name}") for name in names) if usage]

    @cached
    def _times(self):
        found = re.findall(r"^(began|ended) (\d+(?:\.\d+)?)$", self._line("times"), re.MULTILINE)
        return {word: float(when) for word, when in found}

    @cached
    def began(self):
        """The time of the start; None if it failed during the start."""
        return self._times["began"] if "began" in self._times else changed(f"{self.folder}/nodes")

    @property
    def is_running(self):
        return not self.cause and self is self.task.attempts[-1] and self.task.state in ("running", "suspended")

    @cached
    def ended(self):
        """The time of the end; now if it runs. If the batch script was killed too, when the attempt was last seen."""
        if "ended" in self._times:
            return self._times["ended"]
        if self.is_running:
            return time.time()
        seen = None
        if not self._times:
            seen = changed(f"{self.folder}/cause")
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
