"""A result that depends on the seed; the seed 2 fails until there is a file FIXED in the experiment's folder."""

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
