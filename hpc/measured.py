"""What a program tells of itself: its metrics (.jsonl files, result.json) and how far it is. For runs.py."""

import json
import math
import os
import re

from files import read, tail

OF = re.compile(r"\b(epoch|step|iteration|iter|batch)s?[ :=\[]*(\d+)(?:/| of )(\d+)", re.IGNORECASE)
BAR = re.compile(r"(\d+)%\|[^|]*\| *(\d+)/(\d+)")


def progress_of(text):
    """The last `epoch 3/20`, `step 7 of 90` or bar of tqdm, as (what, done, of how many)."""
    found = [(match.start(), match[1].lower(), int(match[2]), int(match[3])) for match in OF.finditer(text)]
    found += [(match.start(), "step", int(match[2]), int(match[3])) for match in BAR.finditer(text)]
    found = [entry for entry in found if entry[3] > 0]
    return max(found)[1:] if found else None


BETTER_HIGH = re.compile(r"acc|score|f1|auc|iou|map\b|bleu|rouge|reward|psnr|recall|precision", re.IGNORECASE)
BETTER_LOW = re.compile(r"loss|err|perplex|ppl|mse|mae|wer|nll", re.IGNORECASE)
HELD_OUT = re.compile(r"val|test|eval", re.IGNORECASE)


def direction(name):
    """1 where more is better, -1 where less is, 0 where nobody knows."""
    return 1 if BETTER_HIGH.search(name) else -1 if BETTER_LOW.search(name) else 0


def measured(output, most=1 << 18):
    """Name -> [last, best], of the .jsonl files and result.json of a task's output folder."""
    found = {}
    try:
        names = sorted(os.listdir(output))
    except OSError:
        return found
    for name in names:
        if name.endswith(".jsonl"):
            text = read(os.path.join(output, name), most)
            if text and len(text) >= most:  # Its end; no best of what was not read.
                found.update({key: [last, None] for key, (last, _) in _lines(tail(os.path.join(output, name))).items()})
            else:
                found.update(_lines(text or ""))
    if "result.json" in names:
        for key, value in _numbers(read(os.path.join(output, "result.json")) or "").items():
            _take(found, key, value)
    return found


def _lines(text):
    found = {}
    for line in text.splitlines():
        for key, value in _numbers(line).items():
            _take(found, key, value)
    return found


def _take(found, key, value):
    best = found[key][1] if key in found else value
    if best is not None and direction(key) * (value - best) > 0:
        best = value
    found[key] = [value, best]


def _numbers(line):
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {key: value for key, value in values.items() if type(value) in (int, float) and math.isfinite(value)}


def chief(metrics):
    """The name of the metric that a table shows: held out before training, accuracies before losses."""
    names = [name for name in metrics if direction(name)]
    return min(names, key=lambda name: (not HELD_OUT.search(name), -direction(name), len(name)), default=None)
