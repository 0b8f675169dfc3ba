"""The interface between a training task and the loop (train/loop.py): data, a model, a loss, an evaluation.

Each file of train/tasks/ defines `Config`, a TrainingConfig, and `Task`.
Shape suffixes: B samples of a batch, K classes.
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
    """One training. Each rank creates it, before the first collective of the process group.

    The __init__ of a subclass sets `train_data` and `test_data`. If it raises OSError, ValueError or ImportError, the
    run prints one line and exits with 1; for FileNotFoundError the line names the command that makes the data set.
    """

    name: str
    """Name of the task, and of its data folder."""
    headline = "validation_accuracy"
    """The metric that the line of each epoch and the last line print."""
    weighs_samples = True
    """Whether every sample has the weight 1. If not, as with tokens, the ranks add up their weights in each step."""

    saves_frozen = True
    """Whether checkpoints and final.pt contain the parameters that need no gradient. If not, `model` must create the
    same ones each time."""

    train_data: Dataset[Any]
    """A map-style data set. If it has `__getitems__`, a whole batch is fetched at once; its `collate` makes the batch.
    If it has an attribute `epoch`, the loop sets it before each epoch."""
    test_data: Dataset[Any]

    def __init__(self, config: ConfigType, environment: JobEnvironment, device: torch.device) -> None:
        self.config, self.environment, self.device = config, environment, device
        self.folder = config.data_dir or environment.dataset_directory(self.name)

    @abstractmethod
    def model(self) -> nn.Module:
        """Return the model, on the CPU. The loop has set the seed of its initial weights."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of `model`; by default AdamW."""
        return torch.optim.AdamW(model.parameters(), lr=self.config.learning_rate)

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the schedule, stepped after each optimizer step; by default a cosine to 0 over all `steps`."""
        del steps_per_epoch
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def weight(self, batch: Any) -> int:  # noqa: ANN401
        """Return the weight over which the loss of a batch (still on the CPU) is summed; by default its samples."""
        while not isinstance(batch, torch.Tensor):
            batch = next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]
        return len(batch)

    def augment(self, batch: Any, generator: torch.Generator) -> Any:  # noqa: ANN401
        """Return the batch to train with. `generator` is on the batch's device, seeded by run, step and rank."""
        del generator
        return batch

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:  # noqa: ANN401
        """Return the summed loss of the batch, of shape (). The loop divides it by the weight of the whole step."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        """Return named sums over the batch, of any shape. The loop adds them up over the test data of all ranks."""

    @abstractmethod
    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        """Return the metrics from the sums of `evaluate` (float64, CPU), with names such as validation_accuracy."""

    def write(self, state: dict[str, torch.Tensor]) -> None:
        """Write further files from the trained weights, which are those of final.pt. Called on rank 0."""
        del state

    def final(self, totals: dict[str, torch.Tensor], metrics: dict[str, float]) -> str:
        """Return the text of the last line."""
        del totals
        return f"{self.headline.replace('_', ' ')} {metrics[self.headline]:.4f}"


class Classification(Task[ConfigType]):
    """Classification of batches (inputs, labels_B), with cross entropy and accuracy."""

    label_smoothing = 0.0

    def logits(self, model: nn.Module, inputs: Any) -> torch.Tensor:  # noqa: ANN401
        """Return logits_BK."""
        logits_BK: torch.Tensor = model(inputs)
        return logits_BK

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:  # noqa: ANN401
        """Return the summed cross entropy. Labels are labels_B, or soft targets_BK."""
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
    """A schedule whose learning rate rises over `warmup` steps, then falls to 0 along a cosine."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
