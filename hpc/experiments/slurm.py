"""Asks Slurm for its queue, once for all jobs, and reads and writes its time format."""

import collections
import os
import re
import subprocess
import sys
import time

from cached import cached

LIVE_FIELDS = "%F|%K|%T|%r|%L|%S|%j|%Z"  # of Live


def ask(*command):
    """Return (output of a Slurm command, None), or (its output, why it failed)."""
    try:
        answer = subprocess.run(  # noqa: S603 # the words are the kit's own, and no shell reads them
            command, capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=10, check=False
        )
    except FileNotFoundError:
        return "", f"there is no {command[0]} on this machine"
    except subprocess.TimeoutExpired:
        return "", f"{command[0]} has not answered for 10 s"
    if answer.returncode:
        return answer.stdout, (answer.stderr.strip().splitlines() or [f"{command[0]}: status {answer.returncode}"])[-1]
    return answer.stdout, None


class Live(collections.namedtuple("Live", "array number state reason left start name folder")):
    """A job in the queue, or a task of an array. `array` is its id or the job's, `number` the task's or N/A."""

    @property
    def index(self):
        return int(self.number) if self.number.isdigit() else None

    @property
    def waits(self):
        return self.state in ("PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT")

    @property
    def is_held(self):
        """Whether it does not start until somebody releases it. Of a failed start, squeue writes a sentence."""
        return self.waits and (self.state != "PENDING" or bool(re.search(r"^JobH[eo]ld|\bheld\b", self.reason)))

    @property
    def id(self):
        return self.array if self.index is None else f"{self.array}_{self.number}"


class Slurm:
    """The queue of this user's jobs. Slurm is asked only when the first answer is needed."""

    def __init__(self, wanted=True):
        self.wanted, self.asked = wanted, None

    @cached
    def _answer(self):
        if not self.wanted:
            return "", "Slurm was not asked"
        self.asked = time.time()
        return ask("squeue", "--all", "--noheader", "--array", f"--user={os.getuid()}", f"--format={LIVE_FIELDS}")

    @property
    def silence(self):
        """Why Slurm did not answer."""
        return self._answer[1]

    @cached
    def by_name(self):
        """Name of a job's working directory -> its jobs."""
        found = collections.defaultdict(list)
        for line in self._answer[0].splitlines():
            fields = line.split("|", 7)
            if len(fields) == 8:
                job = Live(*fields)
                found[os.path.basename(job.folder)].append(job)
        return found

    @cached
    def by_step(self):
        """Name of a step -> its job, for runs in an allocation (--here)."""
        jobs = {job.id: job for found in self.by_name.values() for job in found}
        answer = ask("squeue", "--all", "--steps", "--noheader", f"--user={os.getuid()}", "--format=%i|%j")[0]
        steps = (line.split("|", 1) for line in answer.splitlines() if "|" in line)
        return {name: jobs[step.split(".")[0]] for step, name in steps if step.split(".")[0] in jobs}

    def say_silence(self):
        if self.silence:
            say(f"Slurm does not answer ({self.silence}): this is what the runs' own files say")


def duration(seconds):
    """Return the duration as Slurm writes it: [days-]hours:minutes:seconds."""
    seconds = round(seconds)
    days, rest = divmod(seconds, 86400)
    return f"{days}-" * (days > 0) + f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def seconds_of(text):
    """Return the seconds of such a duration."""
    days, _, clock = text.rpartition("-")
    seconds = 0
    for part in re.findall(r"\d+", clock):
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def indices(text):
    """Return the indices of sbatch's --array, such as 1-3,7%2."""
    found = []
    for part in text.split("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found.extend(range(int(first), int(last or first) + 1))
    return found


def say(message):
    print(message, file=sys.stderr)
