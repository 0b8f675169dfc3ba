"""Computes the cost of attempts, how much of the request they used, and what to request next time."""

import math
import statistics
from dataclasses import dataclass

from slurm import duration as clock

GIB = 2**30
MEMORY_MARGIN = 1.2
TIME_MARGIN = 1.25
LEAST_SECONDS = 300  # the shortest time limit to advise
WORTH_SAYING = 0.9  # share of the request: advice above it would save nothing


@dataclass
class Rates:
    """Prices of an hour of a GPU, or of a node."""

    of_node: bool = False
    common: float = None
    named: dict = None  # type of GPU, feature or partition -> price

    def of(self, run):
        for feature in run.request.features:
            if feature in (self.named or {}):
                return self.named[feature]
        return self.common

    def cost(self, attempt):
        """Return the cost; None if no rate is known, or for a GPU rate without GPUs."""
        rate = self.of(attempt.run)
        if rate is None or not (self.of_node or attempt.run.request.gpus):
            return None
        return rate * (attempt.node_hours if self.of_node else attempt.gpu_hours)

    def total(self, attempts):
        costs = [cost for cost in map(self.cost, attempts) if cost is not None]
        return sum(costs) if costs else None


def requests(trials, rates):
    """Yield for each different request its time, usage and advice; requests of older runs are separate."""
    groups = {}
    for trial in trials:
        for attempt in trial.attempts:
            groups.setdefault((False, attempt.run.request), []).append((trial, attempt))
    for trial in trials:
        for attempt in trial.older_attempts:
            groups.setdefault((True, attempt.run.request), []).append((trial, attempt))
    for (older, _), members in groups.items():
        attempts = [attempt for _, attempt in members]
        run = attempts[0].run
        seconds = {}  # task -> seconds
        for trial, attempt in members:
            seconds[trial.name] = seconds.get(trial.name, 0.0) + attempt.seconds
        # Only with this request: a task may have failed with it and completed with another.
        completed = {trial.name for trial, attempt in members if attempt.cause == "finished"}
        done = [seconds[name] for name in completed]
        used = usage(attempts)
        entry = {
            **run.request._asdict(),
            "machine": ", ".join(run.request.features),
            "older": older,
            "jobs": list(dict.fromkeys(attempt.run.job for attempt in attempts)),
            "tasks": len(seconds),
            "completed": len(done),
            "attempts": len(attempts),
            "seconds": sum(attempt.seconds for attempt in attempts),
            "mean_task_seconds": statistics.fmean(done) if done else None,
            "longest_task_seconds": max(done) if done else None,
            "longest_attempt_seconds": max(attempt.seconds for attempt in attempts),
            "gpu_hours": sum(attempt.gpu_hours for attempt in attempts),
            "rate": rates.of(run),
            "cost": rates.total(attempts),
            "usage": used,
        }
        entry["advice"] = [] if older else list(advice(entry, {attempt.cause for attempt in attempts}))
        yield entry


def usage(attempts):
    """Return the usage over all nodes and attempts; None without samples."""
    nodes = [node for attempt in attempts for node in attempt.usage]
    seconds = sum(node.seconds for node in nodes)
    if not nodes:
        return None
    percents = [percent for node in nodes for percent in node.gpu_percent]
    return {
        "seconds": seconds,
        "peak_memory_bytes": max(node.peak_memory_bytes for node in nodes),
        "mean_cores": sum(node.cpu_seconds for node in nodes) / seconds if seconds else None,
        "peak_cores": max(node.peak_cores for node in nodes) or None,
        "gpu_percent": statistics.fmean(percents) if percents else None,
        "peak_gpu_memory_mib": max(node.peak_gpu_memory_mib for node in nodes) or None,
    }


def advice(entry, causes):
    """Yield options for the next submission, each with name, value and reason."""
    # A program that failed at its start has not shown its needs.
    shown = entry["completed"] or entry["longest_attempt_seconds"] >= LEAST_SECONDS
    used = entry["usage"] if shown else None
    yield from _memory(entry, used, "out_of_memory" in causes)
    if used:
        yield from _cpus(entry, used)
    yield from _time(entry, "time_limit" in causes)
    if used and used["gpu_percent"] is not None and used["gpu_percent"] < 50:
        why = (
            f"they were used for {used['gpu_percent']:.0f} % on average: fewer, more loader workers, or larger batches"
        )
        yield {"option": "--gpus", "value": None, "why": why}


def memory_option(size):
    """Return the size rounded up, as a value of --mem-per-gpu."""
    if size > 0.75 * GIB:
        return f"{math.ceil(size / GIB)}G"
    return f"{max(1, math.ceil(size / GIB * 4)) * 256}M"


def _memory(entry, used, exceeded):
    asked = entry["memory_bytes"]
    if exceeded:
        value = memory_option(asked * 2 / entry["processes"])
        yield {"option": "--mem-per-gpu", "value": value, "why": f"{asked / GIB:.1f} GiB a node were too little"}
    elif used:
        peak = used["peak_memory_bytes"]
        value = memory_option(peak * MEMORY_MARGIN / entry["processes"])
        if int(value[:-1]) * (GIB if value[-1] == "G" else 2**20) * entry["processes"] < asked * WORTH_SAYING:
            why = f"a node used {peak / GIB:.1f} of {asked / GIB:.1f} GiB at most"
            yield {"option": "--mem-per-gpu", "value": value, "why": f"{why}; {MEMORY_MARGIN} times that, rounded up"}


def _cpus(entry, used):
    asked, processes = entry["cpus"], entry["processes"]
    if used["peak_cores"] is None:
        return
    needed = processes * max(1, math.ceil(used["peak_cores"] / processes))
    if needed < asked:
        why = f"a node used {used['peak_cores']:.1f} of {asked} cores at most"
        yield {"option": "--cpus", "value": str(needed), "why": why}
    elif used["mean_cores"] > WORTH_SAYING * asked:
        why = f"a node used {used['mean_cores']:.1f} of {asked} cores on average: more may make it faster"
        yield {"option": "--cpus", "value": str(2 * asked), "why": why}


def _time(entry, exceeded):
    asked, longest = entry["time_limit_seconds"], entry["longest_task_seconds"]
    if asked is None:
        return
    if exceeded:
        why = f"{clock(asked)} were too short, and the program did not save when it was warned"
        yield {"option": "--time", "value": clock(2 * asked), "why": why}
    elif longest is not None:
        unit = 60 if longest < 3600 else 900
        needed = max(LEAST_SECONDS, unit * math.ceil(longest * TIME_MARGIN / unit))
        if needed < asked * WORTH_SAYING:
            why = (
                f"the longest task ran for {clock(longest)}; {TIME_MARGIN} times that, at least {clock(LEAST_SECONDS)}"
            )
            yield {"option": "--time", "value": clock(needed), "why": why}
        elif longest > asked:
            why = f"the longest task ran for {clock(longest)} in all: with this it would need one attempt"
            yield {"option": "--time", "value": clock(needed), "why": why}
