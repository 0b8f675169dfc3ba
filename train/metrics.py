"""What a run leaves for people and tools: a line per epoch and the result. Written by rank 0 alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import torch
import torch.distributed as dist

from train.distributed import sum_over_ranks
from train.environment import JobEnvironment
from train.files import replaced


class Metrics:
    """Writes to the run's output folder on rank 0, and nothing on the others."""

    def __init__(self, environment: JobEnvironment) -> None:
        """Make the output folder.

        Raises:
            OSError: it cannot be made.
        """
        self.folder: Path | None = None
        self.lines: list[str] = []
        if environment.rank == 0:
            self.folder = environment.output_directory
            self.folder.mkdir(parents=True, exist_ok=True)

    def log(self, values: Mapping[str, float]) -> None:
        """Append `values` to metrics.jsonl, as one line of JSON.

        Raises:
            ValueError: a value is infinite or not a number, which JSON does not know.
        """
        line = json.dumps(values, allow_nan=False) + "\n"
        self.lines.append(line)
        if self.folder:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(line)

    def result(self, values: Mapping[str, float]) -> None:
        """Write `values` to result.json, which is there only when the run has finished.

        Raises:
            ValueError: as for `log`.
        """
        if self.folder:
            with replaced(self.folder / "result.json") as file:
                file.write((json.dumps(values, allow_nan=False) + "\n").encode())

    def state_dict(self) -> dict[str, Any]:
        return {"lines": list(self.lines)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make metrics.jsonl what it was then: lines of epochs that are now trained again would count twice.

        Raises:
            OSError: it cannot be written.
        """
        self.lines = list(state["lines"])
        if self.folder:
            with replaced(self.folder / "metrics.jsonl") as file:
                file.write("".join(self.lines).encode())


class MetricsTracker:
    """Means over the samples of all ranks, of values of which each rank sees its own.

    `update` adds on the values' own device and waits for nothing; `means` adds up the ranks. A tracker can be
    saved in the middle of an epoch: each rank has its own sums, and the ranks of a later attempt, be they
    more or fewer, have the same sums together.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}  # [weighted sum, weight] of each key

    def update(self, values: Mapping[str, Union[float, torch.Tensor]], weight: float = 1) -> None:  # noqa: UP007
        """Count `values`, each a mean over `weight` samples of this rank.

        Args:
            values: numbers or tensors of shape (), by names of which ranks may have different ones.
            weight: samples, 0 or more.
        """
        for name, value in values.items():
            tensor = torch.as_tensor(value).detach()
            # MPS has no float64.
            tensor = tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)
            pair = torch.stack((tensor * weight, torch.full_like(tensor, weight)))
            self._sums[name] = self._sums[name].to(pair.device) + pair if name in self._sums else pair

    def means(self) -> dict[str, float]:
        """The weighted mean of each name over all ranks, names sorted. All ranks must call it.

        The sums stay as they are: asked twice it answers the same. A name without samples is left out.
        """
        names = sorted(self._sums)
        if dist.is_initialized():
            every: list[list[str]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(every, names)
            names = sorted(set().union(*every))
        none = torch.zeros(2, dtype=torch.float64)
        mine = torch.stack([self._sums.get(name, none).cpu().double() for name in names] or [none])
        if dist.is_initialized() and "gloo" not in str(dist.get_backend_config()):
            mine = mine.cuda()  # NCCL alone has no collectives for tensors on the CPU.
        return {name: total / weight for name, (total, weight) in zip(names, sum_over_ranks(mine).tolist()) if weight}

    def reset(self) -> None:
        """Begin anew, as at an epoch's start."""
        self._sums = {}

    def state_dict(self) -> dict[str, Any]:
        """Of this rank."""
        return {name: total.cpu().clone() for name, total in self._sums.items()}

    def load_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """Take over the sums of the ranks that this one stands for: one, several, or none."""
        self._sums = {}
        for state in states:
            for name, total in state.items():
                self._sums[name] = self._sums[name] + total if name in self._sums else total.clone()


class TimestampedTimer:
    """Says on standard error of rank 0 what took how long: a time stamp, the seconds since the last line and in all."""

    def __init__(self, environment: JobEnvironment, message: str = "start") -> None:
        self._speaks = environment.rank == 0
        self._start = self._last = time.monotonic()
        self.report(message)

    def report(self, message: str) -> float:
        """Print a line, and return the seconds since the one before."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if self._speaks:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            total = now - self._start
            print(f"[{stamp}] {passed:9.3f} s, {total:9.3f} s in all: {message}", file=sys.stderr, flush=True)
        return passed
