"""The UCI handwritten digits (8 x 8 pixels) with a small convolutional network. It takes seconds on a CPU.

Shape suffixes: N samples, B samples of a batch, H rows, W columns, C channels, K classes.
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


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 20
    learning_rate: float = 5e-3


class Task(Classification[Config]):
    """AdamW with a cosine schedule and label smoothing."""

    name = "digits"
    label_smoothing = 0.1

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.train_data = load(self.folder, "train", device)
        self.test_data = load(self.folder, "t10k", device)

    def model(self) -> nn.Module:
        images_BCHW, _ = self.train_data[:1]
        return network(*images_BCHW.shape[2:])


def network(height: int, width: int) -> nn.Module:
    """Return a network from images_BCHW, C = 1, to logits_BK, K = 10."""
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


def load(folder: Path, split: str, device: torch.device) -> Tensors:
    """Return images_NCHW (float32, 0 to 1) and labels_N (int64, below K), all on `device`.

    Raises:
        FileNotFoundError: a file is not in `folder`.
        idx.IdxError: a file is invalid, or its labels are not those of digits.
    """
    images_NHW, labels_N = idx.read_split(folder, split)
    if not len(labels_N) or labels_N.max() > 9:
        raise idx.IdxError(f"{folder}: the {split} labels must be some, and from 0 to 9: {len(labels_N)} are there")
    return Tensors(images_NHW.unsqueeze(1).to(device, torch.float32) / 255, labels_N.to(device, torch.int64))
