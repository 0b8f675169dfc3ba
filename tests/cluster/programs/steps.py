"""A program of the user's own, without train/: counts steps, saves when it is told to stop, and goes on from there.

steps.py STEPS [--seconds PER_STEP] [--deaf] [--hang AT]: writes a line `STEP ATTEMPT` a step into OUTPUT_PATH/rank_RANK.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("steps", type=int)
parser.add_argument("--seconds", type=float, default=0.1)
parser.add_argument("--deaf", action="store_true", help="do not heed SIGTERM")
parser.add_argument("--hang", type=int, help="at this step of the first attempt")
parser.add_argument("--at-end", type=int, default=0, help="exit status")
options = parser.parse_args()

rank, attempt = os.environ["RANK"], int(os.environ["ATTEMPT"])
told = False


def heed(number: int, frame: object) -> None:
    global told
    told = not options.deaf


signal.signal(signal.SIGTERM, heed)
saved = Path(os.environ["CHECKPOINT_DIRECTORY"], f"step_{rank}")
stop_file = Path(os.environ["STOP_FILE"])
beat = Path(os.environ["HEARTBEAT_FILE"])
step = int(saved.read_text()) if saved.exists() else 0
with open(Path(os.environ["OUTPUT_PATH"], f"rank_{rank}"), "a") as log:
    while step < options.steps:
        if told or (stop_file.exists() and not options.deaf):
            temporary = saved.with_suffix(".partial")
            temporary.write_text(str(step))
            temporary.replace(saved)
            print(f"rank {rank} saved at step {step}", flush=True)
            sys.exit(75)
        if step == options.hang and attempt == 0:
            temporary = saved.with_suffix(".partial")
            temporary.write_text(str(step))
            temporary.replace(saved)
            time.sleep(10000)
        beat.touch()
        time.sleep(options.seconds)
        step += 1
        print(step, attempt, file=log, flush=True)
sys.exit(options.at_end)
