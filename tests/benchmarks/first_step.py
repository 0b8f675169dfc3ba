"""Runs `python -m train digits` and records when each attempt has done its first step.

It adds a line `TIME ATTEMPT` to OUTPUT_PATH/steps.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

if "gc.disable()" in Path("train/__main__.py").read_text():  # `python -m train` of that build starts like this
    gc.disable()

from train import loop
from train.__main__ import main
from train.interruption import Interruption

STEPS = Path(os.environ["OUTPUT_PATH"], "steps")


class Noting(Interruption):
    steps = 0

    def agreed(self) -> bool:
        Noting.steps += 1
        if Noting.steps == 1 and os.environ["RANK"] == "0":
            with STEPS.open("a") as file:
                print(f"{time.time():.3f} {os.environ['ATTEMPT']}", file=file)
        if os.environ["ATTEMPT"] == "0":
            time.sleep(0.2)  # the first attempt waits to be interrupted
        return super().agreed()


loop.Interruption = Noting
sys.exit(main(["digits", "--epochs", "2"]))
