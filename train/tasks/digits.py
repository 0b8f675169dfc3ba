"""The UCI handwritten digits, 8 x 8 pixels, with a small convolutional network: seconds on a CPU.

Interrupted at any step and started again, a run ends with the weights that it would have had: on a CPU, with as
many ranks, the same bits.

Shape suffixes: N samples, B samples of a batch, H rows, W columns, C channels, K classes.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import torch
from torch import nn
from torch.nn import functional as F

from train.checkpoint import CheckpointError, Checkpoints
from train.data import idx
from train.distributed import data_parallel, failed_anywhere, shard, sum_over_ranks
from train.environment import KEYWORD_ONLY, JobEnvironment
from train.files import replaced
from train.interruption import NOT_FINISHED, Interruption
from train.metrics import Metrics, MetricsTracker
from train.sampler import ResumableSampler


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config:
    """The task's flags."""

    epochs: int = 20
    """Passes over the training images."""
    global_batch_size: int = 64
    """Images per optimizer step, all ranks together; rounded up to a multiple of their number."""
    learning_rate: float = 5e-3
    """Of AdamW at the start; it falls to 0 along a cosine."""
    seed: int = 0
    """Of the initial weights and of the order of the images."""
    save_every: int = 0
    """Optimizer steps between checkpoints; 0 saves at a notice of interruption only."""
    log_every: int = 0
    """Optimizer steps between lines with the loss of such a step; 0 tells of epochs only."""
    data_dir: Optional[Path] = None  # noqa: UP045  (evaluated at run time, also by Python 3.9)
    """Folder of the IDX files. Default: datasets/digits in the project's scratch folder."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""

    def __post_init__(self) -> None:
        for name, value in (("--epochs", self.epochs), ("--global-batch-size", self.global_batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name, value in (("--save-every", self.save_every), ("--log-every", self.log_every)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"--learning-rate must be above 0 and finite, not {self.learning_rate}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be from 0 to {2**32 - 1}, not {self.seed}")


def network(height: int, width: int) -> nn.Module:
    """From images_BCHW, C = 1, to logits_BK, K = 10."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 2) * (width // 2), 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def load(folder: Path, split: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """images_NCHW of float32 from 0 to 1, and labels_N of int64 below K.

    Raises:
        FileNotFoundError: a file is not in `folder`.
        idx.IdxError: a file is unsound, or its labels are not those of digits.
    """
    images_NHW, labels_N = idx.read_split(folder, split)
    if not len(labels_N) or labels_N.max() > 9:
        raise idx.IdxError(f"{folder}: the {split} labels must be some, and from 0 to 9: {len(labels_N)} are there")
    return images_NHW.unsqueeze(1).to(device, torch.float32) / 255, labels_N.to(device, torch.int64)


def train_steps(
    model: nn.Module,
    images_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    sampler: ResumableSampler,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    tracker: MetricsTracker,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Take a step with each batch_B that the epoch has left for this rank, and yield its size and its mean loss."""
    model.train()
    for batch_B in torch.tensor(list(sampler), dtype=torch.int64).split(batch_size):
        if not len(batch_B):
            return  # Interrupted after the epoch's last step.
        logits_BK = model(images_NCHW[batch_B])
        loss = F.cross_entropy(logits_BK, labels_N[batch_B], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        tracker.update({"train_loss": loss}, len(batch_B))
        sampler.advance(len(batch_B))
        yield len(batch_B), loss.detach()


@torch.no_grad()
def evaluate(
    model: nn.Module, images_NCHW: torch.Tensor, labels_N: torch.Tensor, environment: JobEnvironment
) -> tuple[float, int, int]:
    """Mean loss, number right and number of all samples, each sample counted once by one of the ranks."""
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64)
    for batch_B in torch.tensor(shard(len(labels_N), environment), dtype=torch.int64).split(512):
        logits_BK = model(images_NCHW[batch_B])
        loss = F.cross_entropy(logits_BK, labels_N[batch_B], reduction="sum")
        right = (logits_BK.argmax(1) == labels_N[batch_B]).sum()
        totals += torch.tensor([loss.item(), right.item(), len(batch_B)], dtype=torch.float64)
    loss_sum, right_sum, count = sum_over_ranks(totals).tolist()
    return loss_sum / count, int(right_sum), int(count)


def run(config: Config, environment: JobEnvironment, device: torch.device) -> int:
    """Train and evaluate, from the newest checkpoint on. Rank 0 prints a line per epoch and writes the results.

    Returns:
        0; 75 after a notice of interruption, when a checkpoint is saved; or 1 when the data is missing or
        unsound, the checkpoints are another program's, or the training diverges. The same on every rank.
    """
    folder = config.data_dir or environment.dataset_directory("digits")
    problem = None
    try:
        train_images_NCHW, train_labels_N = load(folder, "train", device)
        test_images_NCHW, test_labels_N = load(folder, "t10k", device)
        metrics = Metrics(environment)
    except FileNotFoundError as error:
        problem = f"{error}; to make it: python -m train.prepare digits {shlex.quote(str(folder))}"
    except (idx.IdxError, OSError) as error:
        problem = str(error)
    if failed_anywhere(problem, environment):
        return 1

    torch.manual_seed(config.seed)
    model = network(*train_images_NCHW.shape[2:]).to(device)
    wrapped = data_parallel(model, environment)
    sampler = ResumableSampler(len(train_labels_N), environment, seed=config.seed, first_epoch=1)
    local_batch_size = math.ceil(config.global_batch_size / environment.world_size)
    steps = config.epochs * math.ceil(len(sampler) / local_batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    tracker = MetricsTracker()
    state = {"model": model, "optimizer": optimizer, "schedule": schedule, "sampler": sampler}
    try:
        checkpoints = Checkpoints(environment, {**state, "tracker": tracker, "metrics": metrics})
        step = checkpoints.resume()
    except CheckpointError as error:
        problem = str(error)
    if failed_anywhere(problem, environment):
        return 1
    if step and environment.rank == 0:
        print(f"resumed at step {step} of {steps}, in epoch {sampler.epoch}", flush=True)
    elif environment.attempt > 0:
        metrics.load_state_dict({"lines": []})  # An attempt without a checkpoint: all of it is trained again.

    started = time.monotonic() - checkpoints.notes.get("seconds", 0.0)
    with Interruption(environment) as interruption, checkpoints:
        for epoch in range(sampler.epoch, config.epochs + 1):
            epoch_started, samples = time.monotonic(), 0
            with sampler.in_epoch(epoch):
                data = (train_images_NCHW, train_labels_N, sampler, local_batch_size)
                for batch_size, loss in train_steps(wrapped, *data, optimizer, schedule, tracker):
                    step += 1
                    samples += batch_size
                    if config.log_every and step % config.log_every == 0:
                        pair = torch.tensor([loss.item() * batch_size, batch_size], dtype=torch.float64)
                        loss_sum, count = sum_over_ranks(pair).tolist()
                        if environment.rank == 0:
                            print(f"step {step} of {steps}: loss {loss_sum / count:.9g}", flush=True)
                    stop = interruption.agreed()
                    if stop or (config.save_every and step % config.save_every == 0):
                        checkpoints.notes["seconds"] = time.monotonic() - started
                        checkpoints.save(step)
                    if stop:
                        saved = "saved" if checkpoints.wait() else "NOT saved"
                        if environment.rank == 0:
                            print(
                                f"interrupted at step {step} of {steps} by {interruption.reason}: {saved}", flush=True
                            )
                        return NOT_FINISHED
            train_loss = tracker.means()["train_loss"]
            tracker.reset()
            speed = environment.world_size * samples / (time.monotonic() - epoch_started)
            validation_loss, right, count = evaluate(model, test_images_NCHW, test_labels_N, environment)
            if not math.isfinite(train_loss + validation_loss):
                problem = (
                    f"the loss is {train_loss} in epoch {epoch}: try a --learning-rate below {config.learning_rate}"
                )
            if failed_anywhere(problem, environment):
                return 1
            metrics.log(
                {
                    "attempt": environment.attempt,
                    "epoch": epoch,
                    "train_loss": train_loss,
                    "validation_loss": validation_loss,
                    "validation_accuracy": right / count,
                    "samples_per_second": speed,
                }
            )
            if environment.rank == 0:
                print(
                    f"epoch {epoch}/{config.epochs}: loss {train_loss:.4f}, validation accuracy {right / count:.4f}, "
                    f"{speed:.0f} samples/s",
                    flush=True,
                )

    seconds = time.monotonic() - started
    if environment.rank == 0:
        with replaced(environment.checkpoint_directory / "final.pt") as file:
            torch.save(model.state_dict(), file)
        print(f"validation accuracy {right / count:.4f} ({right} of {count}), {seconds:.1f} s", flush=True)
    metrics.result(
        {
            "validation_accuracy": right / count,
            "epochs": config.epochs,
            "seconds": seconds,
            "world_size": environment.world_size,
        }
    )
    return 0
