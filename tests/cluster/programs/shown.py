"""The program of pages.bats: train.py of a user. It saves after each epoch, and continues from there."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seconds", type=float, default=0.1, help="of an epoch")
parser.add_argument("--memory", type=int, default=0, help="bytes to take in the second epoch")
parser.add_argument("--fails", help="a seed whose first attempt fails")
parser.add_argument("--forgets", action="store_true", help="compute another loss after a restart")
options, _ = parser.parse_known_args()

rank, seed = os.environ["RANK"], os.environ.get("SEED", "0")
saved = Path(os.environ["CHECKPOINT_DIRECTORY"], f"epoch_{rank}")
stop_file = Path(os.environ["STOP_FILE"])
print("arguments:", *sys.argv[1:], flush=True)
epoch = int(saved.read_text()) if saved.exists() else 0
forgotten = epoch if options.forgets else 0
while epoch < options.epochs:
    if stop_file.exists():
        sys.exit(75)
    time.sleep(options.seconds)
    epoch += 1
    if rank == "0":
        print(f"epoch {epoch}/{options.epochs}, step {epoch}: loss {1 / (epoch - forgotten):.9g}", flush=True)
    partial = saved.with_suffix(".partial")
    partial.write_text(str(epoch))
    partial.replace(saved)
    # In a drill, the run waits for its fault, which comes late on a busy machine.
    if options.forgets and epoch == 60 and not forgotten and "uninterrupted" not in os.environ["RUN_DIRECTORY"]:
        for _ in range(1200):
            if not stop_file.exists():
                time.sleep(0.1)
    if options.memory and epoch == 2:
        held = b"x" * options.memory
        time.sleep(60)
    if seed == options.fails and not saved.with_suffix(".failed").exists():
        saved.with_suffix(".failed").touch()
        raise RuntimeError("on purpose")
result = {"validation_loss": 0.1 + int(seed) / 100, "validation_accuracy": 0.9}
if rank == "0":
    Path(os.environ["OUTPUT_PATH"], "result.json").write_text(json.dumps(result))
