"""Lists a folder's entries whose first name has `data` in it, a line for each, with what must not change on the way.

inventory.py           of SLURM_TMPDIR, as OUTPUT_PATH/inventory.NODE; the time at which it began is in began.NODE
inventory.py FOLDER    of FOLDER, on standard output
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
    # Names of one file: the first of them. Of a mounted image only how many there are is told.
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
