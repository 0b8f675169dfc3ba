"""HEARTBEAT_FILE, which each rank touches while it makes progress: hpc/ restarts a job when nobody does so any more.

Progress is what a rank has done itself: a step, a batch of an evaluation, a part of a file that is saved, checked or
copied. A rank that waits for another one makes none, so one rank that hangs silences all.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .environment import JobEnvironment

TOUCH_SECONDS = 5.0
"""At most so often is the file touched, as it may lie on a file system that all nodes share."""


class Heartbeat:
    """What one part of a rank tells of its progress. Parts in other threads have others, for the same file."""

    def __init__(self, environment: JobEnvironment, *, begins: bool = True) -> None:
        """Without `begins` the file is touched only where it is: hpc/ counts from its first touch on.

        For what belongs to a program's start, after which there may be more that takes long.
        """
        self._file, self._begins = environment.heartbeat_file, begins
        self._progress = self._touched = -math.inf

    def beat(self) -> None:
        """Say that there was progress just now. Costs a look at the clock."""
        self._progress = time.monotonic()
        if self._progress - self._touched >= TOUCH_SECONDS:
            self._touch()

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Around what may take long and cannot call `beat`, as a compilation.

        Silence within the block counts as progress, until `seconds` after the last beat: a rank that hangs there is
        found so much later.
        """
        ended = threading.Event()

        def wait() -> None:
            while not ended.wait(TOUCH_SECONDS):
                if time.monotonic() - self._progress < seconds:
                    self._touch()

        self.beat()
        thread = threading.Thread(target=wait, name="patience", daemon=True)
        if self._file:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if self._file:
                thread.join(1.0)  # Not for ever: its file may lie on a file system that hangs.

    def _touch(self) -> None:
        self._touched = time.monotonic()
        if self._file:
            with contextlib.suppress(OSError):  # A full disk must not end the run.
                if self._begins or self._file.exists():
                    self._file.touch()
