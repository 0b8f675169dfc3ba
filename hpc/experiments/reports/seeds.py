"""The statistics of repeats over seeds."""

import math
import statistics


def student_t(probability, degrees):
    """The two-sided quantile of Student's t distribution: P(|T| <= t) = probability, for whole degrees of freedom.

    By bisection of the closed form of P (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
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
    """Mean, standard deviation and half the 95 % interval of the mean; one value has a mean only."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, None, None
    deviation = statistics.stdev(values)
    return mean, deviation, student_t(0.95, len(values) - 1) * deviation / math.sqrt(len(values))


def metrics(tasks):
    """Of each command: its metrics over the seeds, and what has no result."""
    groups = {}
    for task in tasks:
        groups.setdefault(task.command, []).append(task)
    for command, members in groups.items():
        results = [task.result for task in members if task.result]
        rows = []
        for metric in dict.fromkeys(metric for result in results for metric in result):
            values = [result[metric] for result in results if math.isfinite(result.get(metric, math.nan))]
            if values:
                mean, deviation, interval = summary(values)
                row = {"metric": metric, "runs": len(values), "mean": mean}
                row.update(deviation=deviation, interval=interval)
                rows.append(row)
        yield {"command": command, "tasks": len(members), "metrics": rows, "without": list(_without(members))}


def _without(tasks):
    """The tasks that are not averaged over, and why."""
    for task in tasks:
        label = task.name + (f" ({task.seed})" if task.seed else "")
        if task.state != "completed":
            yield f"{label}: {task.state}"
        elif task.result is None:
            yield f"{label}: completed, without a result.json or a .jsonl file in its OUTPUT_PATH"
        else:
            for metric, value in task.result.items():
                if not math.isfinite(value):
                    yield f"{label}: {metric} is {value}"
