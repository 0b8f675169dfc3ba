"""When a checkpoint is due by the clock. It is rank 0's clock, as all ranks save at the same step.

Rank 0's word rides along with a sum over the ranks where a step has one anyway. Elsewhere there is one about every
`LOOK_SECONDS`, at a step that rank 0 named in the sum before; so a step costs a comparison.
"""

from __future__ import annotations

import sys
import time
from typing import Callable

import torch

from .distributed import sum_over_ranks
from .environment import JobEnvironment

LOOK_SECONDS = 10.0


class SaveClock:
    """Made, and asked at each step, by all ranks alike."""

    def __init__(self, minutes: float, environment: JobEnvironment, busy: Callable[[], bool] = lambda: False) -> None:
        """`minutes` between saves, 0 for none. While rank 0 is `busy` with one, the next is not due."""
        self._seconds, self._busy, self._speaks = 60 * minutes, busy, environment.rank == 0
        self._saved_at = self._summed_at = time.monotonic()
        self._summed_step, self._steps = 0, 1
        self._due, self._ask_at = False, 0 if minutes else sys.maxsize

    def sum(self, step: int, *values: float) -> list[float]:
        """`values` summed over the ranks, in `step`. Call it where there is a sum to make: it brings rank 0's word."""
        word = self._word(step) if self._speaks and self._seconds else (0, 0)
        *sums, due, steps = sum_over_ranks(torch.tensor([*values, *word], dtype=torch.float64)).tolist()
        self._due = bool(due)
        if self._seconds:
            self._ask_at = step + int(steps)
        return sums

    def due(self, step: int) -> bool:
        """Whether to save after `step`."""
        if step >= self._ask_at:
            self.sum(step)
        return self._due

    def saved(self) -> None:
        """The time counts from here."""
        self._saved_at, self._due = time.monotonic(), False

    def _word(self, step: int) -> tuple[bool, int]:
        """Whether a save is due, and the steps until all ask again: at most twice as many as before."""
        now = time.monotonic()
        passed, steps = now - self._summed_at, step - self._summed_step
        self._summed_at, self._summed_step = now, step
        self._steps = max(1, min(2 * self._steps, int(steps * LOOK_SECONDS / max(passed, 1e-9))))
        return now - self._saved_at >= self._seconds and not self._busy(), self._steps
