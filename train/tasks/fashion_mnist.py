"""Fashion-MNIST with the small network of Strong Compute's first demonstration, which claims about 90.4 %.

Data: the four IDX files as published, plain or gzip. Architecture and settings:
https://github.com/StrongResearch/isc-demos, fashion_mnist. Shape suffixes: B samples of a batch, C channels, H rows,
W columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..config import TrainingConfig
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..task import Classification
from ..tasks.mnist import load


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    batch_size: int = 16
    dropout: float = 0.2
    """Dropout probability, in each of four places."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")


class Task(Classification[Config]):
    """AdamW with a cosine schedule."""

    name = "fashion_mnist"

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.train_data = load(self.folder, "train", device)
        self.test_data = load(self.folder, "t10k", device)

    def model(self) -> nn.Module:
        return network(self.config.dropout)


def network(dropout: float) -> nn.Module:
    """Return a network from images_BCHW, 1 x 28 x 28, to logits_BK, K = 10, with 34,740 parameters."""
    layers: list[nn.Module] = []
    # H and W after each: 24, 8, 1.
    for inputs, outputs, side, stride in ((1, 10, 3, 1), (10, 30, 5, 2), (30, 50, 4, 2)):
        layers += [nn.Conv2d(inputs, outputs, side, stride), nn.Dropout(dropout), nn.MaxPool2d(3, stride=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(50, 50), nn.ReLU(), nn.Dropout(dropout), nn.Linear(50, 10))
