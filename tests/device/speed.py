"""Checks of torch.compile, and of the loop's speed beside a bare loop."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from kit import GROUP_OF_ONE, TRAIN, Check
from torch import nn
from torch.nn import functional as F

from train.config import parse
from train.data.augment import random_crop_flip
from train.data.tensors import Tensors
from train.environment import JobEnvironment
from train.loop import fit
from train.models.resnet import laid_out
from train.tasks import cifar10

GOAL = 0.98
"""Samples per second of the loop, of a bare loop's."""


class Timed(cifar10.Task):
    """Records how long the steps of each epoch take until the device has done all of them."""

    check: Check

    def begin(self) -> None:
        self.seconds: list[float] = []
        self.steps = 0

    def augment(self, batch: Any, generator: torch.Generator) -> Any:
        if self.steps == 0:
            self.check.synchronize()
            self.begun = time.perf_counter()
        self.steps += 1
        return super().augment(batch, generator)

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        if self.steps:
            self.check.synchronize()
            self.seconds.append((time.perf_counter() - self.begun) / self.steps)
            self.steps = 0
        return super().evaluate(model, batch)


class Watched(Timed):
    """Counts the places where the host waits for the device, from the third step on."""

    waits: list[str]

    def augment(self, batch: Any, generator: torch.Generator) -> Any:
        augmented = super().augment(batch, generator)
        if self.steps == 3:
            torch.cuda.set_sync_debug_mode("warn")
        return augmented

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        torch.cuda.set_sync_debug_mode("default")
        return super().evaluate(model, batch)


def task_of(check: Check, kind: type[Timed], *flags: str) -> Timed:
    config = parse(cifar10.Config, check.flags(*flags)[1:], "speed")
    place = check.folder / check.name
    folders = {"CHECKPOINT_DIRECTORY": str(place / "checkpoints"), "OUTPUT_PATH": str(place / "outputs")}
    task = kind(config, JobEnvironment.from_environment({**folders, "SPOT_NOTICES": "none"}), check.device)
    task.check = check
    return task


@contextmanager
def quiet() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def kit(task: Timed) -> list[float]:
    """Return the seconds of a step for each epoch but the first, which compiles."""
    task.begin()
    shutil.rmtree(task.environment.checkpoint_directory, ignore_errors=True)
    with quiet():
        assert fit(task, task.environment, task.device) == 0
    return task.seconds[1:]


def bare(task: Timed) -> list[float]:
    """Return the same for a bare loop with the same network, batches, augmentation and optimizer."""
    config, device = task.config, task.device
    torch.manual_seed(0)
    model = laid_out(task.model().to(device), config)
    if config.compile:
        model.forward = torch.compile(model.forward)
    optimizer = task.optimizer(model)
    assert isinstance(task.train_data, Tensors)
    inputs, labels = task.train_data.tensors
    steps = len(inputs) // config.batch_size
    schedule = task.schedule(optimizer, config.epochs * steps, steps)
    generator, seconds = torch.Generator(device).manual_seed(0), []
    model.train()
    for _ in range(config.epochs):
        task.check.synchronize()
        begun = time.perf_counter()
        for chosen in torch.randperm(len(inputs), device=device).split(config.batch_size):
            images = random_crop_flip(inputs[chosen], generator)
            with torch.autocast(device.type, torch.bfloat16):
                logits = model(images).float()
                loss = F.cross_entropy(logits, labels[chosen], label_smoothing=config.label_smoothing)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        task.check.synchronize()
        seconds.append((time.perf_counter() - begun) / steps)
    return seconds[1:]


def resnet(check: Check) -> None:
    waits(check)
    flags = ["--epochs=4"] if check.cuda else ["--epochs=2"]
    if compiler_is_there(check, "beside a bare compiled loop"):
        flags.append("--compile")
    task = task_of(check, Timed, *flags)
    begun = time.perf_counter()
    kit(task), bare(task)
    first = time.perf_counter() - begun
    pairs = [(median(bare(task)), median(kit(task))) for _ in range(check.sizes.rounds)]
    ratio = median(peer / mine for peer, mine in pairs)
    peer, mine = (1000 * median(column) for column in zip(*pairs))
    figures = (
        f"{ratio:.3f} x: {mine:.2f} ms a step, bare {peer:.2f} ms; {1000 * check.sizes.batch / mine:,.0f} images/s"
    )
    words = f" (goal at least {GOAL} x{'' if check.cuda else ': of GPUs only'}); {first:.0f} s to begin"
    check.expect(ratio >= GOAL or not check.cuda, "bfloat16, beside a bare compiled loop", figures + words)


def waits(check: Check) -> None:
    what = "no step waits for the device"
    if not check.cuda:
        check.row("skipped", what, "a CPU computes in the loop's own thread")
        return
    task = task_of(check, Watched, "--epochs=1")
    task.begin()
    with warnings.catch_warnings(record=True) as caught, quiet():
        warnings.simplefilter("always")
        fit(task, task.environment, task.device)
    places = [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchronizing CUDA" in str(one.message)]
    steps = check.sizes.images // check.sizes.batch
    most = max(set(places), key=places.count, default="")
    # A few waits, such as a look at the clock's sums or the end of the epoch, do not belong to each step.
    sound = len(places) <= steps // 10
    check.expect(sound, what, f"{len(places)} waits in {steps} steps{', most at ' if most else ''}{most}")


def compiler_is_there(check: Check, what: str) -> bool:
    """On a CPU, Inductor needs a C++ compiler; on a GPU, Triton needs a C compiler for its launchers."""
    names = ("cc", "gcc", "clang") if check.cuda else ("g++", "c++", "clang++")
    if os.environ.get("CC" if check.cuda else "CXX") or any(map(shutil.which, names)):
        return True
    check.row("skipped", f"compiled: {what}", f"torch.compile needs a compiler: none of {', '.join(names)} is here")
    return False


def compile(check: Check) -> None:  # noqa: A001  (the check's name)
    """Test train's --compile: the loss must stay that of eager mode, without a group, with DDP and with FSDP2."""
    if not compiler_is_there(check, "python -m train --compile"):
        return
    eager = check.train("eager", check.flags("--epochs=2"), TRAIN)
    kinds: dict[str, tuple[tuple[str, ...], list[str]]] = {
        "one process": (TRAIN, []),
        "ddp, one rank in a group": (GROUP_OF_ONE, []),
        "fsdp, one rank in a group": (GROUP_OF_ONE, ["--parallelism=fsdp", "--shard-above=1000"]),
    }
    for what, (way, flags) in kinds.items():
        begun = time.perf_counter()
        run = check.train(f"compiled_{len(what)}", check.flags("--epochs=2", "--compile", *flags), way, seconds=150)
        seconds = time.perf_counter() - begun
        if run.status != 0 or eager.status != 0:
            check.expect(False, f"--compile, {what}", f"status {run.status}, eager {eager.status}", run)
            continue
        (first, second), reference = (row["train_loss"] for row in run.epochs), eager.epochs[0]["train_loss"]
        speeds = [one.epochs[1]["samples_per_second"] for one in (run, eager)]
        figures = f"loss {first:.4f} (eager {reference:.4f}), then {second:.4f}; {speeds[0]:,.0f} samples/s, "
        figures += f"{speeds[0] / speeds[1]:.2f} x eager; {seconds:.0f} s in all"
        check.expect(abs(first / reference - 1) <= 0.1 and second < first, f"--compile, {what}", figures, run)
