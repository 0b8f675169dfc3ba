"""`python -m train digits` with faults at given steps. Each fault comes once in an experiment.

python -m programs.faulty [FAULT=STEP]... [FLAGS of the digits]
    hold         rank 0 waits here until it is asked to stop or the file CHECKPOINT_DIRECTORY.go exists
    slow         from here on rank 0 takes a second for each step, until that file exists
    hang         the last rank stops making progress
    memory       the last rank allocates memory until it is killed
    slow_saves   rank 0 takes a second for each file of a checkpoint
A fault that has come creates the file CHECKPOINT_DIRECTORY.FAULT_STEP. Each rank records the samples that it uses, a
line `EPOCH INDEX...` for each step, in OUTPUT_PATH/samples_RANK.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch

from train import __main__ as program
from train import loop
from train.checkpoint import Checkpoints
from train.interruption import Interruption
from train.sampler import ResumableSampler

PLACE = os.environ["CHECKPOINT_DIRECTORY"]
RANK, LAST = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]) - 1
GO = Path(f"{PLACE}.go")
SAMPLES = Path(os.environ["OUTPUT_PATH"], f"samples_{RANK}")


def hold(interruption: Disturbed) -> None:
    while interruption._notice is None and not GO.exists():
        time.sleep(0.05)
    coming.pop("hold")


def slow(_: Disturbed) -> None:
    if not GO.exists():
        time.sleep(1)


def hang(_: Disturbed) -> None:
    time.sleep(10000)


def memory(_: Disturbed) -> None:
    held = []
    while True:
        held.append(bytearray(10**8))
        time.sleep(0.1)


def slow_saves(_: Disturbed) -> None:
    def slowly(descriptor: int) -> None:
        time.sleep(1)
        fsync(descriptor)

    fsync, os.fsync = os.fsync, slowly
    coming.pop("slow_saves")


FAULTS = {
    "hold": (0, hold),
    "slow": (0, slow),
    "hang": (LAST, hang),
    "memory": (LAST, memory),
    "slow_saves": (0, slow_saves),
}
coming: dict[str, tuple[int, Path]] = {}
"""Those of this rank, of each kind the first that has not come yet."""


def expect(words: list[str]) -> None:
    for word in words:
        name, _, step = word.partition("=")
        told = Path(f"{PLACE}.{name}_{step}")
        if FAULTS[name][0] == RANK and name not in coming and not told.exists():
            coming[name] = (int(step), told)


class Resumed(Checkpoints):
    step = 0

    def resume(self) -> int:
        Resumed.step = super().resume()
        return Resumed.step


class Disturbed(Interruption):
    def agreed(self) -> bool:
        if torch.is_grad_enabled():  # Not between the batches of an evaluation.
            Resumed.step += 1
            for name, (step, told) in list(coming.items()):
                if Resumed.step >= step:
                    told.touch()
                    FAULTS[name][1](self)
        return super().agreed()


class Noted(ResumableSampler):
    def __iter__(self) -> Iterator[int]:
        self._listed = list(super().__iter__())
        return iter(self._listed)

    def advance(self, count: int) -> None:
        used, self._listed = self._listed[:count], self._listed[count:]
        with SAMPLES.open("a") as file:
            print(self.epoch, *used, file=file)
        super().advance(count)


if __name__ == "__main__":
    faults = [word for word in sys.argv[1:] if word.partition("=")[0] in FAULTS]
    expect(faults)
    loop.Checkpoints, loop.Interruption, loop.ResumableSampler = Resumed, Disturbed, Noted
    # On a busy machine a rank may hold for longer than the ten minutes that the others wait by default.
    program.process_group = functools.partial(program.process_group, timeout=timedelta(hours=1))
    sys.exit(program.main(["digits", *(word for word in sys.argv[1:] if word not in faults)]))
