"""Records what one rank sees of its container, as OUTPUT_PATH/rank_N.json. Standard library only.

inside.py [ARGUMENT...]   rank 0 writes 80 MB into each of FOLDERS, and a file into /scratch_storage
"""

import json
import os
import sys
import time
from pathlib import Path

FOLDERS = ("~", "/tmp", "/var/tmp", "/db", "/work dir/of, mine")
MEGABYTES = 80  # the container's own file system in memory holds 64


def written(folder: Path) -> int:
    """Return the size of rank 0's file, which the ranks of its node see."""
    path = folder / "large"
    if os.environ["RANK"] == "0":
        with (folder / "partial").open("wb") as file:
            for _ in range(MEGABYTES):
                file.write(os.urandom(1 << 20))
        (folder / "partial").rename(path)
    for _ in range(200):
        if path.exists():
            break
        time.sleep(0.1)
    return path.stat().st_size


def refusal(path: str) -> str:
    try:
        Path(path).write_text("")
    except OSError as error:
        return error.strerror or "?"
    return "none"


def main(arguments: list[str]) -> None:
    account = {
        "arguments": arguments,
        "folder": str(Path.cwd()),
        "written": {folder: written(Path(folder).expanduser()) >> 20 for folder in FOLDERS},
        "code": refusal("/code/probe"),
        "source": refusal(f"{os.environ['RUN_DIRECTORY']}/source/probe"),
        "root": refusal("/probe"),
        "home": str(Path.home()),
        "data": sorted(str(path.relative_to("/data")) for path in Path("/data").glob("datasets/**/*")),
        "disk": sorted(path.name for path in Path(os.environ["SLURM_TMPDIR"]).glob("datasets/**/*")),
        "environment": dict(os.environ),
    }
    (Path("/scratch_storage") / f"kept.{os.environ['RANK']}").touch()
    path = Path(os.environ["OUTPUT_PATH"]) / f"rank_{os.environ['RANK']}.json"
    path.write_text(json.dumps(account, indent=1, sort_keys=True))


main(sys.argv[1:])
