"""Lists a folder's entries with `data` in their first name, a line for each, with everything that staging must keep.

inventory.py           lists SLURM_TMPDIR in OUTPUT_PATH/inventory.NODE; writes its start time to began.NODE
inventory.py FOLDER    lists FOLDER on standard output
"""

import errno
import hashlib
import json
import os
import stat
import sys
import time
from pathlib import Path

HUGE = 1 << 30
BLOCK = 1 << 20


def digest(path: Path) -> str:
    """Of the blocks that are not zero, with offsets: 5 GB of holes, and a copy without holes, are read quickly."""
    found, offset = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while (offset := next_data(file.fileno(), offset)) is not None:
            offset -= offset % BLOCK
            block = os.pread(file.fileno(), BLOCK, offset)
            if block != bytes(len(block)):
                found.update(b"%d " % offset + block)
            offset += BLOCK
    return found.hexdigest()


def next_data(descriptor: int, offset: int) -> int | None:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data from here on
            raise
        return None


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
