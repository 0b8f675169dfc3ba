"""Runs until it is asked to stop: exits with 75 when STOP_FILE exists. It logs each SIGTERM.

notices.py   creates OUTPUT_PATH/here.RANK when it is ready
"""

import os
import signal
import sys
import time
from pathlib import Path


def tell(number: int, _: object) -> None:
    os.write(1, f"rank {os.environ['RANK']} got signal {number}\n".encode())


signal.signal(signal.SIGTERM, tell)
(Path(os.environ["OUTPUT_PATH"]) / f"here.{os.environ['RANK']}").touch()
for _ in range(600):
    if Path(os.environ["STOP_FILE"]).exists():
        sys.exit(75)
    time.sleep(0.1)
