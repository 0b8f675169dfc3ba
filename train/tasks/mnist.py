"""MNIST with the network and settings of PyTorch's example, as in slurm-pytorch-ddp-boilerplate.

Data: the four IDX files as published, plain or gzip. Source of model and settings:
https://github.com/pytorch/examples/tree/main/mnist. Shape suffixes: N samples, B samples of a batch, C channels,
H rows, W columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..config import TrainingConfig
from ..data import idx
from ..data.tensors import Tensors
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..task import Classification
from ..tasks import digits

SIDE = 28
MEAN, DEVIATION = 0.1307, 0.3081


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 14
    test_batch_size: int = 1000
    learning_rate: float = 1.0
    gamma: float = 0.7
    """Factor for the learning rate after each epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("gamma", 0 < self.gamma <= 1, "above 0 and at most 1")


class Task(Classification[Config]):
    """Adadelta. The learning rate falls by a factor after each epoch."""

    name = "mnist"

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.train_data, self.test_data = (
            Tensors((images_NCHW - MEAN) / DEVIATION, labels_N)
            for images_NCHW, labels_N in (load(self.folder, split, device).tensors for split in ("train", "t10k"))
        )

    def model(self) -> nn.Module:
        return network()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(model.parameters(), lr=self.config.learning_rate)

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        del steps
        return torch.optim.lr_scheduler.StepLR(optimizer, steps_per_epoch, self.config.gamma)


def network() -> nn.Module:
    """Return a network from images_BCHW, 1 x 28 x 28, to logits_BK, K = 10, with 1,199,882 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def load(folder: Path, split: str, device: torch.device) -> Tensors:
    """Return images_NCHW (float32, 0 to 1, 28 x 28) and labels_N, as `digits.load` does.

    Raises:
        FileNotFoundError: a file is not in `folder`.
        idx.IdxError: a file is invalid, or its images have another size.
    """
    data = digits.load(folder, split, device)
    height, width = data.tensors[0].shape[2:]
    if (height, width) != (SIDE, SIDE):
        raise idx.IdxError(f"{folder}: the {split} images are {height} x {width} pixels, not {SIDE} x {SIDE}")
    return data
