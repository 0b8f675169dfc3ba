"""Results of an experiment's tasks, over their seeds. Called by experiments.sh; the arguments are run directories.

A task's result is the file result.json in its OUTPUT_PATH, or the last line of a .jsonl file there: an object whose
numbers are the metrics. Of a task that several runs have (--only-missing, --resume), the last that completed counts.
"""

import argparse
import json
import math
import re
import statistics
import sys
from pathlib import Path


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


def result_of(task):
    """The metrics of a task's folder: names and finite numbers; None when it has left none."""
    output = task / "output"
    found = None
    if (output / "result.json").is_file():
        texts = [(output / "result.json").read_text()]
    else:
        texts = [line for file in sorted(output.glob("*.jsonl")) for line in file.read_text().splitlines()[-1:]]
    for text in texts:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            numbers = {name: float(number) for name, number in value.items() if type(number) in (int, float)}
            found = {**(found or {}), **numbers}
    return found


def read_tasks(runs):
    """ID -> (what it is, state, result), over all runs."""
    tasks = {}
    for run in runs:
        for line in (run / "tasks").read_text(errors="replace").splitlines():
            number, name, what = line.split("\t", 2)
            folder = run / f"task_{number}"
            state = (folder / "state").read_text().strip() if (folder / "state").is_file() else "unknown"
            before = tasks.get(name)
            if before and (before[1] == "completed" or state == "enqueued"):
                continue
            result = result_of(folder) if state == "completed" else None
            tasks[name] = (what, state, result)
    return tasks


def shown(number):
    return f"{number:.6g}"


def summary(values):
    """Mean, standard deviation and half the 95 % interval of the mean, as text; one value has a mean only."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return shown(mean), "-", "-"
    deviation = statistics.stdev(values)
    half = student_t(0.95, len(values) - 1) * deviation / math.sqrt(len(values))
    return shown(mean), shown(deviation), "± " + shown(half)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    runs = parser.parse_args().runs
    groups = {}
    for name, (what, state, result) in read_tasks(runs).items():
        command = re.sub(r"^seed \d+: ", "", what)
        groups.setdefault(command, []).append((name, what, state, result))
    rows = [("METRIC", "RUNS", "MEAN", "SD", "95 % INTERVAL")]
    for command, tasks in groups.items():
        rows.append((f"\n{command}",))
        results = [result for _, _, _, result in tasks if result]
        for metric in dict.fromkeys(metric for result in results for metric in result):
            values = [result[metric] for result in results if math.isfinite(result.get(metric, math.nan))]
            if values:
                rows.append((f"  {metric}", f"{len(values)} of {len(tasks)}", *summary(values)))
        for name, what, state, result in tasks:
            seed = re.match(r"seed \d+", what)
            label = f"  {name}" + (f" ({seed[0]})" if seed else "")
            if state != "completed":
                rows.append((f"{label}: {state}",))
            elif result is None:
                rows.append((f"{label}: completed, without a result.json or a .jsonl file in its OUTPUT_PATH",))
            else:
                wrong = [metric for metric, value in result.items() if not math.isfinite(value)]
                rows.extend((f"{label}: {metric} is {result[metric]}",) for metric in wrong)
    widths = [max(len(row[i]) for row in rows if len(row) > 1) for i in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() if len(row) > 1 else row[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
