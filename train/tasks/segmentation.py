"""Semantic segmentation with Segformer, of objects annotated as in COCO.

Data: annotations/instances_train2017.json, train2017/, and the same for val2017. Each pixel belongs to the background,
to one class, or is void.
Shape suffixes: B images of a batch, C channels, H rows, W columns, K classes with the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from torch import nn
from torch.nn import functional as F

from ..config import TrainingConfig
from ..data.coco import VOID, Coco, Masks
from ..data.images import normalise
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..models import pretrained
from ..task import Task as BaseTask

TINY = {
    **{"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "decoder_hidden_size": 32,
}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 50
    batch_size: int = 16
    test_batch_size: int = 16
    learning_rate: float = 6e-5
    shard_above: int = 1_000_000_000
    """With fsdp, Segformer is one unit: transformers does not find the states of encoder blocks that are units."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    image_size: int = 512
    """Side of images and masks in pixels after resizing."""
    model_dir: Optional[Path] = None  # noqa: UP045
    """Folder of a Segformer model, as save_pretrained writes it. Default: random weights."""
    model_size: Literal["tiny", "base"] = "base"
    """Size without --model-dir: tiny, or base (Segformer-B0)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("image_size", self.image_size >= 32, "at least 32")
        self.check("weight_decay", self.weight_decay >= 0, "at least 0")


class Task(BaseTask[Config]):
    """AdamW with a cosine schedule; images are mirrored at random."""

    name = "segmentation"
    headline = "validation_mean_iou"
    weighs_samples = False  # Images have different numbers of void pixels.

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.transformers = pretrained.library("transformers")
        train = self._coco("train2017")
        self.classes = train.classes
        self.train_data, self.test_data = Masks(train), Masks(self._coco("val2017", train.classes))

    def _coco(self, split: str, classes: list[str] | None = None) -> Coco:
        size = (self.config.image_size, self.config.image_size)
        annotations = self.folder / "annotations" / f"instances_{split}.json"
        return Coco(annotations, self.folder / split, classes=classes, size=size)

    def model(self) -> nn.Module:
        classes = 1 + len(self.classes)
        if self.config.model_dir is not None:
            kind = "SegformerForSemanticSegmentation"
            # A head for other classes is replaced.
            return pretrained.load(kind, self.config.model_dir, num_labels=classes, ignore_mismatched_sizes=True)
        settings = self.transformers.SegformerConfig(
            num_labels=classes, **(TINY if self.config.model_size == "tiny" else {})
        )
        model: nn.Module = self.transformers.SegformerForSemanticSegmentation(settings)
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )

    def weight(self, batch: Any) -> int:  # noqa: ANN401
        """Return the number of pixels that are not void."""
        return int((batch[1] != VOID).sum())

    def augment(self, batch: Any, generator: torch.Generator) -> Any:  # noqa: ANN401
        images_BCHW, masks_BHW = batch
        mirrored_B = torch.rand(len(images_BCHW), generator=generator, device=generator.device) < 0.5
        images_BCHW = torch.where(mirrored_B[:, None, None, None], images_BCHW.flip(3), images_BCHW)
        return images_BCHW, torch.where(mirrored_B[:, None, None], masks_BHW.flip(2), masks_BHW)

    def _logits(self, model: nn.Module, images_BCHW: torch.Tensor) -> torch.Tensor:
        logits_BKHW = model(pixel_values=normalise(images_BCHW)).logits.float()  # At a quarter of the resolution.
        return F.interpolate(logits_BKHW, images_BCHW.shape[2:], mode="bilinear", align_corners=False)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:  # noqa: ANN401
        images_BCHW, masks_BHW = batch
        return F.cross_entropy(self._logits(model, images_BCHW), masks_BHW, ignore_index=VOID, reduction="sum")

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        images_BCHW, masks_BHW = batch
        logits_BKHW = self._logits(model, images_BCHW)
        return {
            "loss": F.cross_entropy(logits_BKHW, masks_BHW, ignore_index=VOID, reduction="sum"),
            "confusion": confusion(masks_BHW, logits_BKHW.argmax(1), logits_BKHW.shape[1]),
        }

    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        counts_KK = totals["confusion"]
        pixels = counts_KK.sum().item()
        return {
            "validation_loss": totals["loss"].item() / max(1.0, pixels),
            "validation_pixel_accuracy": counts_KK.trace().item() / max(1.0, pixels),
            "validation_mean_iou": mean_iou(counts_KK),
        }


def confusion(masks_BHW: torch.Tensor, told_BHW: torch.Tensor, classes: int) -> torch.Tensor:
    """Return counts_KK: pixels whose class is the row and whose prediction is the column, without void pixels."""
    counted = masks_BHW != VOID
    pairs = masks_BHW[counted] * classes + told_BHW[counted]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def mean_iou(counts_KK: torch.Tensor) -> float:
    """Return the mean, over the classes that occur, of the intersection over union of all their pixels."""
    right_K = counts_KK.diagonal()
    union_K = counts_KK.sum(0) + counts_KK.sum(1) - right_K
    there_K = counts_KK.sum(1) > 0
    return float((right_K[there_K] / union_K[there_K]).mean()) if there_K.any() else 0.0
