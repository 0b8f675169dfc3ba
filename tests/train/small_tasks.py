"""All tasks on small data in its real format, so that each trains in seconds on a CPU; and a way to interrupt one.

    python small_tasks.py write FOLDER             writes the data of all tasks
    python small_tasks.py train DATA RESULTS [STOP]

`train` runs on each rank of a launcher and runs all tasks, one after the other. With STOP each task is interrupted at
about that step in its first attempt. Exit status: the worst of the tasks'; 75 when one was interrupted.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import real_formats
import torch

import train.interruption
import train.loop
from train.config import TrainingConfig, parse
from train.data import idx
from train.distributed import choose_device, process_group
from train.environment import JobEnvironment


class Small(NamedTuple):
    write: Callable[[Path], object]
    """Writes the task's data set into a folder that is there."""
    flags: tuple[str, ...]
    """About 10 optimizer steps in 2 epochs."""


def write_digits(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 42), ("t10k", 13)):
        labels = torch.arange(count, dtype=torch.uint8) % 10
        images = torch.randint(0, 60, (count, 8, 8), generator=generator, dtype=torch.uint8)
        images[torch.arange(count), labels.long() % 8] += 180  # a bright row for each label
        idx.write(folder / f"{split}-images-idx3-ubyte", images)
        idx.write(folder / f"{split}-labels-idx1-ubyte", labels)


def write_texts(folder: Path) -> None:
    """Texts of two lengths, some of them prompts with a completion."""
    for split, count in (("train", 42), ("test", 13)):
        lines = []
        for index in range(count):
            text = ("the cat sat on the mat", "a dog ran in the park today", "birds fly")[index % 3]
            lines.append({"text": f"{text} ."} if index % 2 else {"prompt": text, "completion": " and so it was ."})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


TWO_EPOCHS = ("--epochs=2", "--batch-size=8", "--test-batch-size=4", "--device=cpu")

TINY = (*TWO_EPOCHS, "--model-size=tiny")

SMALL = {
    "cifar10": Small(lambda folder: real_formats.write_cifar10(folder, per_batch=8, test=13), TWO_EPOCHS),
    "cifar100_resnet50": Small(
        lambda folder: real_formats.write_cifar100(folder, train=40, test=13), (*TWO_EPOCHS, "--width=2")
    ),
    "detection": Small(
        lambda folder: real_formats.write_coco(folder, 21, 9), (*TINY, "--shorter-side=48", "--longer-side=64")
    ),
    "digits": Small(write_digits, TWO_EPOCHS),
    "fashion_mnist": Small(lambda folder: real_formats.write_mnist(folder, train=42, test=13), TWO_EPOCHS),
    "imagenet_resnet50": Small(
        lambda folder: real_formats.write_class_folders(folder, classes=3, train=14, val=5),
        (*TWO_EPOCHS, "--width=2", "--image-size=64", "--workers=0"),
    ),
    "language_model_lora": Small(write_texts, (*TINY, "--learning-rate=1e-2", "--shard-above=1000")),
    "linear_probe_finetune": Small(
        lambda folder: real_formats.write_cifar100(folder, 42, 13), (*TINY, "--image-size=28", "--shard-above=1000")
    ),
    "mnist": Small(lambda folder: real_formats.write_mnist(folder, train=42, test=13), TWO_EPOCHS),
    "segmentation": Small(lambda folder: real_formats.write_coco(folder, 42, 9), (*TINY, "--image-size=64")),
    "text_classification": Small(lambda folder: real_formats.write_ag_news(folder, 42, 13), TINY),
}


class StopsAt(train.interruption.Interruption):
    """Requests a stop at a step, and lets no rank continue before all have received it."""

    stop_at = 0

    def agreed(self) -> bool:
        stop_file = self._environment.stop_file
        if self.stop_at and self._step + 1 == self.stop_at and stop_file is not None:
            if self._environment.rank == 0:
                stop_file.touch()
            while not (self._notice or self._bound != sys.maxsize):
                time.sleep(0.01)
        return super().agreed()


@contextmanager
def interrupted_at(step: int):
    """Request a stop of each training in the block at its own step `step`; 0 means never."""
    before, StopsAt.stop_at = train.loop.Interruption, step
    train.loop.Interruption = StopsAt
    try:
        yield
    finally:
        train.loop.Interruption = before


def place(environment: JobEnvironment, results: Path, name: str, attempt: int) -> JobEnvironment:
    """Return an environment with folders for one task."""
    folder = results / name
    return dataclasses.replace(
        environment,
        checkpoint_directory=folder / "checkpoints",
        output_directory=folder / "outputs",
        stop_file=folder / f"stop_{attempt}",
        attempt=attempt,
    )


def run(name: str, data: Path, environment: JobEnvironment) -> int:
    """Run one training in the existing process group."""
    module = importlib.import_module(f"train.tasks.{name}")
    config: TrainingConfig = parse(module.Config, [*SMALL[name].flags, f"--data-dir={data / name}"], name)
    environment.output_directory.mkdir(parents=True, exist_ok=True)
    random.seed(0)
    if hasattr(module, "run"):
        return module.run(config, environment, choose_device("cpu", environment))
    return train.loop.run(module.Task, config, environment, choose_device("cpu", environment))


def main(command: str, *arguments: str) -> int:
    if command == "write":
        for name, small in SMALL.items():
            folder = Path(arguments[0]) / name
            folder.mkdir(parents=True)
            small.write(folder)
        return 0
    data, results, *stop = arguments
    environment = JobEnvironment.from_environment()
    step = int(stop[0]) if stop and environment.attempt == 0 else 0
    statuses = []
    with process_group(environment, torch.device("cpu")), interrupted_at(step):
        for name in SMALL:
            statuses.append(run(name, Path(data), place(environment, Path(results), name, environment.attempt)))
            if environment.rank == 0:
                print(f"{name}: status {statuses[-1]}", flush=True)
    return next((status for status in statuses if status not in (0, 75)), max(statuses))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main(*sys.argv[1:]))
