"""`python -m train digits` with steps of at least 50 ms, so that a fault arrives before the training ends by itself."""

import sys
import time

from train import loop
from train.__main__ import main
from train.interruption import Interruption


class Slow(Interruption):
    def agreed(self) -> bool:
        time.sleep(0.05)
        return super().agreed()


loop.Interruption = Slow
sys.exit(main(["digits", *sys.argv[1:]]))
