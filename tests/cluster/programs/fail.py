"""Rank BAD ends as HOW says; the others would run for ten minutes, unless the launcher ends them.

fail.py exit|kill|raise BAD [told]     told: only when OUTPUT_PATH/go exists
"""

import os
import signal
import sys
import time
from pathlib import Path


def main(how: str, bad: str, when: str = "") -> None:
    if os.environ["RANK"] != bad:
        time.sleep(600)
    time.sleep(1)  # the others have started by now
    while when == "told" and not Path(os.environ["OUTPUT_PATH"], "go").exists():
        time.sleep(0.1)
    if how == "exit":
        sys.exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("raised on purpose")


main(*sys.argv[1:])
