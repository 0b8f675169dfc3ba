"""What a training task gives to the loop (train/loop.py): data, a model, a loss, an evaluation.

A file of train/tasks/ has `Config`, a TrainingConfig, and `Task`. Shape suffixes: B samples of a batch, K classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from .config import TrainingConfig
from .environment import JobEnvironment

ConfigType = TypeVar("ConfigType", bound=TrainingConfig)


class Task(ABC, Generic[ConfigType]):
    """One training: made on each rank, before the process group's first collective.

    A subclass's __init__ sets `train_data` and `test_data`. What it raises of OSError, ValueError or ImportError is
    said in one line, and ends the run with status 1; FileNotFoundError with the command that makes the data set.
    """

    name: str
    """Of the task, and of its folder of data."""
    headline = "validation_accuracy"
    """The metric in the line of an epoch and in the last one."""
    weighs_samples = True
    """Whether every sample has the weight 1. Where not, as with tokens, the ranks add up their weights in each step."""

    saves_frozen = True
    """Whether checkpoints and final.pt have the parameters that need no gradient. Where not, `model` must give them
    alike each time."""

    train_data: Dataset[Any]
    """Map-style. With `__getitems__` a whole batch is fetched at once; with `collate` that makes the batch of it. An
    attribute `epoch`, where there is one, is set before each epoch."""
    test_data: Dataset[Any]

    def __init__(self, config: ConfigType, environment: JobEnvironment, device: torch.device) -> None:
        self.config, self.environment, self.device = config, environment, device
        self.folder = config.data_dir or environment.dataset_directory(self.name)

    @abstractmethod
    def model(self) -> nn.Module:
        """On the CPU, with the weights that the seed gives: the loop has set it."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """By default AdamW."""
        return torch.optim.AdamW(model.parameters(), lr=self.config.learning_rate)

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Asked after each optimizer step. By default to 0 along a cosine over all `steps`."""
        del steps_per_epoch
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def weight(self, batch: Any) -> int:  # noqa: ANN401
        """Over how much the loss of a batch, still on the CPU, is summed: by default its samples."""
        while not isinstance(batch, torch.Tensor):
            batch = next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]
        return len(batch)

    def augment(self, batch: Any, generator: torch.Generator) -> Any:  # noqa: ANN401
        """The batch to train with. `generator` is of the batch's device, seeded anew by run, step and rank."""
        del generator
        return batch

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:  # noqa: ANN401
        """The loss summed over the batch's `weight`, of shape (). The loop divides it by the whole step's weight."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        """Sums over the batch, of any shape, by name: the loop adds them up over the test data of all ranks."""

    @abstractmethod
    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        """The metrics that the sums of `evaluate`, float64 on the CPU, come to; names as validation_accuracy."""

    def write(self, state: dict[str, torch.Tensor]) -> None:
        """Called on rank 0 with the trained weights, as in final.pt, for whatever else is to be kept of them."""
        del state

    def final(self, totals: dict[str, torch.Tensor], metrics: dict[str, float]) -> str:
        """What the last line says."""
        del totals
        return f"{self.headline.replace('_', ' ')} {metrics[self.headline]:.4f}"


class Classification(Task[ConfigType]):
    """Of batches (inputs, labels_B): cross entropy, accuracy."""

    label_smoothing = 0.0

    def logits(self, model: nn.Module, inputs: Any) -> torch.Tensor:  # noqa: ANN401
        """logits_BK."""
        logits_BK: torch.Tensor = model(inputs)
        return logits_BK

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:  # noqa: ANN401
        """Labels may also be soft: targets_BK."""
        inputs, labels_B = batch
        logits_BK = self.logits(model, inputs).float()
        return F.cross_entropy(logits_BK, labels_B, reduction="sum", label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        inputs, labels_B = batch
        logits_BK = self.logits(model, inputs).float()
        return {
            "loss": F.cross_entropy(logits_BK, labels_B, reduction="sum"),
            "right": (logits_BK.argmax(1) == labels_B).sum(),
            "count": torch.tensor(len(labels_B)),
        }

    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        loss, right, count = (totals[name].item() for name in ("loss", "right", "count"))
        return {"validation_loss": loss / count, "validation_accuracy": right / count}

    def final(self, totals: dict[str, torch.Tensor], metrics: dict[str, float]) -> str:
        right, count = int(totals["right"]), int(totals["count"])
        return f"{super().final(totals, metrics)} ({right} of {count})"


def cosine_with_warmup(optimizer: torch.optim.Optimizer, steps: int, warmup: int) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate rises over `warmup` steps, and falls to 0 along a cosine."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
