"""The one reader of run directories (lib/run_directory.sh): Run, its Tasks, their Attempts.

An ended run is read only from its files, a live one also from Slurm's queue. Everything is read when it is first used.
"""

import collections
import os
import re
import time

from attempts import Attempt
from cached import cached
from files import changed, facts_of, has_line, names_in, read, tail
from measured import measured, metric_files_in
from progress import loss_of, progress_of
from slurm import indices, seconds_of

FINAL = ("completed", "failed", "cancelled", "stopped")


# The request of a run, for each node. `features` are words that select the machine: type of GPU, features, partition.
Request = collections.namedtuple("Request", "features nodes gpus processes cpus memory_bytes time_limit_seconds")


class Task:
    """A task of a run."""

    def __init__(self, run, number):
        self.run, self.number = run, number
        self.folder = f"{run.folder}/task_{number}"
        self.log, self.output = f"{self.folder}/log.txt", f"{self.folder}/output"

    @property
    def live(self):
        """The task's job in the queue, or None."""
        return self.run.live.get(self.number)

    @cached
    def attempts(self):
        numbers = sorted(
            int(name[8:]) for name in names_in(self.folder) if name.startswith("attempt_") and name[8:].isdigit()
        )
        return [Attempt(self, number) for number in numbers]

    @cached
    def noted(self):
        """The state in the file `state`."""
        return (read(f"{self.folder}/state") or "unknown").strip()

    @property
    def was_stopped(self):
        """Whether `experiments.sh stop` ended it after it had saved."""
        last = self.attempts[-1] if self.attempts else None
        return bool(last) and self.noted == "failed" and last.cause == "notice request" and last.is_stopped_for_good

    @property
    def unconnected(self):
        """Attempt.unconnected of the last attempt."""
        return self.attempts[-1].unconnected if self.attempts else []

    @property
    def is_held(self):
        """Whether it waits until somebody releases it."""
        return self.state in ("enqueued", "paused") and self.live is not None and self.live.is_held

    @cached
    def state(self):
        """One of the states of job/lib/interruption.sh, or `cancelled`, `stopped` or `suspended`."""
        noted, slurm = self.noted, self.run.slurm
        if noted == "completed":
            return noted
        if self.was_stopped:
            return "stopped"
        if noted == "failed" and self.attempts:
            return "cancelled" if self.attempts[-1].cause == "cancelled" else noted
        if noted == "failed":
            return noted
        if slurm.silence:
            return noted
        if self.live and self.live.state in ("SUSPENDED", "STOPPED"):
            return "suspended"
        waits = self.live is not None and self.live.waits
        if self.live and not waits:
            return "running" if noted == "enqueued" else noted
        if waits and noted in ("enqueued", "paused"):
            return noted
        # The queue and the file disagree: the newer one counts.
        if self.run.is_being_sent or (changed(os.path.join(self.folder, "state")) or 0) >= slurm.asked - 1:
            return noted
        if waits:  # Cycles run while the training's job waits.
            return noted if self.run.facts.get("cycles") else "paused"
        return "failed" if noted == "running" or (noted == "enqueued" and self.has_begun) else "cancelled"

    @property
    def has_begun(self):
        """Whether a batch script that did not record its state started, and ended by something else than scancel.

        Slurm opens the log when the batch script starts.
        """
        # Slurm 26.05 names no node, but the signal of a plain scancel.
        cancelled = r"\*\*\* JOB \d+ (?:ON \S+ )?CANCELLED AT \S+ (?:DUE to SIGNAL \w+ )?\*\*\*"
        return bool(self.attempts) or (changed(self.log) is not None and not re.search(cancelled, tail(self.log)))

    @property
    def was_sent(self):
        """Whether the task was sent, according to the files."""
        return any(self.number - offset in (listed or [1]) for offset, listed in self.run.arrays)

    @property
    def elapsed(self):
        """The seconds of all attempts."""
        return sum(attempt.seconds for attempt in self.attempts)

    @cached
    def metrics(self):
        """Name -> [last, best] of the task's metrics; if it wrote none, the last loss that it printed."""
        found = measured(self.output, self.metric_files)
        loss = None if found else self._at_the_end(loss_of)
        return found if loss is None else {"loss": [loss, None]}

    def _at_the_end(self, find):
        """Return find(the end of the log), or of a longer end: the tracebacks of a failure may fill the first."""
        found = find(tail(self.log))
        return find(tail(self.log, 1 << 16)) if found is None else found

    @cached
    def metric_files(self):
        return metric_files_in(self.output)

    @cached
    def progress(self):
        """(what, done, total or None); None if it is unknown."""
        found = None
        if self.noted != "completed":
            found = self._at_the_end(progress_of)
        for what in ("epoch", "step"):
            if not found and what in self.metrics:
                found = what, self.metrics[what][0], None
        return found


class Run:
    """A run directory: one submission."""

    def __init__(self, folder, slurm):
        self.folder, self.slurm = folder, slurm

    @cached
    def facts(self):
        return facts_of(self.folder)

    def number_in(self, name, default=0):
        """Return a fact that is a whole number."""
        return int(self.facts.get(name) or default)

    @cached
    def request(self):
        """The request; runs with equal requests are comparable."""
        words = next(iter(self.sent.values()), [])
        asked = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
        gpus = self.number_in("gpus")
        kind = asked.get("gpus-per-node", "").rpartition(":")[0] or ("GPU" if gpus else "CPU")
        partition = asked.get("partition", "") and f"partition {asked['partition']}"
        return Request(
            features=tuple(word for word in (kind, asked.get("constraint", ""), partition) if word),
            nodes=self.number_in("nodes"),
            gpus=gpus,
            processes=self.number_in("processes_per_node", 1),
            cpus=self.number_in("cpus"),
            memory_bytes=self.number_in("mem_megabytes") << 20,
            time_limit_seconds=seconds_of(self.facts.get("time", "")) or None,
        )

    @property
    def name(self):
        """The name of the experiment, or else of the job."""
        own = self.facts.get("exp_name", "")
        return own if own != self.facts.get("run_id") else self.job_name

    @property
    def job_name(self):
        return self.facts.get("job_name", "")

    @cached
    def is_fresh(self):
        """Whether it does not continue from the checkpoints of earlier runs."""
        if "resume" in self.facts:
            return not self.facts["resume"]
        # In a run of an older kit, --fresh moved the checkpoints to a name with the run's time.
        return os.path.isdir(f"{self.facts.get('checkpoint_directory')}.{self.facts.get('stamp')}")

    @cached
    def recorded(self):
        """The recorded job ids: one for each array, then those of jobs that continue a task (requeue forbidden)."""
        return read(f"{self.folder}/job_id").split()

    @cached
    def jobs(self):
        """The recorded job ids, or else those in the queue."""
        return self.recorded or sorted({job.array for job in self.queued if job.name == self.job_name}, key=int)

    @property
    def job(self):
        """The first job id, as a report shows it."""
        return self.jobs[0] if self.jobs else "-"

    @cached
    def is_being_sent(self):
        return not self.recorded and time.time() - (changed(self.folder) or 0) < 180

    @cached
    def sent(self):
        """The words of each sbatch command, by the offset of its array."""
        names = [re.fullmatch(r"sbatch_argv(?:_(\d+))?", name) for name in names_in(self.folder)]
        offsets = sorted((int(name[1] or 0), name[0]) for name in names if name)
        return {offset: read(os.path.join(self.folder, name)).split("\0") for offset, name in offsets}

    @cached
    def arrays(self):
        """(offset, indices) of each job as it was sent; indices is None if it is not an array."""
        found = []
        for offset, words in self.sent.items():
            listed = [word[8:] for word in words if word.startswith("--array=")]
            found.append((offset, set(indices(listed[0])) if listed else None))
        return found

    @cached
    def is_here(self):
        """Whether it runs in the user's allocation (--here), which may have many runs."""
        return bool(self.facts.get("here"))

    @cached
    def is_array(self):
        return self.number_in("tasks", 1) > 1

    @cached
    def numbers(self):
        """The numbers of the tasks that were sent."""
        if not self.is_array:
            return [1]
        sent = [index + offset for offset, listed in self.arrays for index in listed or []]
        return sorted(sent) or list(range(1, self.number_in("tasks") + 1))

    @cached
    def tasks(self):
        return [Task(self, number) for number in self.numbers]

    @cached
    def lines(self):
        """Number of a task -> (id in all runs of the experiment, description)."""
        rows = (line.split("\t", 2) for line in read(os.path.join(self.folder, "tasks")).splitlines())
        return {int(row[0]): (row[1], row[2]) for row in rows if len(row) == 3}

    @cached
    def queued(self):
        """The run's jobs in the queue: for tasks, for cycles, and the one that packs. Other jobs may use its folder.

        sbatch gets --chdir=RUN_DIRECTORY; SCRATCH may be another path to the same folder.
        """
        names = [prefix + self.job_name for prefix in ("", "cycle_", "pack_")]
        return [
            job
            for job in self.slurm.by_name.get(os.path.basename(self.folder), ())
            if (job.name in names or job.array in self.recorded)
            and (job.folder == self.folder or os.path.realpath(job.folder) == os.path.realpath(self.folder))
        ]

    @cached
    def live(self):
        """Task -> its job in the queue; a running job counts before a waiting one (a job and its cycles)."""
        if self.is_here:
            job = self.slurm.by_step.get(f"here_{self.facts.get('run_id', '')[len(self.job_name) + 1 :]}")
            return {1: job} if job else {}
        found = {}
        for job in self.queued:
            number = self.task_of(job)
            if number is not None and (number not in found or found[number].state == "PENDING"):
                found[number] = job
        return found

    def task_of(self, job):
        """Return the number of a queued job's task; None for the job that packs."""
        other = "" if job.array in self.recorded else job.name[: -len(self.job_name)]
        if other == "pack_":
            return None
        if not self.is_array:
            return 1
        array = job.array
        if other == "cycle_":  # Each array of cycles is sent right before its array of tasks.
            array = min((array for array in self.jobs if int(array) > int(job.array)), key=int, default=None)
        return self.number_of(array, job.index)

    @cached
    def placed(self):
        """(job, index) -> task, as it was sent."""
        pairs = zip(self.jobs, self.arrays)
        return {(job, index): index + offset for job, (offset, listed) in pairs for index in listed or ()}

    def number_of(self, job, index):
        """Return the number of the task with this index of a job; None if there is none."""
        if job in self.jobs[: len(self.arrays)]:
            return self.placed.get((job, index))
        # If the job continues a task of one of the arrays, the task's log names the job.
        could_be = [number for (_, other), number in self.placed.items() if other == index]
        if len(could_be) > 1:
            could_be = [number for number in could_be if self.continues(job, number)]
        return could_be[0] if could_be else None

    def continues(self, job, number):
        """Whether this job continues the task, or will (batch.sh, interruption.sh)."""
        pattern = rf"\bjob {job} continues it$|^== job {job}, attempt ".encode()
        return has_line(os.path.join(self.folder, f"task_{number}", "log.txt"), pattern)

    def job_of(self, number):
        """Return the task's job as users write it: ID or ARRAY_INDEX; with --here the run's name."""
        if self.is_here:
            return os.path.basename(self.folder)
        if not self.is_array:
            return self.jobs[-1] if self.jobs else None
        for (job, index), placed in self.placed.items():
            if placed == number:
                later = [later for later in self.jobs[len(self.arrays) :] if self.continues(later, number)]
                return f"{[job, *later][-1]}_{index}"
        return self.jobs[0] if self.jobs else None
