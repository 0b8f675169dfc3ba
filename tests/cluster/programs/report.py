"""Records what one rank was given, as OUTPUT_PATH/rank_N.json. Standard library only.

report.py [ARGUMENT...]
"""

import json
import os
import sys
from pathlib import Path

FOLDERS = ("RUN_DIRECTORY", "CHECKPOINT_DIRECTORY", "OUTPUT_PATH", "SLURM_TMPDIR", "scratch_dir", "source_dir")


def writable(folder: str) -> bool:
    probe = Path(folder) / f"probe.{os.environ['RANK']}"
    try:
        probe.write_text("")
        probe.unlink()
    except OSError:
        return False
    return True


def main(arguments: list[str]) -> None:
    account = {
        "arguments": arguments,
        "folder": str(Path.cwd()),
        "node": os.uname().nodename,
        "cpus": len(os.sched_getaffinity(0)),
        "writable": [name for name in FOLDERS if name in os.environ and writable(os.environ[name])],
        "environment": dict(os.environ),
    }
    path = Path(os.environ["OUTPUT_PATH"]) / f"rank_{os.environ['RANK']}.json"
    path.write_text(json.dumps(account, indent=1, sort_keys=True))


main(sys.argv[1:])
