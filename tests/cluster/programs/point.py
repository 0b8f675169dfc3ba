"""A point of a sweep, without W&B. The point a = b = 2 fails until the experiment's folder has a file FIXED."""

import argparse
import json
import os
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--a", type=int, required=True)
parser.add_argument("--b", type=int, required=True)
options = parser.parse_args()
checkpoints = Path(os.environ["CHECKPOINT_DIRECTORY"])
with (checkpoints / "runs").open("a") as file:
    file.write(f"{options.a}{options.b}\n")
if options.a == options.b == 2 and not (checkpoints.parent.parent / "FIXED").exists():
    sys.exit(4)
with Path(os.environ["OUTPUT_PATH"], "results.jsonl").open("a") as file:
    for step in (1, 2):
        file.write(json.dumps({"step": step, "product": options.a * options.b * step}) + "\n")
