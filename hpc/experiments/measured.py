"""What a program tells of itself: its metrics (.jsonl files, result.json) and how far it is. For runs.py."""

import contextlib
import functools
import json
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


@functools.cache
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
        # Written over several lines by some.
        for key, (value, _) in _lines((read(os.path.join(output, "result.json")) or "").replace("\n", " ")).items():
            best = found[key][1] if key in found else value
            better = best is not None and direction(key) * (value - best) > 0
            found[key] = [value, value if better else best]
    return found


def _lines(text):
    found = {}
    for values in _objects(text):
        for key, value in values.items():
            # NaN is not equal to itself, and what is infinite minus itself is NaN.
            if type(value) not in (int, float) or value - value != 0:
                continue
            pair = found.get(key)
            if pair is None:
                found[key] = [value, value]
            else:
                pair[0] = value
                if direction(key) * (value - pair[1]) > 0:
                    pair[1] = value
    # Where nobody knows what is better, the best is the last.
    for key, pair in found.items():
        if not direction(key):
            pair[1] = pair[0]
    return found


def _objects(text):
    """The lines that are objects of JSON. All at once where all are good, as that is several times as quick."""
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
    """The name of the metric that a table shows: held out before training, accuracies before losses."""
    names = [name for name in metrics if direction(name)]
    return min(names, key=lambda name: (not HELD_OUT.search(name), -direction(name), len(name)), default=None)
