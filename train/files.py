"""Atomic writes of files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` if the block ends without an exception.

    The folder is created. A reader sees either the old content or all of the new one, also after a power failure.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full. `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # tempfile.mkstemp would create a file that only its owner can read.
    beside = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # Make the rename itself durable.
    finally:
        os.close(folder)
