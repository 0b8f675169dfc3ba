"""Each rank touches HEARTBEAT_FILE while it makes progress. hpc/ restarts a job if no rank does so for too long.

Progress is what a rank has done itself: a step, a batch of an evaluation, a part of a file that it saved, checked or
copied. A rank that waits for another one makes no progress, so one rank that hangs stops the heartbeat of all.
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
"""Minimum time between two touches, because the file may be on a file system that all nodes share."""


class Heartbeat:
    """Reports the progress of one part of a rank. Parts in other threads have their own, for the same file."""

    def __init__(self, environment: JobEnvironment, *, begins: bool = True) -> None:
        """Without `begins`, only touch the file if it exists: hpc/ watches a job from the first touch on.

        Use this for parts of the program's start, which other slow parts may follow.
        """
        self._file, self._begins = environment.heartbeat_file, begins
        self._progress = self._touched = -math.inf

    def beat(self) -> None:
        """Report progress. The cost is one look at the clock."""
        self._progress = time.monotonic()
        if self._progress - self._touched >= TOUCH_SECONDS:
            self._touch()

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """A context for an operation that takes long and cannot call `beat`, such as a compilation.

        Within the block, up to `seconds` without a beat count as progress. A rank that hangs there is found that much
        later.
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
                thread.join(1.0)  # With a limit: its file may be on a file system that hangs.

    def _touch(self) -> None:
        self._touched = time.monotonic()
        if self._file:
            with contextlib.suppress(OSError):  # A full disk must not end the run.
                if self._begins or self._file.exists():
                    self._file.touch()
