"""A trial of a sweep: rank 0 logs each step to W&B, saves it, stops when it is asked to, and continues from there.

The other ranks only write OUTPUT_PATH/rank_RANK, which rank 0 writes, too.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--fail", type=int, default=0, help="with this status, of the trial of lr 0.2 and batch 32")
parser.add_argument("--hold", type=int, default=0, help="after so many steps wait for OUTPUT_PATH/go, or a signal")
parser.add_argument("--text", default="")
parser.add_argument("--repeat", type=int, default=0, help="log the text so many times, to make much of it")
options = parser.parse_args()

Path(os.environ["OUTPUT_PATH"], f"rank_{os.environ['RANK']}").write_text(f"{os.environ['WANDB_RUN_ID']} {options.text}")
if os.environ["RANK"] != "0":
    sys.exit()

signals: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
stop_file, kept = Path(os.environ["STOP_FILE"]), Path(os.environ["CHECKPOINT_DIRECTORY"], "rows")
rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
run = wandb.init(settings=wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True))
if dict(run.config)["lr"] != options.lr:
    sys.exit(f"W&B has {dict(run.config)}")
offline = os.environ.get("WANDB_MODE") == "offline"


def log(row: dict[str, object]) -> None:
    run.log(row, step=None if offline else row["seen"] - 1)


# Slurm sends SIGTERM to all processes. W&B's process exits without sending its rows, so they are logged again; W&B
# ignores steps that it already has.
if not offline:
    for row in rows[run.starting_step :]:
        log(row)
status = 0
with kept.open("a") as file:
    while len(rows) < options.steps and not status:
        step = len(rows) + 1
        rows.append({"seen": step, "attempt": int(os.environ["ATTEMPT"]), "text": options.text * options.repeat})
        print(json.dumps(rows[-1]), file=file, flush=True)
        try:
            log(rows[-1])
        except ConnectionError:
            if not signals:
                raise
        time.sleep(0.2)
        while len(rows) == options.hold and not signals and not Path(os.environ["OUTPUT_PATH"], "go").exists():
            time.sleep(0.1)
        if signals:
            os._exit(75)  # W&B's process has ended and cannot finish the run
        if stop_file.exists():
            status = 75
        elif (options.lr, options.batch) == (0.2, 32):
            status = options.fail
run.finish(exit_code=status)
sys.exit(status)
