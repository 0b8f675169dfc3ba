"""Common parts of the checks: rows of the table, sizes, and trainings in their own processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import real_formats
import torch
from runner import LAUNCHER_VARIABLES, REPOSITORY

HERE = Path(__file__).resolve().parent
TRAIN = ("-m", "train")
GROUP_OF_ONE = (str(HERE / "one_rank.py"),)
TWO_RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train")


class Sizes(NamedTuple):
    """Sizes of a training of CIFAR-10's residual network."""

    images: int
    """A multiple of `batch`, and of 50."""
    batch: int
    width: int
    epochs: int
    """Enough of them for an interruption to come before the end."""
    save_every: int
    rounds: int
    """Of each measurement."""


CUDA = Sizes(images=50_000, batch=500, width=64, epochs=8, save_every=50, rounds=3)
CPU = Sizes(images=2000, batch=50, width=4, epochs=3, save_every=5, rounds=2)
SMALL = Sizes(images=1000, batch=50, width=2, epochs=3, save_every=5, rounds=1)


class Run(NamedTuple):
    """A training that has ended."""

    status: int
    lines: list[str]
    """What it printed, on both streams."""
    folder: Path

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """Return the rows of its metrics."""
        file = self.folder / "outputs/metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = torch.load(self.folder / "checkpoints/final.pt")
        return state


class Check:
    """One check, with its settings and rows."""

    def __init__(self, name: str, device: str, folder: Path, rows: Path, small: bool) -> None:
        self.name, self.folder, self.rows, self.small = name, folder, rows, small
        self.device = torch.device(device)
        self.cuda = device == "cuda"
        if not self.cuda:
            torch.set_num_threads(1)  # on a busy machine, several threads spin while they wait for each other
        self.sizes = CUDA if self.cuda else SMALL if small else CPU

    def row(self, state: str, what: str, figures: str = "") -> None:
        """Add a row; `state` is ok, failed or skipped."""
        print(f"{state}: {self.name}: {what}{': ' if figures else ''}{figures}", flush=True)
        with self.rows.open("a", encoding="utf-8") as file:
            file.write("\t".join((state, self.name, what, " ".join(figures.split()))) + "\n")

    def expect(self, sound: bool, what: str, figures: str = "", run: Run | None = None) -> bool:
        """Add a row that is ok if `sound`. After a failure, print the end of the output of `run`."""
        self.row("ok" if sound else "failed", what, figures)
        if not sound and run is not None:
            print(*(f"    {line}" for line in run.lines[-15:]), sep="\n", flush=True)
        return sound

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def data(self) -> Path:
        """Return data in CIFAR-10's format, made once for all checks."""
        folder = self.folder / "data"
        if not (folder / "whole").exists():
            folder.mkdir(parents=True, exist_ok=True)
            real_formats.write_cifar10(folder, per_batch=self.sizes.images // 5, test=self.sizes.images // 50)
            (folder / "whole").touch()
        return folder

    def flags(self, *more: str) -> list[str]:
        """Return the flags of `python -m train` for the residual network in bfloat16."""
        sizes = self.sizes
        flags = ["cifar10", "--model=resnet", "--precision=bfloat16", f"--device={self.device.type}", "--no-wandb"]
        flags += [f"--width={sizes.width}", f"--batch-size={sizes.batch}", "--test-batch-size=500"]
        return [*flags, f"--data-dir={self.data()}", *more]

    def train(
        self,
        place: str,
        flags: list[str],
        way: tuple[str, ...] = TRAIN,
        seconds: float = 100,
        at: str = "",
        act: Callable[[subprocess.Popen[str]], object] | None = None,
        environment: Mapping[str, object] = {},
    ) -> Run:
        """Train in the folder `place`. Call `act` once, when a line begins with `at`.

        The training is killed after `seconds`, on a CPU after three times as long.
        """
        seconds *= 1 if self.cuda else 3
        folder = self.folder / place
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            **{name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_VARIABLES)},
            **{"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "SPOT_NOTICES": "none"},
            **{"OUTPUT_PATH": str(folder / "outputs"), "CHECKPOINT_DIRECTORY": str(folder / "checkpoints")},
            **{"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor")},
            **{name: str(value) for name, value in environment.items()},
        }
        lines: list[str] = []
        with subprocess.Popen(
            [sys.executable, *way, *flags],
            cwd=folder,
            env=values,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            # A launcher ends its ranks at SIGTERM; kill it if it does not end.
            timers = [threading.Timer(seconds, process.terminate), threading.Timer(seconds + 15, process.kill)]
            for timer in timers:
                timer.daemon = True
                timer.start()
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                if act is not None and line.startswith(at):
                    act(process)
                    act = None
            process.wait()
            if not timers[0].is_alive():
                lines.append(f"(ended after {seconds:g} s by the check)")
            for timer in timers:
                timer.cancel()
        return Run(process.returncode, lines, folder)


def compare(run: Run, other: Run) -> str:
    """Return nothing if the weights are identical, bit by bit; otherwise where they differ."""
    mine, theirs = run.weights, other.weights
    if mine.keys() != theirs.keys():
        return f"other names: {', '.join(sorted(mine.keys() ^ theirs.keys())[:3])}"
    differing = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    if not differing:
        return ""
    largest = max((mine[name].double() - theirs[name].double()).abs().max().item() for name in differing)
    return f"{len(differing)} of {len(mine)} tensors differ, by up to {largest:.3g}"
