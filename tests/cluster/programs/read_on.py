"""Reads all files of SLURM_TMPDIR with `data` in their first folder's name, again and again, and ignores signals.

read_on.py     writes a line for each round to OUTPUT_PATH/read.RANK: its time and `right`, or what was wrong; exits in
the second attempt, after one round
"""

import os
import signal
import time
from pathlib import Path

FOLDER, OUTPUT = Path(os.environ["SLURM_TMPDIR"]), Path(os.environ["OUTPUT_PATH"])


def read() -> str:
    try:
        files = [path for path in FOLDER.glob("*data*/**/*") if path.is_file()]
        length = sum(len(path.read_bytes()) for path in files)
    except OSError as error:
        return f"failed: {error}"
    return f"right: {len(files)} files, {length} bytes"


def main() -> None:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    while True:
        with (OUTPUT / f"read.{os.environ['RANK']}").open("a") as file:
            file.write(f"{time.time():.1f} attempt {os.environ['ATTEMPT']} {'told' if told else 'free'} {read()}\n")
        if os.environ["ATTEMPT"] != "0":
            break
        time.sleep(0.3)


main()
