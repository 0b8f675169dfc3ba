"""Writes a result that depends on the seed; seed 2 fails until the experiment's folder has a file FIXED."""

import json
import os
import sys
from pathlib import Path

seed = int(sys.argv[1])
assert os.environ["SEED"] == sys.argv[1], os.environ["SEED"]
checkpoints = Path(os.environ["CHECKPOINT_DIRECTORY"])
with (checkpoints / "runs").open("a") as file:
    file.write(f"{seed}\n")
if seed == 2 and not (checkpoints.parent.parent / "FIXED").exists():
    sys.exit(4)
Path(os.environ["OUTPUT_PATH"], "result.json").write_text(json.dumps({"score": seed * seed}))
