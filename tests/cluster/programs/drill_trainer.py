"""A user's own training, which uses only STOP_FILE, CHECKPOINT_DIRECTORY and status 75 of the kit.

It fits a line to points by gradient descent with momentum and a falling learning rate; each epoch has the points in
another order. It is correct as it is; each --mistake is one that people make.
"""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--hold", type=int, default=62, help="step at which a run that is to be struck waits for that")
parser.add_argument("--mistake", choices=("sampler", "scheduler", "epoch_ends"))
options = parser.parse_args()

BATCHES, BATCH, SAVE_EVERY = 25, 4, 5
points = random.Random(0)
data = [(x, 3 * x - 1 + points.gauss(0, 0.1)) for x in (points.uniform(-1, 1) for _ in range(BATCHES * BATCH))]
weight, bias, momentum = 0.0, 0.0, [0.0, 0.0]
step, rate = 0, 0.05

is_struck = "uninterrupted" not in os.environ["RUN_DIRECTORY"]
stop_file = Path(os.environ["STOP_FILE"])
checkpoint = Path(os.environ["CHECKPOINT_DIRECTORY"], "state.json")
if checkpoint.exists():
    state = json.loads(checkpoint.read_text())
    step, weight, bias, momentum = state["step"], state["weight"], state["bias"], state["momentum"]
    if options.mistake != "scheduler":
        rate = state["rate"]
resumed_at = step


def save() -> None:
    partial = checkpoint.with_suffix(".partial")
    state = {"step": step, "weight": weight, "bias": bias, "momentum": momentum, "rate": rate}
    partial.write_text(json.dumps(state))
    partial.replace(checkpoint)


while step < options.epochs * BATCHES:
    epoch, position = divmod(step, BATCHES)
    order = list(range(len(data)))
    random.Random(epoch).shuffle(order)
    if options.mistake == "sampler" and epoch == resumed_at // BATCHES:
        position -= resumed_at % BATCHES  # start the epoch's data from the beginning
    batch = [data[index] for index in order[position * BATCH : (position + 1) * BATCH]]

    errors = [weight * x + bias - y for x, y in batch]
    loss = sum(error**2 for error in errors) / BATCH
    gradients = sum(error * x for error, (x, _) in zip(errors, batch)) / BATCH, sum(errors) / BATCH
    momentum = [0.9 * old + new for old, new in zip(momentum, gradients)]
    weight, bias = weight - rate * momentum[0], bias - rate * momentum[1]
    rate *= 0.99
    step += 1
    print(f"step {step}: loss {loss!r}", flush=True)
    if step == options.hold and resumed_at == 0 and is_struck:
        for _ in range(600):
            if not stop_file.exists():
                time.sleep(0.1)

    stop = stop_file.exists()
    if options.mistake == "epoch_ends":
        if step % BATCHES == 0:
            save()
    elif stop or step % SAVE_EVERY == 0:
        save()
    if stop:
        sys.exit(75)
