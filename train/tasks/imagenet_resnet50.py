"""ImageNet with ResNet-50: class folders, crops by worker processes, CutMix and MixUp on the device.

Data: train/n01440764/*.JPEG and so on, and val/ with folders of the same names; other images work too. LAMB as in
Strong Compute's demonstration, or SGD. Shape suffixes: B samples of a batch, C channels, H rows,
W columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ..config import TrainingConfig
from ..data.augment import cutmix, mixup
from ..data.folders import ClassFolders
from ..data.images import RandomResizedCrop, ResizedCentreCrop, normalise
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..models.lamb import Lamb
from ..models.resnet import ResNet, decayed_but_norms, laid_out
from ..task import Classification, cosine_with_warmup

# lamb: scaled with the square root of the batch size from 0.005 for 512 (You et al., table 4).
LEARNING_RATES = {"lamb": 2e-3, "sgd": 0.01}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 100
    test_batch_size: int = 256
    optimizer: Literal["lamb", "sgd"] = "lamb"
    """Optimizer; sgd has Nesterov momentum of 0.9."""
    learning_rate: float = 0.0
    """Learning rate after the warm-up; 0: the default of the optimizer, 0.002 for lamb and 0.01 for sgd."""
    warmup_epochs: int = 5
    """Epochs over which the learning rate rises."""
    weight_decay: float = 1e-4
    """Weight decay, except for norms and biases."""
    label_smoothing: float = 0.1
    mixup: float = 0.2
    """Alpha of MixUp's distribution Beta(alpha, alpha); 0: no MixUp. Each batch gets MixUp or CutMix at random."""
    cutmix: float = 1.0
    """Alpha of CutMix's distribution; 0: no CutMix."""
    image_size: int = 224
    """Side of the crops in pixels. For evaluation, the shorter side of the image is 8/7 of it."""
    width: int = 64
    """Channels of the first convolution: 64 is ResNet-50; fewer give a narrower network for trials."""
    workers: int = 4

    def __post_init__(self) -> None:
        if self.learning_rate == 0:
            object.__setattr__(self, "learning_rate", LEARNING_RATES[self.optimizer])
        super().__post_init__()
        for name in ("weight_decay", "label_smoothing"):
            self.check(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        for name in ("mixup", "cutmix", "warmup_epochs"):
            self.check(name, getattr(self, name) >= 0, "at least 0")
        self.check("width", self.width >= 1, "at least 1")
        # The last stage has a 32nd of the size, and its norms need more than one value even for a batch of 1.
        self.check("image_size", self.image_size >= 64, "at least 64")


class Task(Classification[Config]):
    """A cosine schedule after a warm-up."""

    name = "imagenet_resnet50"

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        size = config.image_size
        self.label_smoothing = config.label_smoothing
        self.train_data = ClassFolders(self.folder / "train", RandomResizedCrop(size), seed=config.seed)
        self.classes = self.train_data.classes
        evaluated = ResizedCentreCrop(size, shorter_side=size * 8 // 7)
        self.test_data = ClassFolders(self.folder / "val", evaluated, classes=self.classes)

    def model(self) -> nn.Module:
        return laid_out(ResNet((3, 4, 6, 3), len(self.classes), width=self.config.width), self.config)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        rate, groups = self.config.learning_rate, decayed_but_norms(model, self.config.weight_decay)
        if self.config.optimizer == "lamb":
            return Lamb(groups, rate)
        return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return cosine_with_warmup(optimizer, steps, min(self.config.warmup_epochs * steps_per_epoch, steps // 4))

    def augment(self, batch: Any, generator: torch.Generator) -> Any:  # noqa: ANN401
        """Normalise images_BCHW (uint8) and mix them. The labels become targets_BK."""
        images_BCHW, labels = batch
        images_BCHW, classes = normalise(images_BCHW), len(self.classes)
        ways = [(mixup, self.config.mixup), (cutmix, self.config.cutmix)]
        ways = [(way, alpha) for way, alpha in ways if alpha > 0]
        if ways:
            number = int(torch.randint(len(ways), (), generator=generator, device=generator.device))
            way, alpha = ways[number]
            images_BCHW, labels = way(images_BCHW, labels, classes, generator, alpha=alpha)
        return images_BCHW, labels

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        images_BCHW, labels_B = batch
        return super().evaluate(model, (normalise(images_BCHW), labels_B))
