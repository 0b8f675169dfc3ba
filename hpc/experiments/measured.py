"""Reads a program's metrics from .jsonl files and result.json. For its progress see progress.py."""

import contextlib
import functools
import json
import re

from files import names_in, read, tail

AXES = ("step", "iteration", "epoch")  # the first that a line has is the curve's x axis


BETTER_HIGH = re.compile(r"acc|score|f1|auc|iou|map\b|bleu|rouge|reward|psnr|recall|precision", re.IGNORECASE)
BETTER_LOW = re.compile(r"loss|err|perplex|ppl|mse|mae|wer|nll", re.IGNORECASE)
HELD_OUT = re.compile(r"val|test|eval", re.IGNORECASE)


@functools.cache
def direction(name):
    """Return 1 if more is better, -1 if less is, 0 if unknown."""
    return 1 if BETTER_HIGH.search(name) else -1 if BETTER_LOW.search(name) else 0


def metric_files_in(output):
    """Return the names of files with metrics in a task's output folder."""
    return [name for name in names_in(output) if name.endswith(".jsonl") or name == "result.json"]


def measured(output, names, most=1 << 18):
    """Return name -> [last, best] from these .jsonl files and the result.json of the folder."""
    found = {}
    for name in names:
        if name.endswith(".jsonl"):
            text = read(f"{output}/{name}", most)
            if len(text) >= most:  # Only the end was read, so the best is unknown.
                found.update({key: [last, None] for key, (last, _) in _lines(tail(f"{output}/{name}")).items()})
            else:
                found.update(_lines(text))
    if "result.json" in names:
        for key, (value, _) in _lines(_one_line(output)).items():
            best = found[key][1] if key in found else value
            better = best is not None and direction(key) * (value - best) > 0
            found[key] = [value, value if better else best]
    return found


def result_of(output):
    """Return the numbers, also infinite ones, of result.json or else of the last lines of .jsonl files, or None."""
    names = names_in(output)
    if "result.json" in names:
        found = _objects(_one_line(output))
    else:
        files = (f"{output}/{name}" for name in names if name.endswith(".jsonl"))
        found = [values for file in files for values in _objects(tail(file, 1 << 16))[-1:]]
    return {name: number for values in found for name, number in _numbers(values)} if found else None


def curves_of(output):
    """Return metric -> (name of the axis, points (x, y)) from the .jsonl files."""
    curves = {}
    for name in names_in(output):
        if not name.endswith(".jsonl"):
            continue
        for index, values in enumerate(_objects(read(f"{output}/{name}")), 1):
            numbers = dict(_numbers(values))
            axis = next((name for name in AXES if name in numbers), "line")
            x = numbers.get(axis, index)
            for key, y in numbers.items():
                if key not in (*AXES, "attempt"):
                    curves.setdefault((key, axis), []).append((x, y))
    return {key: points for key, points in curves.items() if len(points) > 1}


def _one_line(output):
    """Return result.json in one line; some programs write several."""
    return read(f"{output}/result.json").replace("\n", " ")


def _numbers(values):
    return ((name, float(number)) for name, number in values.items() if type(number) in (int, float))


def _lines(text):
    lines = _objects(text)
    found = {}
    for name in {name for values in lines for name in values}:
        column = (values.get(name) for values in lines)
        # value - value is NaN for infinite values and NaN, and NaN != 0.
        numbers = [value for value in column if type(value) in (int, float) and value - value == 0]
        if numbers:
            last, sign = numbers[-1], direction(name)
            # If it is unknown what is better, the best is the last.
            found[name] = [last, max(numbers) if sign > 0 else min(numbers) if sign < 0 else last]
    return found


def _objects(text):
    """Return the lines that are JSON objects. Parses all at once if all are valid, which is several times as fast."""
    lines = text.splitlines()
    try:
        values = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        values = []
        for line in lines:
            with contextlib.suppress(ValueError):
                values.append(json.loads(line))
    return [value for value in values if type(value) is dict]


def chief(metrics):
    """Return the name of the metric for the table: validation before training, accuracies before losses."""
    names = [name for name in metrics if direction(name)]
    return min(names, key=lambda name: (not HELD_OUT.search(name), -direction(name), len(name)), default=None)
