"""Reads run directories (lib/run_directory.sh): requests, tasks, results, attempts, and what they used."""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from runs import facts_of

AXES = ("step", "iteration", "epoch")  # of a curve, the first that a line has


@dataclass
class Run:
    """One submission: what was asked for, of each node."""

    folder: Path
    experiment: str
    job: str
    nodes: int
    gpus: int
    processes: int
    cpus: int
    memory_bytes: int
    time_limit: str
    features: tuple  # the words that say which machine: type of GPU, features, partition

    @property
    def machine(self):
        return ", ".join(self.features)

    @property
    def request(self):
        """What makes two runs comparable."""
        return self.features, self.nodes, self.gpus, self.cpus, self.memory_bytes, self.time_limit


@dataclass
class NodeUsage:
    """What one node used in one attempt."""

    seconds: float
    cpu_seconds: float
    peak_cores: float
    peak_memory_bytes: int
    gpu_percent: list  # of each sample that has one
    peak_gpu_memory_mib: float


@dataclass
class Attempt:
    """From the start of the batch script to its end."""

    run: Run
    number: int
    cause: str
    began: float
    ended: float
    usage: list

    @property
    def kind(self):
        """The cause without the rank and the node."""
        return " ".join(self.cause.split()[:2])

    @property
    def seconds(self):
        return max(0.0, self.ended - self.began)

    @property
    def node_hours(self):
        return self.seconds * self.run.nodes / 3600

    @property
    def gpu_hours(self):
        return self.node_hours * self.run.gpus


@dataclass
class Task:
    """One line, seed or point of an experiment, over all runs that have it."""

    name: str
    what: str = ""
    state: str = "unknown"
    folder: Path = None
    result: dict = None
    attempts: list = field(default_factory=list)

    @property
    def command(self):
        return re.sub(r"^seed \d+: ", "", self.what)

    @property
    def seed(self):
        found = re.match(r"seed \d+", self.what)
        return found[0] if found else ""


def text_of(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def read_run(folder):
    facts = facts_of(folder)
    asked = dict(
        word[2:].partition("=")[::2] for word in text_of(folder / "sbatch_argv").split("\0") if word[:2] == "--"
    )
    gpus = int(facts.get("gpus", 0))
    kind = asked.get("gpus-per-node", "").rpartition(":")[0] or ("GPU" if gpus else "CPU")
    features = [kind, asked.get("constraint", ""), asked.get("partition", "") and "partition " + asked["partition"]]
    return Run(
        folder=folder,
        experiment=facts.get("exp_name", ""),
        job=(text_of(folder / "job_id").split() or ["-"])[0],
        nodes=int(facts.get("nodes", 0)),
        gpus=gpus,
        processes=int(facts.get("processes_per_node", 1)),
        cpus=int(facts.get("cpus", 0)),
        memory_bytes=int(facts.get("mem_megabytes", 0)) * 2**20,
        time_limit=facts.get("time", ""),
        features=tuple(word for word in features if word),
    )


def read_usage(path):
    """Of one node, and when its last line was written; None where there is no line. Columns: see usage.py."""
    rows = []
    for line in text_of(path).splitlines()[1:]:
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
        if row[0] - since[0] >= 1:  # of less a share means nothing
            peak, since = max(peak, (row[1] - since[1]) / (row[0] - since[0])), row
    usage = NodeUsage(
        seconds=last[0] - first[0],
        cpu_seconds=last[1] - first[1],
        peak_cores=peak,
        peak_memory_bytes=max(row[2] for row in rows),
        gpu_percent=[row[3] for row in rows if row[3] != ""],
        peak_gpu_memory_mib=max((row[4] for row in rows if row[4] != ""), default=0.0),
    )
    return usage, last[0]


def read_attempts(run, folder, state):
    attempts = []
    for path in sorted(folder.glob("attempt_*"), key=lambda path: int(path.name[8:])):
        times = dict(line.split(" ", 1) for line in text_of(path / "times").splitlines() if " " in line)
        if "began" not in times:
            continue  # broken off as it began
        usage, last = [], 0.0
        for file in sorted(path.glob("usage_*.tsv")):
            found = read_usage(file)
            if found:
                usage.append(found[0])
                last = max(last, found[1])
        began = float(times["began"])
        cause = text_of(path / "cause").strip()
        running = not cause and state == "running"
        cause = cause or ("running" if running else "unknown")
        # An end that took the batch script along stands nowhere: the last sample is the last that was seen.
        ended = float(times["ended"]) if "ended" in times else time.time() if running else max(began, last)
        attempts.append(Attempt(run, int(path.name[8:]), cause, began, ended, usage))
    return attempts


def lines_of(path):
    """The objects of a file of JSON lines."""
    for text in text_of(path).splitlines():
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def numbers_of(value):
    return {name: float(number) for name, number in value.items() if type(number) in (int, float)}


def result_of(task):
    """The metrics of a task's folder: names and finite numbers; None when it has left none."""
    output = task / "output"
    found = None
    if (output / "result.json").is_file():
        texts = [text_of(output / "result.json")]
    else:
        texts = [line for file in sorted(output.glob("*.jsonl")) for line in text_of(file).splitlines()[-1:]]
    for text in texts:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            found = {**(found or {}), **numbers_of(value)}
    return found


def curves_of(task):
    """Metric -> (name of the axis, points (x, y)), of the .jsonl files of a task's OUTPUT_PATH."""
    curves = {}
    for file in sorted((task / "output").glob("*.jsonl")):
        for index, line in enumerate(lines_of(file), 1):
            numbers = numbers_of(line)
            axis = next((name for name in AXES if name in numbers), "line")
            x = numbers.get(axis, index)
            for name, y in numbers.items():
                if name not in (*AXES, "attempt"):
                    curves.setdefault((name, axis), []).append((x, y))
    return {key: points for key, points in curves.items() if len(points) > 1}


def read_experiments(folders):
    """Experiment -> its tasks by their names.

    Of a task that several runs have, the last that completed counts; its attempts in all of them do.
    """
    experiments = {}
    for folder in folders:
        run = read_run(folder)
        tasks = experiments.setdefault(run.experiment, {})
        for line in text_of(folder / "tasks").splitlines():
            number, name, what = line.split("\t", 2)
            path = folder / f"task_{number}"
            state = text_of(path / "state").strip() or "unknown"
            known = name in tasks
            task = tasks.setdefault(name, Task(name))
            task.attempts += read_attempts(run, path, state)
            if known and (task.state == "completed" or state == "enqueued"):
                continue
            task.what, task.state, task.folder = what, state, path
            task.result = result_of(path) if state == "completed" else None
    return experiments
