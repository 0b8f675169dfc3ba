"""CIFAR-100 with a ResNet-50 whose first layers are adapted to images of 32 x 32 pixels.

Data: cifar-100-python or its archive, "python version". Batches of 32 as in Strong Compute's demonstration. The
images are on the device from the start. Shape suffixes: B samples of a batch, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..config import TrainingConfig
from ..data.augment import random_crop_flip
from ..data.cifar import read_cifar100
from ..data.images import normalise
from ..data.tensors import Tensors
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..models.resnet import ResNet, decayed_but_norms, laid_out
from ..task import Classification, cosine_with_warmup

MEAN, DEVIATION = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Weight decay, except for norms and biases."""
    label_smoothing: float = 0.1
    width: int = 64
    """Channels of the first convolution: 64 is ResNet-50; fewer give a narrower network for trials."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("momentum", "weight_decay", "label_smoothing"):
            self.check(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        self.check("width", self.width >= 1, "at least 1")


class Task(Classification[Config]):
    """SGD with Nesterov momentum and a cosine schedule after one epoch of warm-up; shifted and mirrored images."""

    name = "cifar100_resnet50"

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.label_smoothing = config.label_smoothing
        self.train_data, self.test_data = (
            Tensors(normalise(images_NCHW.to(device), MEAN, DEVIATION), labels_N.to(device))
            for images_NCHW, labels_N in (read_cifar100(self.folder, "train"), read_cifar100(self.folder, "test"))
        )

    def model(self) -> nn.Module:
        return laid_out(ResNet((3, 4, 6, 3), 100, small_images=True, width=self.config.width), self.config)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        config = self.config
        groups = decayed_but_norms(model, config.weight_decay)
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=True)

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return cosine_with_warmup(optimizer, steps, min(steps_per_epoch, steps // 4))

    def augment(self, batch: Any, generator: torch.Generator) -> Any:  # noqa: ANN401
        images_BCHW, labels_B = batch
        return random_crop_flip(images_BCHW, generator), labels_B
