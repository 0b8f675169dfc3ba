"""A program of an ISC user: it saves at each step, may be killed at any step, and handles no notice.

save_often.py --steps N
"""

import os
import sys
import time
from pathlib import Path

steps = int(sys.argv[sys.argv.index("--steps") + 1])
rank = os.environ["RANK"]
latest = Path(os.environ["CHECKPOINT_ARTIFACT_PATH"]) / f"latest_{rank}"
step = int(latest.read_text()) if latest.exists() else 0
with (Path(os.environ["LOSSY_ARTIFACT_PATH"]) / f"starts_{rank}").open("a") as starts:
    starts.write(f"{step}\n")
while step < steps:
    step += 1
    partial = latest.with_suffix(".new")
    partial.write_text(str(step))
    partial.replace(latest)
    time.sleep(0.1)
print(f"rank {rank}: {step} steps", flush=True)
