"""The statistics of repeats over seeds."""

import math
import statistics
from collections import Counter


def student_t(probability, degrees):
    """Return the two-sided quantile t of Student's distribution: P(|T| <= t) = probability. degrees is a whole number.

    Bisects the closed form of P (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
    """

    def inside(t):
        angle = math.atan(t / math.sqrt(degrees))
        cosine, sine = math.cos(angle), math.sin(angle)
        if degrees % 2:
            term, total = cosine, cosine if degrees > 1 else 0.0
            for j in range(3, degrees - 1, 2):
                term *= cosine * cosine * (j - 1) / j
                total += term
            return 2 / math.pi * (angle + sine * total)
        term = total = 1.0
        for j in range(2, degrees - 1, 2):
            term *= cosine * cosine * (j - 1) / j
            total += term
        return sine * total

    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < probability else (low, middle)
    return high


def summary(values):
    """Return mean, standard deviation and half the 95 % interval of the mean; one value has only a mean."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, None, None
    deviation = statistics.stdev(values)
    return mean, deviation, student_t(0.95, len(values) - 1) * deviation / math.sqrt(len(values))


def metrics(trials):
    """Yield for each command its metrics over the seeds, and the runs without a result that counts."""
    groups = {}
    for trial in trials:
        groups.setdefault(trial.command, []).append(trial)
    for command, members in groups.items():
        results = [trial.result for trial in members if trial.result]
        rows = []
        for metric in dict.fromkeys(metric for result in results for metric in result):
            values = [result[metric] for result in results if math.isfinite(result.get(metric, math.nan))]
            if values:
                mean, deviation, interval = summary(values)
                row = {"metric": metric, "runs": len(values), "mean": mean}
                row.update(deviation=deviation, interval=interval)
                rows.append(row)
        without = [*_without(members), *_unconnected(members), *_older(members)]
        yield {"command": command, "tasks": len(members), "metrics": rows, "without": without}


def _without(trials):
    """Yield the trials that are not in the averages, and why."""
    for trial in trials:
        label = trial.name + (f" ({trial.seed})" if trial.seed else "")
        if trial.state != "completed":
            yield f"{label}: {trial.state}"
        elif trial.result is None:
            yield f"{label}: completed, without a result.json or a .jsonl file in its OUTPUT_PATH"
        else:
            for metric, value in trial.result.items():
                if not math.isfinite(value):
                    yield f"{label}: {metric} is {value}"


def _unconnected(trials):
    """Yield results that count although the ranks may each have trained separately."""
    for trial in trials:
        if trial.task.unconnected:
            yield f"{trial.name}: {trial.task.unconnected[0]}"


def _older(trials):
    """Yield one line for each older run."""
    runs = {}
    for trial in trials:
        for task in trial.older:
            runs.setdefault(task.run.folder, []).append(task)
    for tasks in runs.values():
        states = Counter(task.state for task in tasks)
        counted = ", ".join(f"{count} {state}" for state, count in states.items())
        yield f"an older run, job {tasks[0].run.job}, is not counted: {counted}"
