"""DINOv2: a linear probe on the frozen backbone, and then all of it fine-tuned from there at a lower rate.

The order matters: begun with a random head, fine-tuning spoils the features (Kumar et al., arXiv:2202.10054). Both
trainings have their own folders, probe/ and finetune/, below those of the run; result.json has the results of both.

The data: CIFAR-100 as published, or train/CLASS/IMAGE and test/CLASS/IMAGE.
Shape suffixes: N samples, B samples of a batch, C channels, H rows, W columns, K classes, D features.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from torch import nn
from torch.nn import functional as F

from train import loop, pretrained
from train.config import TrainingConfig
from train.data.images import normalise
from train.distributed import sum_over_ranks
from train.environment import KEYWORD_ONLY, JobEnvironment
from train.metrics import Metrics
from train.task import Classification

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 5
    """Passes over the training data, of the probe and again of the fine-tuning."""
    learning_rate: float = 1e-3
    """Of the probe, at the start."""
    finetune_divisor: float = 8.0
    """The learning rate of the fine-tuning is that of the probe over this."""
    parallelism: Literal["ddp", "fsdp"] = "fsdp"
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    model_dir: Optional[Path] = None  # noqa: UP045
    """Folder of a DINOv2 model, as save_pretrained leaves it. Without it: random weights."""
    model_size: Literal["tiny", "base"] = "base"
    """Without --model-dir: tiny, or base as DINOv2-base."""
    image_size: int = 224
    """Pixels of each side, to which images are brought: a multiple of 14."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("finetune_divisor", self.finetune_divisor > 0, "above 0")
        self.check("image_size", self.image_size >= 14 and self.image_size % 14 == 0, "a multiple of 14")


def run(config: Config, environment: JobEnvironment, device: torch.device) -> int:
    """Both trainings, each from its newest checkpoint on. Returns as `loop.run`."""
    probe, finetune = (_part(environment, name) for name in ("probe", "finetune"))
    weights = probe.checkpoint_directory / "final.pt"
    # As rank 0 sees it: on a shared disk the others may see it later.
    if not sum_over_ranks(torch.tensor(int(environment.rank == 0 and weights.is_file()))):
        # A restart on an empty disk finds its last checkpoint in the mirror, and has nothing left to train.
        status = loop.run(Probe, config, probe, device, save_last=True)
        if status or config.dry_run:
            return status
    lower = dataclasses.replace(config, learning_rate=config.learning_rate / config.finetune_divisor)
    status = loop.run(Finetune, lower, finetune, device, initial=weights)
    if status == 0 and environment.rank == 0 and not config.dry_run:
        results = [json.loads((part.output_directory / "result.json").read_text()) for part in (probe, finetune)]
        before = {f"probe_{name}": results[0][name] for name in ("validation_accuracy", "validation_loss")}
        Metrics(environment).result({**results[1], **before})
    return status


def _part(environment: JobEnvironment, name: str) -> JobEnvironment:
    """The environment of one of the trainings."""
    url = environment.checkpoint_url
    return dataclasses.replace(
        environment,
        checkpoint_directory=environment.checkpoint_directory / name,
        output_directory=environment.output_directory / name,
        checkpoint_url=url and f"{url.rstrip('/')}/{name}",
    )
