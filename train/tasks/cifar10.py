"""CIFAR-10: the small network of PyTorch's tutorial, or a residual network that reaches about 94 %.

Data: cifar-10-batches-py or its archive, "python version". The images are on the device from the start, so no process
has to load them. Shape suffixes: B samples of a batch, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ..config import TrainingConfig
from ..data.augment import random_crop_flip
from ..data.cifar import read_cifar10
from ..data.images import normalise
from ..data.tensors import Tensors
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..models.resnet import channels_last, decayed_but_norms, laid_out
from ..task import Classification, cosine_with_warmup

# cifarnet: https://pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html, and ten epochs, as in system 002.
# resnet: Page, "How to Train Your ResNet", and Coleman et al., DAWNBench: 94 % after 24 epochs.
SETTINGS = {
    "cifarnet": {"epochs": 10, "batch_size": 4, "learning_rate": 1e-3},
    "resnet": {"epochs": 24, "batch_size": 512, "learning_rate": 0.4},
}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    model: Literal["cifarnet", "resnet"] = "cifarnet"
    """cifarnet: the tutorial's network, about 63 %; resnet: ResNet-9 on shifted and mirrored images, about 94 %."""
    epochs: int = 0
    """Passes over the training data; 0: the default of the model, 10 and 24."""
    batch_size: int = 0
    """Samples per optimizer step, of all ranks together; 0: the default of the model, 4 and 512."""
    learning_rate: float = 0.0
    """Learning rate at the start, or after the warm-up; 0: the default of the model, 0.001 and 0.4."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Weight decay of resnet, except for its norms and biases."""
    label_smoothing: float = 0.1
    """Label smoothing of resnet."""
    width: int = 64
    """Channels of resnet's first convolution; fewer give a narrower network for trials."""

    def __post_init__(self) -> None:
        for name, value in SETTINGS[self.model].items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, value)
        super().__post_init__()
        for name in ("momentum", "weight_decay", "label_smoothing"):
            self.check(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        self.check("width", self.width >= 1, "at least 1")


class Task(Classification[Config]):
    """SGD: with a constant learning rate for cifarnet, with Nesterov momentum and a warm-up for resnet."""

    name = "cifar10"

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.train_data, self.test_data = (
            Tensors(self._normalised(images_NCHW.to(device)), labels_N.to(device))
            for images_NCHW, labels_N in (read_cifar10(self.folder, "train"), read_cifar10(self.folder, "test"))
        )
        self.is_resnet = config.model == "resnet"
        if self.is_resnet:
            self.label_smoothing = config.label_smoothing

    def _normalised(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if self.config.model == "cifarnet":
            return normalise(images_NCHW, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        return normalise(images_NCHW, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))

    def model(self) -> nn.Module:
        return laid_out(ResNet9(self.config.width), self.config) if self.is_resnet else cifarnet()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        config = self.config
        # One fused kernel for all parameters saves a tenth of a step of cifarnet. It cannot handle sharded ones.
        fused = config.parallelism == "ddp"
        groups = decayed_but_norms(model, config.weight_decay) if self.is_resnet else model.parameters()
        return torch.optim.SGD(
            groups, lr=config.learning_rate, momentum=config.momentum, nesterov=self.is_resnet, fused=fused
        )

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.is_resnet:
            return cosine_with_warmup(optimizer, steps, min(5 * steps_per_epoch, steps // 4))
        return torch.optim.lr_scheduler.LambdaLR(optimizer, _constant)

    def augment(self, batch: Any, generator: torch.Generator) -> Any:  # noqa: ANN401
        if not self.is_resnet:
            return batch
        images_BCHW, labels_B = batch
        return random_crop_flip(images_BCHW, generator), labels_B


def _constant(step: int) -> float:
    del step
    return 1.0


def cifarnet() -> nn.Module:
    """From images_BCHW, 3 x 32 x 32, to logits_BK, K = 10. 62,006 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


class ResNet9(nn.Module):
    """Eight convolutions and a linear layer, after Page. From images_BCHW, 3 x 32 x 32, to logits_BK, K = 10."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(3, width),
            _convolution(width, 2 * width),
            nn.MaxPool2d(2),
            _Residual(2 * width),
            _convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _convolution(4 * width, 8 * width),
            nn.MaxPool2d(2),
            _Residual(8 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, 10, bias=False)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        logits_BK: torch.Tensor = self.head(self.layers(channels_last(images_BCHW))) / 8
        return logits_BK


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW: torch.Tensor = x_BCHW + self.layers(x_BCHW)
        return y_BCHW


def _convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
