"""Reads a program's progress and its last loss from its output.

Examples: `iter 60: loss 3.66`, `Epoch 2 | Iter 0 | Train Loss 3.3`, `EPOCH [2] TRAIN BATCH [29 / 30]`,
`Epoch: [3][ 10/500]`, `{'loss': 2.3, 'epoch': 0.13}`, and bars of tqdm and Lightning.
"""

import re

# The total: 3/20, 7 of 90, [29 / 30]
_OF = r"(?: *(?:/|of|out of) *(?P<{}>\d+))"
# Slurm's `*** STEP 5.0 ON node1 CANCELLED` must not match.
COUNT = re.compile(
    r"(?<![a-z])(?<!\*\*\* )(?P<what>epoch|step|iteration|iter"
    r"|batch)s?['\"]?[ :=#]*[\[(]? *(?P<done>\d+(?:\.\d+)?)" + _OF.format("whole") + "?"
    r"|(?:%\|[^|\n]*\| *|━[^\d\n]*)(?P<bar>\d+)/(?P<bars>\d+)|\[ *(?P<pair>\d+) */ *(?P<pairs>\d+)[\] ]",
    re.IGNORECASE,
)
LOSS = re.compile(
    r"(?P<other>(?:val|valid|validation|eval|evaluation|test|dev)[ _/.-]?)?\bloss['\"]?[ :=]*(?:tensor\()?"
    r"(?P<loss>-?\d+\.?\d*(?:e[-+]?\d+)?|nan|-?inf)(?![\w/%])"
    r"|(?<![a-z])train(?:ing)?_loss['\"]?[ :=]*(?P<train>-?\d+\.?\d*(?:e[-+]?\d+)?)",
    re.IGNORECASE,
)


def counts(text):
    """Yield (what, done, total or None) of each counter, in order."""
    for found in COUNT.finditer(text):
        if found["what"]:
            whole = int(found["whole"]) if found["whole"] else None
            yield found["what"].lower(), float(found["done"]), whole
        else:
            yield "step", float(found["bar"] or found["pair"]), int(found["bars"] or found["pairs"])


def progress_of(text):
    """Return (what, done, total or None) of the last value of the most informative counter; None if there is none.

    An epoch is better than a step, because steps may restart in each epoch; a Trainer's bar is better than its epoch
    0.13. The longest of several bars is the training's; the others belong to evaluations.
    """
    last = {}
    for what, done, whole in counts(text):
        if whole != 0 and (whole is None or done <= whole):
            last[what == "epoch", whole] = (what, done, whole)
    epochs = [entry for (is_epoch, _), entry in last.items() if is_epoch]
    bars = [entry for (is_epoch, _), entry in last.items() if not is_epoch and entry[2]]
    if epochs and (epochs[-1][2] or epochs[-1][1] == int(epochs[-1][1]) or not bars):
        return max(epochs, key=lambda entry: entry[2] is not None)
    others = bars or list(last.values())
    return max(others, key=lambda entry: entry[2] or 0) if others else None


def starts_over(text, progress):
    """Whether this counter was higher before, so that its total is not the whole training."""
    what, _, whole = progress
    seen = [done for name, done, of in counts(text) if of == whole and (name == "epoch") == (what == "epoch")]
    return any(after < before for before, after in zip(seen, seen[1:]))


def loss_of(text):
    """Return the last loss of the training; None if there is none."""
    loss = None
    for found in LOSS.finditer(text):
        if not found["other"]:
            loss = float(found["loss"] or found["train"])
    return loss
