"""Rank BAD ends as HOW says; the others would go on for ten minutes, but for the launcher that ends them.

fail.py exit|kill|raise BAD
"""

import os
import signal
import sys
import time


def main(how: str, bad: str) -> None:
    if os.environ["RANK"] != bad:
        time.sleep(600)
    time.sleep(1)  # the others are there by now
    if how == "exit":
        sys.exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("raised on purpose")


main(*sys.argv[1:])
