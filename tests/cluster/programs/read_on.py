"""Reads all files of SLURM_TMPDIR whose first folder has `data` in its name, again and again, whatever signal comes.

read_on.py     keeps OUTPUT_PATH/read.RANK: a line for each round, its time and `right` or what went wrong;
               ends in the second attempt, when it has read them once
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
