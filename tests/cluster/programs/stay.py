"""Runs for ten minutes and ignores signals, with a child that does the same; reports when both have started.

stay.py   creates OUTPUT_PATH/here.RANK and a file in SLURM_TMPDIR
"""

import os
import signal
import time
from pathlib import Path

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() != 0:
    (Path(os.environ["SLURM_TMPDIR"]) / "file").touch()
    (Path(os.environ["OUTPUT_PATH"]) / f"here.{os.environ['RANK']}").touch()
time.sleep(600)
