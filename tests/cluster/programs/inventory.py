"""Lists a folder's entries with `data` in their first name, a line for each, with everything that staging must keep.

inventory.py           lists SLURM_TMPDIR in OUTPUT_PATH/inventory.NODE; writes its start time to began.NODE
inventory.py FOLDER    lists FOLDER on standard output
"""

import hashlib
import json
import os
import stat
import sys
import time
from pathlib import Path

HUGE = 1 << 30


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path, name: str, first_names: dict[tuple[int, int], str]) -> list[object]:
    status = path.lstat()
    mode = oct(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return [name, mode, int(status.st_mtime), os.fsencode(path.readlink()).hex()]
    if stat.S_ISDIR(status.st_mode):
        return [name, mode]
    # Hard links: name the first link of the file. For a mounted image only their number is listed.
    first = first_names.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
    with_holes = status.st_size > HUGE and status.st_blocks * 512 < HUGE
    return [name, mode, status.st_size, int(status.st_mtime), digest(path), status.st_nlink, first, with_holes]


def inventory(folder: Path) -> str:
    first_names: dict[tuple[int, int], str] = {}
    entries = sorted(path for path in folder.rglob("*") if "data" in path.relative_to(folder).parts[0])
    lines = []
    for path in entries:
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        lines.append(json.dumps(describe(path, name, first_names), ensure_ascii=False) + "\n")
    return "".join(lines)


def main(arguments: list[str]) -> None:
    if arguments:
        sys.stdout.write(inventory(Path(arguments[0])))
        return
    output, node = Path(os.environ["OUTPUT_PATH"]), os.uname().nodename
    (output / f"began.{node}").write_text(str(time.time()))
    (output / f"inventory.{node}").write_text(inventory(Path(os.environ["SLURM_TMPDIR"])))


main(sys.argv[1:])
