"""A user's own program without train/: it counts steps, saves when it is asked to stop, and continues from there.

Each rank adds a line `STEP ATTEMPT` for each step to OUTPUT_PATH/rank_RANK.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("steps", type=int)
parser.add_argument("--seconds", type=float, default=0.1, help="of a step")
parser.add_argument("--deaf", action="store_true", help="heed neither signal nor stop file")
parser.add_argument("--hang", type=int, help="at this step of the first attempt")
parser.add_argument("--wait", type=int, help="at this step of a first attempt that continues nothing, for what ends it")
options = parser.parse_args()

rank = os.environ["RANK"]
saved = Path(os.environ["CHECKPOINT_DIRECTORY"], f"step_{rank}")
stop_file, heartbeat = Path(os.environ["STOP_FILE"]), Path(os.environ["HEARTBEAT_FILE"])
signals: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))


def save(step: int) -> None:
    partial = saved.with_suffix(".partial")
    partial.write_text(str(step))
    partial.replace(saved)


waits = os.environ["ATTEMPT"] == "0" and not saved.exists()
step = int(saved.read_text()) if saved.exists() else 0
with Path(os.environ["OUTPUT_PATH"], f"rank_{rank}").open("a") as log:
    while step < options.steps:
        if not options.deaf and (signals or stop_file.exists()):
            save(step)
            print(f"rank {rank} saved at step {step}", flush=True)
            sys.exit(75)
        if step == options.hang and os.environ["ATTEMPT"] == "0":
            save(step)
            time.sleep(10000)
        heartbeat.touch()
        time.sleep(options.seconds)
        if step == options.wait and waits:
            continue
        step += 1
        print(step, os.environ["ATTEMPT"], file=log, flush=True)
