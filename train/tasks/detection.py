"""Object detection with DETR (Carion et al., arXiv:2005.12872), on data annotated as COCO.

Data: annotations/instances_train2017.json, train2017/, and the same for val2017. Shape suffixes: B images of a batch, C
channels, H rows, W columns, Q queries (detections of an image), M objects of an image, K classes, S bins of scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..config import TrainingConfig
from ..data.coco import Coco
from ..data.folders import sample_generator
from ..data.images import normalise
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..models import pretrained
from ..task import Task as BaseTask

BINS = 1000
"""Number of bins of scores from 0 to 1 in which detections are counted: see `average_precision`."""
TINY_BACKBONE = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
TINY = {
    **{"d_model": 32, "num_queries": 10, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 300
    batch_size: int = 64
    test_batch_size: int = 4
    learning_rate: float = 1e-4
    """Learning rate; a tenth of it after two thirds of the epochs."""
    backbone_learning_rate: float = 1e-5
    """Learning rate of the backbone."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    clip_gradients: float = 0.1
    shorter_side: int = 800
    """Pixels of an image's shorter side after resizing."""
    longer_side: int = 1333
    """Maximum pixels of the longer side after resizing."""
    model_dir: Optional[Path] = None  # noqa: UP045
    """Folder of a DETR model, as save_pretrained writes it. Default: random weights."""
    model_size: Literal["tiny", "base"] = "base"
    """Size without --model-dir: tiny, or base (DETR with ResNet-50)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("backbone_learning_rate", self.backbone_learning_rate > 0, "above 0")
        self.check("weight_decay", self.weight_decay >= 0, "at least 0")
        self.check("shorter_side", self.shorter_side >= 32, "at least 32")
        self.check("longer_side", self.longer_side >= self.shorter_side, "at least --shorter-side")


class Task(BaseTask[Config]):
    """AdamW with a lower learning rate for the backbone, and one drop of the learning rate."""

    name = "detection"
    headline = "validation_ap50"

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.transformers = pretrained.library("transformers")
        pretrained.library("scipy")  # For the assignment of detections to objects.
        train = self._coco("train2017")
        self.classes = train.classes
        sides = (config.shorter_side, config.longer_side)
        self.train_data = Scaled(train, *sides, seed=config.seed, mirrored=0.5)
        self.test_data = Scaled(self._coco("val2017", train.classes), *sides)

    def _coco(self, split: str, classes: list[str] | None = None) -> Coco:
        return Coco(self.folder / "annotations" / f"instances_{split}.json", self.folder / split, classes=classes)

    def model(self) -> nn.Module:
        if self.config.model_dir is not None:
            settings = {"num_labels": len(self.classes), "auxiliary_loss": True, "ignore_mismatched_sizes": True}
            model = pretrained.load("DetrForObjectDetection", self.config.model_dir, **settings)
        else:
            tiny = self.config.model_size == "tiny"
            backbone = self.transformers.ResNetConfig(out_features=["stage4"], **(TINY_BACKBONE if tiny else {}))
            settings = self.transformers.DetrConfig(
                use_timm_backbone=False,
                use_pretrained_backbone=False,
                backbone=None,
                backbone_config=backbone,
                num_labels=len(self.classes),
                auxiliary_loss=True,
                **(TINY if tiny else {}),
            )
            model = self.transformers.DetrForObjectDetection(settings)
        model.loss_function = summed_loss  # type: ignore[assignment]
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        config = self.config
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        groups: list[dict[str, Any]] = [
            {"params": [parameter for name, parameter in trained.items() if "backbone" not in name]},
            {
                "params": [parameter for name, parameter in trained.items() if "backbone" in name],
                "lr": config.backbone_learning_rate,
            },
        ]
        return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        del steps_per_epoch
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [2 * steps // 3], 0.1)

    def _outputs(self, model: nn.Module, batch: Any) -> Any:  # noqa: ANN401
        mask_BHW = batch["pixel_mask"]
        pixels = normalise(batch["images"]) * mask_BHW[:, None]
        return model(pixel_values=pixels, pixel_mask=mask_BHW, labels=batch["labels"])

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:  # noqa: ANN401
        loss: torch.Tensor = self._outputs(model, batch).loss
        return loss

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        outputs = self._outputs(model, batch)
        totals = {"loss": outputs.loss, "images": torch.tensor(len(batch["images"]))}
        scores_BQK = outputs.logits.float().softmax(-1)[..., :-1]  # The last class means no object.
        for scores_QK, boxes_Q4, label in zip(scores_BQK, outputs.pred_boxes.float(), batch["labels"]):
            for name, counts in detections(scores_QK, boxes_Q4, label).items():
                totals[name] = totals[name] + counts if name in totals else counts
        return totals

    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        return {
            "validation_loss": totals["loss"].item() / max(1.0, totals["images"].item()),
            "validation_ap50": average_precision(totals["right"], totals["wrong"], totals["objects"]),
        }


class Scaled(Dataset[tuple[torch.Tensor, dict[str, torch.Tensor]]]):
    """Images resized with their aspect ratio, and their objects."""

    def __init__(self, coco: Coco, shorter: int, longer: int, *, seed: int = 0, mirrored: float = 0.0) -> None:
        self.coco, self.shorter, self.longer, self.seed, self.mirrored = coco, shorter, longer, seed, mirrored
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.coco)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return image_CHW (uint8), and boxes_M4, class_labels_M, crowd_boxes_K4, crowd_labels_K as in coco.Target."""
        image_CHW, target = self.coco[index]
        height, width = image_CHW.shape[1:]
        scale = min(self.shorter / min(height, width), self.longer / max(height, width))
        size = (max(1, round(scale * height)), max(1, round(scale * width)))
        image_CHW = F.interpolate(image_CHW[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
        boxes_M4, crowds_K4 = target.boxes_M4, target.crowd_boxes_K4
        if torch.rand((), generator=sample_generator(self.seed, self.epoch, index)) < self.mirrored:
            image_CHW = image_CHW.flip(2)
            boxes_M4, crowds_K4 = (torch.cat([1 - b[:, :1], b[:, 1:]], 1) for b in (boxes_M4, crowds_K4))
        labels = {"class_labels": target.labels_M, "boxes": boxes_M4}
        return image_CHW, {**labels, "crowd_labels": target.crowd_labels_K, "crowd_boxes": crowds_K4}

    @staticmethod
    def collate(samples: Sequence[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> dict[str, Any]:
        """Return images_BCHW, padded to the largest; pixel_mask_BHW, 1 inside images; labels, a dict per image."""
        height, width = (max(image.shape[side] for image, _ in samples) for side in (1, 2))
        images_BCHW = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
        mask_BHW = torch.zeros(len(samples), height, width, dtype=torch.int64)
        for place, (image_CHW, _) in enumerate(samples):
            rows, columns = image_CHW.shape[1:]
            images_BCHW[place, :, :rows, :columns] = image_CHW
            mask_BHW[place, :rows, :columns] = 1
        return {"images": images_BCHW, "pixel_mask": mask_BHW, "labels": [label for _, label in samples]}


def summed_loss(
    logits: torch.Tensor,
    labels: Sequence[Mapping[str, torch.Tensor]],
    device: torch.device,
    pred_boxes: torch.Tensor,
    config: Any,  # noqa: ANN401
    outputs_class: torch.Tensor | None = None,
    outputs_coord: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, dict[str, torch.Tensor], None]:
    """Replaces transformers' loss: DETR's loss of each image, over all decoder layers, summed over the images.

    DETR divides by the boxes of a rank's batch, so its loss depends on how a batch is distributed. Here the loss of
    each image is divided by its own number of boxes (by 1 if it has none): it is the same on any number of ranks.
    """
    from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

    matcher = HungarianMatcher(class_cost=config.class_cost, bbox_cost=config.bbox_cost, giou_cost=config.giou_cost)
    criterion = ImageLoss(  # type: ignore[no-untyped-call]
        matcher=matcher, num_classes=config.num_labels, eos_coef=config.eos_coefficient, losses=["labels", "boxes"]
    ).to(device)
    factors = {"loss_ce": 1, "loss_bbox": config.bbox_loss_coefficient, "loss_giou": config.giou_loss_coefficient}
    layers = [(logits, pred_boxes)]
    if outputs_class is not None and outputs_coord is not None:
        layers += list(zip(outputs_class[:-1], outputs_coord[:-1]))
    total = logits.new_zeros((), dtype=torch.float32)
    for logits_BQK, boxes_BQ4 in layers:
        for place, label in enumerate(labels):
            one = slice(place, place + 1)
            parts = criterion({"logits": logits_BQK[one].float(), "pred_boxes": boxes_BQ4[one].float()}, [label])
            for name, factor in factors.items():
                total = total + factor * parts[name]
    return total, {}, None


def corners(boxes_M4: torch.Tensor) -> torch.Tensor:
    """Convert boxes_M4 from (centre x, centre y, width, height) to (left, top, right, bottom)."""
    return torch.cat([boxes_M4[:, :2] - boxes_M4[:, 2:] / 2, boxes_M4[:, :2] + boxes_M4[:, 2:] / 2], 1)


def overlaps(one_M4: torch.Tensor, other_N4: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return intersection over union, and over the area of `one`, both _MN, of boxes as `corners` returns them."""
    left_top = torch.maximum(one_M4[:, None, :2], other_N4[None, :, :2])
    right_bottom = torch.minimum(one_M4[:, None, 2:], other_N4[None, :, 2:])
    common_MN = (right_bottom - left_top).clamp(min=0).prod(2)
    areas_M, areas_N = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one_M4, other_N4))
    union_MN = areas_M[:, None] + areas_N[None] - common_MN
    return common_MN / union_MN.clamp(min=1e-12), common_MN / areas_M[:, None].clamp(min=1e-12)


def detections(
    scores_QK: torch.Tensor, boxes_Q4: torch.Tensor, label: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the counts of one image: right_KS and wrong_KS detections by score, and objects_K.

    As in COCO, in order of falling score: a detection is right if it overlaps an object of its class with an IoU of 0.5
    or more and no earlier detection has taken that object. In a crowd of its class it is neither right nor wrong.
    """
    classes = scores_QK.shape[1]
    scores_Q, classes_Q = (value.cpu() for value in scores_QK.max(1))
    found_Q4 = corners(boxes_Q4).cpu()
    truth = {name: value.cpu() for name, value in label.items()}
    iou_QM, _ = overlaps(found_Q4, corners(truth["boxes"]))
    _, within_QK = overlaps(found_Q4, corners(truth["crowd_boxes"]))
    iou_QM = iou_QM * (classes_Q[:, None] == truth["class_labels"][None])
    within_QK = within_QK * (classes_Q[:, None] == truth["crowd_labels"][None])
    counts_2KS = torch.zeros(2, classes, BINS, dtype=torch.int64)
    for detection in scores_Q.argsort(descending=True, stable=True).tolist():
        column = min(BINS - 1, int(scores_Q[detection] * BINS))
        ious_M = iou_QM[detection]
        best = int(ious_M.argmax()) if len(ious_M) else -1
        if best >= 0 and ious_M[best] >= 0.5:
            counts_2KS[0, classes_Q[detection], column] += 1
            iou_QM[:, best] = 0  # This object is taken.
        elif not (within_QK[detection] >= 0.5).any():
            counts_2KS[1, classes_Q[detection], column] += 1
    objects_K = torch.bincount(truth["class_labels"], minlength=classes)
    return {"right": counts_2KS[0], "wrong": counts_2KS[1], "objects": objects_K}


def average_precision(right_KS: torch.Tensor, wrong_KS: torch.Tensor, objects_K: torch.Tensor) -> float:
    """Return AP at an IoU of 0.5, the mean over the classes that have objects.

    As in COCO, precision is read at 101 recalls. Unlike COCO, it comes from counts that can be added up over ranks:
    detections whose scores are in the same bin of width 1 / BINS count as equal, where COCO ranks them.
    """
    right_KS, wrong_KS = (counts.flip(1).cumsum(1) for counts in (right_KS.double(), wrong_KS.double()))
    recalls_R = torch.linspace(0, 1, 101, dtype=torch.float64)
    values = []
    for right_S, wrong_S, objects in zip(right_KS, wrong_KS, objects_K.tolist()):
        if objects:
            precision_S = right_S / (right_S + wrong_S).clamp(min=1)
            precision_S = precision_S.flip(0).cummax(0).values.flip(0)  # Best at this recall or a higher one.
            places_R = torch.searchsorted((right_S / objects).contiguous(), recalls_R - 1e-9)
            values.append(F.pad(precision_S, (0, 1))[places_R].mean())
    return float(torch.stack(values).mean()) if values else 0.0
