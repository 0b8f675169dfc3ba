"""Residual networks, and parameter groups for weight decay.

Parameters have torchvision's names, so that its published weights load with `load_state_dict`.
Shape suffixes: B samples of a batch, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..config import TrainingConfig


class Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3 and 1 x 1, with the stride at 3 x 3 (ResNet V1.5); He et al., arXiv:1512.03385."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)))
        y_BCHW = F.relu(self.bn2(self.conv2(y_BCHW)))
        y_BCHW = self.bn3(self.conv3(y_BCHW))
        return F.relu(y_BCHW + (x_BCHW if self.downsample is None else self.downsample(x_BCHW)))


class ResNet(nn.Module):
    """Four stages of bottlenecks, from images_BCHW, C = 3, to logits_BK."""

    def __init__(self, blocks: Sequence[int], classes: int, *, small_images: bool = False, width: int = 64) -> None:
        """`blocks` of (3, 4, 6, 3) give ResNet-50.

        With `small_images` (about 32 x 32 pixels), the first convolution is 3 x 3 with stride 1, without pooling after
        it. `width` is the number of channels of that convolution.
        """
        super().__init__()
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, 2, padding=1)
        inputs, stages = width, []
        for stage, count in enumerate(blocks):
            layers = []
            for block in range(count):
                layers.append(Bottleneck(inputs, width << stage, 2 if stage and not block else 1))
                inputs = (width << stage) * Bottleneck.expansion
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck):
                # Each block starts as the identity: Goyal et al., arXiv:1706.02677.
                nn.init.zeros_(module.bn3.weight)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.maxpool(F.relu(self.bn1(self.conv1(channels_last(images_BCHW)))))
        x_BCHW = self.layer4(self.layer3(self.layer2(self.layer1(x_BCHW))))
        logits_BK: torch.Tensor = self.fc(x_BCHW.mean((2, 3)))
        return logits_BK


def channels_last(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the images in the memory format in which convolutions are fastest; the output keeps it."""
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def laid_out(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """Return `model` with its kernels in channels_last too, except for FSDP, which shards only contiguous ones."""
    if config.parallelism == "ddp":
        # mypy does not know `to` with only this argument.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def decayed_but_norms(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups: weight decay for matrices and kernels, none for biases and norms."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": weight_decay},
        {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
    ]
