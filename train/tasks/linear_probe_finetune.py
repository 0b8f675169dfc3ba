"""DINOv2: train a linear probe on the frozen backbone, then fine-tune the whole model at a lower learning rate.

The order matters: fine-tuning with a random head destroys features (Kumar et al., arXiv:2202.10054). Both trainings
have their own folders, probe/ and finetune/, below those of the run. result.json has the results of both.

Data: CIFAR-100 as published, or train/CLASS/IMAGE and val/CLASS/IMAGE.
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

from .. import loop
from ..config import TrainingConfig
from ..data import cifar
from ..data.augment import random_crop_flip
from ..data.folders import ClassFolders
from ..data.images import RandomResizedCrop, ResizedCentreCrop, normalise
from ..data.tensors import Tensors
from ..distributed import sum_over_ranks
from ..distributed_wandb import DistributedWandb
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..metrics import Metrics
from ..models import pretrained
from ..task import Classification

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 5
    """Passes over the training data, for the probe and again for the fine-tuning."""
    learning_rate: float = 1e-3
    """Learning rate of the probe at the start."""
    finetune_divisor: float = 8.0
    """The learning rate of the fine-tuning is that of the probe divided by this."""
    parallelism: Literal["ddp", "fsdp"] = "fsdp"
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    model_dir: Optional[Path] = None  # noqa: UP045
    """Folder of a DINOv2 model, as save_pretrained writes it. Default: random weights."""
    model_size: Literal["tiny", "base"] = "base"
    """Size without --model-dir: tiny, or base (DINOv2-base)."""
    image_size: int = 224
    """Side of the images in pixels after resizing: a multiple of 14."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("finetune_divisor", self.finetune_divisor > 0, "above 0")
        self.check("image_size", self.image_size >= 14 and self.image_size % 14 == 0, "a multiple of 14")


class Network(nn.Module):
    """DINOv2 with a linear layer on the feature of the whole image."""

    def __init__(self, backbone: nn.Module, classes: int, size: int, frozen: bool) -> None:
        super().__init__()
        self.backbone, self.size, self.frozen = backbone, size, frozen
        self.head = nn.Linear(backbone.config.hidden_size, classes)  # type: ignore[union-attr, arg-type]
        if frozen:
            backbone.requires_grad_(False)
        # Only training with masked images uses this token.
        backbone.embeddings.mask_token.requires_grad_(False)  # type: ignore[union-attr]

    def train(self, mode: bool = True) -> Network:
        """Set the mode. A frozen backbone stays in evaluation mode, without dropout."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """From images_BCHW (uint8) to logits_BK."""
        pixels = normalise(images_BCHW)
        if pixels.shape[2:] != (self.size, self.size):
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bicubic", align_corners=False)
        logits_BK: torch.Tensor = self.head(self.backbone(pixel_values=pixels).pooler_output)
        return logits_BK


class Finetune(Classification[Config]):
    """Adam on all parameters, with a cosine schedule."""

    name = "linear_probe_finetune"
    frozen = False

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.transformers = pretrained.library("transformers")
        if config.model_dir is not None:
            pretrained.check(config.model_dir)
        size = config.image_size
        if (self.folder / "train").is_dir() and self.folder.name != cifar.CIFAR100_FOLDER:
            train = ClassFolders(self.folder / "train", RandomResizedCrop(size), seed=config.seed)
            centre = ResizedCentreCrop(size, shorter_side=size * 8 // 7)
            self.train_data, self.classes = train, len(train.classes)
            self.test_data = ClassFolders(self.folder / "val", centre, classes=train.classes)
        else:
            parts = (cifar.read_cifar100(self.folder, split) for split in ("train", "test"))
            self.train_data, self.test_data = (Tensors(*(part.to(device) for part in pair)) for pair in parts)
            self.classes = 100

    def model(self) -> nn.Module:
        config = self.config
        if config.model_dir is not None:
            backbone = pretrained.load("AutoModel", config.model_dir)
        else:
            sizes = TINY if config.model_size == "tiny" else {}
            settings = self.transformers.Dinov2Config(image_size=config.image_size, **sizes)
            backbone = self.transformers.Dinov2Model(settings)
        return Network(backbone, self.classes, config.image_size, self.frozen)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=self.config.learning_rate)

    def augment(self, batch: Any, generator: torch.Generator) -> Any:  # noqa: ANN401
        """Crop and mirror the images of CIFAR; images of a folder are cropped already."""
        images_BCHW, labels_B = batch
        if isinstance(self.train_data, Tensors):
            images_BCHW = random_crop_flip(images_BCHW, generator)
        return images_BCHW, labels_B


class Probe(Finetune):
    """Adam on the head. The backbone does not change and is in no checkpoint."""

    frozen = True
    saves_frozen = False


def run(
    config: Config, environment: JobEnvironment, device: torch.device, trial: DistributedWandb | None = None
) -> int:
    """Run both trainings, each from its newest checkpoint. Return as `loop.run` does. A sweep's run is the second."""
    probe, finetune = (_part(environment, name) for name in ("probe", "finetune"))
    weights = probe.checkpoint_directory / "final.pt"
    results = [part.output_directory / "result.json" for part in (probe, finetune)]
    if not _there(environment, weights, results[0]):
        # A restart on an empty disk finds its last checkpoint in the mirror and need not train again.
        alone = dataclasses.replace(config, no_wandb=config.no_wandb or trial is not None)
        status = loop.run(Probe, alone, probe, device, save_last=True)
        if status:
            return status
    # Rank 0 has written the file that all ranks read.
    initial = torch.load(weights, weights_only=True) if _there(environment, weights) else None
    lower = dataclasses.replace(config, learning_rate=config.learning_rate / config.finetune_divisor)
    status = loop.run(Finetune, lower, finetune, device, initial, trial=trial)
    if status == 0 and environment.rank == 0 and not config.dry_run:
        before, after = (json.loads(path.read_text()) for path in results)
        lines = (path.with_name("metrics.jsonl").read_text().splitlines(keepends=True) for path in results)
        metrics = Metrics(environment)
        metrics.load_state_dict({"lines": [line for part in lines for line in part]})
        metrics.result({**after, "probe_validation_accuracy": before["validation_accuracy"]})
    return status


def _there(environment: JobEnvironment, *paths: Path) -> bool:
    """Return whether rank 0 sees all `paths`, the same on all ranks. All ranks must call it."""
    seen = environment.rank == 0 and all(path.is_file() for path in paths)
    return bool(sum_over_ranks(torch.tensor(int(seen))))


def _part(environment: JobEnvironment, name: str) -> JobEnvironment:
    """Return the environment of one of the trainings."""
    url = environment.checkpoint_url
    return dataclasses.replace(
        environment,
        checkpoint_directory=environment.checkpoint_directory / name,
        output_directory=environment.output_directory / name,
        checkpoint_url=url and f"{url.rstrip('/')}/{name}",
    )
