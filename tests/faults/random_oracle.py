"""The rules by which random_jobs.py judges a job.

Each program has recorded itself what happened to it (programs/short.py). The oracle compares that with the run
directories and with Slurm's list of jobs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SAVED, DONE, FAILED, KILLED = "saved", "done", "failed", "killed"


class Event(NamedTuple):
    """One line of the record."""

    seconds: float
    run: str
    job: str
    attempt: int
    rank: int
    process: int
    name: str
    value: int


@dataclass
class Attempt:
    """One start of the batch script, as the program and the kit recorded it."""

    folder: Path
    events: list[Event] = field(default_factory=list)

    @property
    def cause(self) -> str:
        path = self.folder / "cause"
        return path.read_text().strip() if path.exists() else "none"

    @property
    def nodes(self) -> str:
        return (self.folder / "nodes").read_text().strip()

    def outcome(self, ranks: int) -> str:
        ends = {event.rank: event.value for event in self.events if event.name == "end"}
        if any(status not in (0, 75) for status in ends.values()):
            return FAILED
        if len(ends) < ranks:
            return KILLED
        return SAVED if 75 in ends.values() else DONE

    @property
    def failure(self) -> str:
        first = next(event for event in self.events if event.name == "end" and event.value not in (0, 75))
        return rf"failed {first.value} {first.rank} node\d"


class Experiment:
    """All runs of one name."""

    def __init__(self, scratch: Path, name: str, ranks: int) -> None:
        self.name, self.ranks, self.outputs = name, ranks, scratch / "hpc_outputs"
        self.place = scratch / name / "checkpoints"

    @property
    def runs(self) -> list[Path]:
        found = [
            path
            for path in self.outputs.glob(f"{self.name}_*")
            if re.fullmatch(r"\d{8}-\d{6}_\d+", path.name[len(self.name) + 1 :])
        ]
        return sorted(found, key=lambda path: path.name.split("_")[-2:])

    @property
    def events(self) -> list[Event]:
        record = self.place / "record"
        lines = record.read_text().splitlines() if record.exists() else []
        found = []
        for line in lines:
            seconds, run, job, attempt, rank, process, name, value = line.split()
            found.append(Event(float(seconds), run, job, int(attempt), int(rank), int(process), name, int(value)))
        return found

    def attempts(self, run: Path) -> list[Attempt]:
        folders = sorted((run / "task_1").glob("attempt_*"), key=lambda path: int(path.name[8:]))
        mine = [event for event in self.events if event.run == run.name]
        return [Attempt(path, [event for event in mine if event.attempt == int(path.name[8:])]) for path in folders]

    def state(self, run: Path) -> str:
        return (run / "task_1" / "state").read_text().strip()

    def known_jobs(self) -> set[str]:
        found: set[str] = set()
        for run in self.runs:
            for name in ("jobs", "job_id"):
                path = run / name
                if path.exists():
                    found.update(line.split()[0] for line in path.read_text().splitlines() if line)
        return found

    @property
    def is_complete(self) -> bool:
        """Whether each rank has done all of its steps, according to the program's record."""
        return {event.rank for event in self.events if event.name == "end" and event.value == 0} == set(
            range(self.ranks)
        )

    def doubled(self, jobs: dict[str, dict[str, str]]) -> list[str]:
        """Report two programs with one rank at the same time, and jobs in Slurm that no run directory names."""
        said = [
            f"two of rank {event.rank} in attempt {event.attempt}, job {event.job}"
            for event in self.events
            if event.name == "doubled"
        ]
        known = self.known_jobs()
        said += [f"job {job} is in no run directory" for job in jobs if job not in known]
        spans: dict[int, list[tuple[float, float, tuple[str, int]]]] = {}
        for key in {(event.job, event.attempt, event.rank, event.process) for event in self.events}:
            times = [
                event.seconds for event in self.events if (event.job, event.attempt, event.rank, event.process) == key
            ]
            spans.setdefault(key[2], []).append((min(times), max(times), key[:2]))
        for rank, of_rank in spans.items():
            of_rank.sort()
            said += [
                f"rank {rank}: {first[2]} and {second[2]} overlap"
                for first, second in zip(of_rank, of_rank[1:])
                if second[0] < first[1]
            ]
        return said

    def lost_steps(self) -> list[str]:
        """After an attempt that has saved, the next attempt must continue with the next step."""
        said = []
        for rank in range(self.ranks):
            last = 0
            for event in self.events:
                if event.rank != rank:
                    continue
                if event.name == "began" and event.value != last:
                    said.append(f"rank {rank} began at step {event.value} after {last}")
                if event.name == "step":
                    last = event.value
        return said
