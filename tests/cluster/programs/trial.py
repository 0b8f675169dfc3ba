"""A trial of a sweep: rank 0 logs each step to W&B, saves it, stops when told to, and goes on from there.

The other ranks only leave their mark: OUTPUT_PATH/rank_RANK, as rank 0 does.
"""

import argparse
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
parser.add_argument("--text", default="")
parser.add_argument("--repeat", type=int, default=0, help="log the text so many times, to make much of it")
options = parser.parse_args()

Path(os.environ["OUTPUT_PATH"], f"rank_{os.environ['RANK']}").write_text(f"{os.environ['WANDB_RUN_ID']} {options.text}")
if os.environ["RANK"] != "0":
    sys.exit()

saved, stop_file = Path(os.environ["CHECKPOINT_DIRECTORY"], "step"), Path(os.environ["STOP_FILE"])
step = int(saved.read_text()) if saved.exists() else 0
signals: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
status = 0
# Slurm's SIGTERM goes to all processes, and W&B's own, which is started here, would end of it: the mask is inherited.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
run = wandb.init(settings=settings)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
if dict(run.config)["lr"] != options.lr:
    sys.exit(f"W&B has {dict(run.config)}")
while step < options.steps and not status:
    step += 1
    run.log(
        {
            "seen": step,
            "attempt": int(os.environ["ATTEMPT"]),
            "loss": options.lr / step,
            "text": options.text * options.repeat,
        }
    )
    time.sleep(0.2)
    saved.write_text(str(step))
    if signals or stop_file.exists():
        status = 75
    elif (options.lr, options.batch) == (0.2, 32):
        status = options.fail
run.finish(exit_code=status)
sys.exit(status)
