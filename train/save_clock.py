"""Decides when a checkpoint is due by time. Rank 0's clock counts, because all ranks save at the same step.

Rank 0 adds its decision to a sum over the ranks if a step has one anyway. Otherwise there is a sum about every
`LOOK_SECONDS`, at a step that rank 0 named in the previous sum. All other steps cost only a comparison.
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
    """All ranks create it and call it at each step."""

    def __init__(self, minutes: float, environment: JobEnvironment, busy: Callable[[], bool] = lambda: False) -> None:
        """Save every `minutes`, or never if 0. While rank 0 is `busy` with a save, the next one is not due."""
        self._seconds, self._busy, self._speaks = 60 * minutes, busy, environment.rank == 0
        self._saved_at = self._summed_at = time.monotonic()
        self._summed_step, self._steps = 0, 1
        self._due, self._ask_at = False, 0 if minutes else sys.maxsize

    def sum(self, step: int, *values: float) -> list[float]:
        """Return `values` summed over the ranks, in `step`. The sum also carries rank 0's decision."""
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
        """Start counting the time again."""
        self._saved_at, self._due = time.monotonic(), False

    def _word(self, step: int) -> tuple[bool, int]:
        """Return whether a save is due, and the steps until the next sum: at most twice as many as before."""
        now = time.monotonic()
        passed, steps = now - self._summed_at, step - self._summed_step
        self._summed_at, self._summed_step = now, step
        self._steps = max(1, min(2 * self._steps, int(steps * LOOK_SECONDS / max(passed, 1e-9))))
        return now - self._saved_at >= self._seconds and not self._busy(), self._steps
