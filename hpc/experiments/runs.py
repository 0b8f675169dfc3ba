"""The runs of a project, as their folders tell (lib/run_directory.sh) and Slurm's queue. For experiments.py and why.py.

Slurm is asked once for all jobs; what has ended is known from the files alone.
"""

import fnmatch
import functools
import os
import re
import subprocess
import sys
import time

from files import changed, read, tail
from measured import measured, progress_of

FINAL = ("completed", "failed", "cancelled")
LIVE_FIELDS = "%F|%K|%A|%T|%r|%L|%S|%N|%j|%o"
"""Array or job, index, job, state, reason, time left, start, nodes, name, command with its arguments."""


FACT = re.compile(r"^fact\[(\w+)\]=(.*)$", re.MULTILINE)
ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}


def unquoted(text):
    """What bash's ${value@Q} was of."""
    if text.startswith("$'"):
        return ESCAPE.sub(_unescaped, text[2:-1])
    return text[1:-1].replace("'\\''", "'")


def facts_of(folder):
    """A run's request, as lib/run_directory.sh has written it; nothing where it has not."""
    return {name: unquoted(value) for name, value in FACT.findall(read(os.path.join(folder, "facts")) or "")}


def _unescaped(match):
    code = match[1]
    return chr(int(code, 8)) if code[0] in "01234567" else ESCAPED.get(code, code)


def ask(*command):
    """(what a command of Slurm prints, None), or (what it has printed, why it failed)."""
    try:
        answer = subprocess.run(  # noqa: S603 # the words are ours, and no shell reads them
            command, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except FileNotFoundError:
        return "", f"there is no {command[0]} on this machine"
    except subprocess.TimeoutExpired:
        return "", f"{command[0]} has not answered for 10 s"
    if answer.returncode:
        return answer.stdout, (answer.stderr.strip().splitlines() or [f"{command[0]}: status {answer.returncode}"])[-1]
    return answer.stdout, None


class Slurm:
    """Its queue, of this user's jobs. `silence` tells why it could not be asked."""

    def __init__(self, wanted=True):
        self.asked = time.time()
        self.silence = None
        self.jobs = []
        if not wanted:
            self.silence = "Slurm was not asked"
            return
        answer, self.silence = ask(
            "squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--format={LIVE_FIELDS}"
        )
        for line in answer.splitlines():
            fields = line.split("|", 9)
            if len(fields) == 10:
                self.jobs.append(Live(*fields))

    @functools.cached_property
    def by_run(self):
        """(run directory, task) -> its job; one that runs before one that waits."""
        found = {}
        for job in self.jobs:
            key = job.directory, job.task
            if key not in found or found[key].state == "PENDING":
                found[key] = job
        return found

    @functools.cached_property
    def by_id(self):
        """Job or array -> its entries."""
        found = {}
        for job in self.jobs:
            found.setdefault(job.array, []).append(job)
        return found


class Live:
    """A job in the queue, or a task of an array."""

    def __init__(self, array, index, job, state, reason, left, start, nodes, name, command):
        self.array, self.job, self.state, self.reason = array, job, state, reason
        self.left, self.start, self.nodes, self.name = left, start, nodes, name
        self.index = int(index) if index.isdigit() else None
        found = re.search(r"/hpc/batch\.sh (/.*?)((?: offset=\d+| rapid_cycle)*)$", command)
        self.directory = found[1] if found else None
        words = found[2] if found else ""
        offset = re.search(r"offset=(\d+)", words)
        self.task = (self.index if self.index is not None else 1) + int(offset[1] if offset else 0)
        self.id = array if self.index is None else f"{array}_{index}"


class Attempt:
    """One start of a task."""

    def __init__(self, folder, number):
        self.folder, self.number = os.path.join(folder, f"attempt_{number}"), number

    @functools.cached_property
    def cause(self):
        return (read(os.path.join(self.folder, "cause")) or "").strip()

    @functools.cached_property
    def start(self):
        return changed(os.path.join(self.folder, "nodes"))

    @functools.cached_property
    def end(self):
        return changed(os.path.join(self.folder, "cause"))

    @functools.cached_property
    def beat(self):
        return changed(os.path.join(self.folder, "heartbeat"))

    @property
    def nodes(self):
        return (read(os.path.join(self.folder, "nodes")) or "").strip()


class Task:
    """A task of a run, with what its folder and the queue tell."""

    def __init__(self, run, number):
        self.run, self.number = run, number
        self.folder = os.path.join(run.folder, f"task_{number}")
        self.live = run.slurm.by_run.get((run.folder, number)) or run.live_by_id(number)

    @functools.cached_property
    def attempts(self):
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        numbers = sorted(int(name[8:]) for name in names if name.startswith("attempt_") and name[8:].isdigit())
        return [Attempt(self.folder, number) for number in numbers]

    @functools.cached_property
    def noted(self):
        """The state in its file."""
        return (read(os.path.join(self.folder, "state")) or "unknown").strip()

    @functools.cached_property
    def state(self):
        """As system 000 named them, and `cancelled`."""
        noted, slurm = self.noted, self.run.slurm
        if noted == "completed":
            return noted
        if noted == "failed":
            return "cancelled" if self.attempts and self.attempts[-1].cause == "cancelled" else noted
        waits = self.live is not None and self.live.state == "PENDING"
        if slurm.silence or (self.live and not waits and noted != "enqueued"):
            return noted
        if self.live and not waits:
            return "running"
        if waits and noted in ("enqueued", "paused"):
            return noted
        # The queue says otherwise than the file: which is newer?
        if self.run.is_being_sent or (changed(os.path.join(self.folder, "state")) or 0) >= slurm.asked - 1:
            return noted
        if waits:  # Cycles run while the long job waits.
            return noted if self.run.facts.get("cycles") else "paused"
        return "failed" if noted == "running" else "cancelled"

    @functools.cached_property
    def elapsed(self):
        """Seconds of all attempts."""
        total = 0.0
        for attempt in self.attempts:
            if attempt.start is not None:
                total += max(0.0, self.end_of(attempt) - attempt.start)
        return total

    def end_of(self, attempt):
        if attempt.end is not None:
            return attempt.end
        if attempt is self.attempts[-1] and self.state == "running":
            return time.time()
        return attempt.beat or changed(os.path.join(self.folder, "log.txt")) or attempt.start

    @functools.cached_property
    def metrics(self):
        """Name -> [last, best] of what it has measured."""
        return measured(os.path.join(self.folder, "output"))

    @functools.cached_property
    def progress(self):
        """(what, done, of how many or None); None where nothing tells."""
        found = None
        if self.noted != "completed":
            found = progress_of(tail(os.path.join(self.folder, "log.txt")))
        for what in ("epoch", "step"):
            if not found and what in self.metrics:
                found = what, self.metrics[what][0], None
        return found


class Run:
    """A run directory."""

    def __init__(self, folder, slurm):
        self.folder, self.slurm = folder, slurm

    @functools.cached_property
    def facts(self):
        return facts_of(self.folder)

    @functools.cached_property
    def jobs(self):
        return (read(os.path.join(self.folder, "job_id")) or "").split()

    @functools.cached_property
    def is_being_sent(self):
        return not self.jobs and time.time() - (changed(self.folder) or 0) < 180

    @functools.cached_property
    def arrays(self):
        """For each job: (offset, indices), indices None where it is no array."""
        found = []
        for name in os.listdir(self.folder):
            if name == "sbatch_argv" or name.startswith("sbatch_argv_"):
                offset = int(name[12:] or 0)
                words = (read(os.path.join(self.folder, name)) or "").split("\0")
                listed = [word[8:] for word in words if word.startswith("--array=")]
                found.append((offset, indices(listed[0]) if listed else None))
        return sorted(found, key=lambda entry: entry[0])

    @functools.cached_property
    def numbers(self):
        """Of the tasks that were sent."""
        count = int(self.facts.get("tasks") or 1)
        if count == 1:
            return [1]
        sent = [index + offset for offset, listed in self.arrays for index in listed or []]
        return sent or list(range(1, count + 1))

    @functools.cached_property
    def tasks(self):
        return [Task(self, number) for number in self.numbers]

    def task(self, number):
        return Task(self, number)

    def live_by_id(self, number):
        """Where the path of the folder cannot be read from squeue's line."""
        for position, job in enumerate(self.jobs):
            for live in self.slurm.by_id.get(job, ()):
                if live.directory in (None, self.folder):
                    if live.index is None:
                        return live
                    if position < len(self.arrays) and live.index + self.arrays[position][0] == number:
                        return live
        return None

    def job_of(self, number):
        """Its job as people write it: ID, or ARRAY_INDEX."""
        if len(self.jobs) == 1 and int(self.facts.get("tasks") or 1) == 1:
            return self.jobs[0]
        for job, (offset, listed) in zip(self.jobs, self.arrays):
            if listed and number - offset in listed:
                return f"{job}_{number - offset}"
        return self.jobs[0] if self.jobs else None

    @property
    def name(self):
        """Of the experiment; without one, of the job."""
        own = self.facts.get("exp_name", "")
        return own if own != self.facts.get("run_id") else self.facts.get("job_name", own)


def indices(text):
    """Of sbatch's --array, such as 1-3,7%2."""
    found = []
    for part in text.split("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found.extend(range(int(first), int(last or first) + 1))
    return found


STAMP = re.compile(r"_(\d{8}-\d{6})_(\d+)$")


def all_runs(outputs, slurm):
    """The newest first. The name has the time of the submission."""
    found = []
    try:
        entries = list(os.scandir(outputs))
    except OSError:
        return []
    for entry in entries:
        stamp = STAMP.search(entry.name)
        if stamp:
            found.append((stamp[1], int(stamp[2]), entry.path))
    return [Run(path, slurm) for _, _, path in sorted(found, reverse=True)]


class UnknownJobError(Exception):
    """What was named is no run of this project."""


def find(word, outputs, slurm):
    """(run, number of the task or None) of a job id, ARRAY_INDEX, run directory, folder of a task, or name."""
    path = os.path.realpath(word)
    if os.path.isfile(os.path.join(path, "facts")):
        return Run(_as_written(path), slurm), None
    folder, base = os.path.split(path)
    if base.startswith("task_") and base[5:].isdigit() and os.path.isfile(os.path.join(folder, "facts")):
        return Run(_as_written(folder), slurm), int(base[5:])
    runs = all_runs(outputs, slurm)
    if re.fullmatch(r"\d+(_\d+)?", word):
        found = _find_job(word, runs)
        if found:
            return found
    for run in runs:
        if os.path.basename(run.folder) == word or word in (run.facts.get("exp_name"), run.facts.get("job_name")):
            return run, None
    raise UnknownJobError(
        f"{word!r} is neither a job, nor a run directory, nor an experiment of {outputs}; "
        "bash hpc/experiments.sh list shows what there is"
    )


def _as_written(path):
    """The name by which the run knows itself, and Slurm its job."""
    facts = Run(path, None).facts.get("run_directory")
    return facts if facts and os.path.isdir(facts) and os.path.samefile(facts, path) else path


def _find_job(word, runs):
    job, _, index = word.partition("_")
    for run in runs:
        if job in run.jobs:
            if not index:
                return run, None
            offset, listed = run.arrays[run.jobs.index(job)]
            if listed and int(index) in listed:
                return run, int(index) + offset
    if index:
        return None
    # The id of a task of an array, or of a job that another continues: only the logs know it.
    line = re.compile(rf"^== job {job}, attempt ", re.MULTILINE)
    for run in runs:
        for task in run.tasks:
            if task.attempts and line.search(read(os.path.join(task.folder, "log.txt")) or ""):
                return run, task.number
    return None


def matches(name, pattern):
    return fnmatch.fnmatchcase(name, pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*")


def duration(seconds):
    """As Slurm writes it."""
    seconds = int(seconds)
    days, rest = divmod(seconds, 86400)
    return f"{days}-" * (days > 0) + f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def say(message):
    print(message, file=sys.stderr)
