"""COCO's annotations of objects (https://cocodataset.org/#format-data): instances_*.json beside a folder of images.

An object is a box (left, top, width, height, in pixels) with a category. Its outline is given by polygons, or by run
lengths for a crowd of many objects. The identifiers of categories have gaps; classes here count from 0 in their order.

Shape suffixes: M objects of an image, K crowds of an image, C channels, H rows, W columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..data.images import ImageError, load_rgb, resized, to_tensor

BACKGROUND, VOID = 0, 255


class CocoError(ValueError):
    """The annotations are invalid. The message names the file and the id of the annotation or image, if any."""


@dataclass(frozen=True)
class Target:
    """The objects to detect in an image."""

    boxes_M4: torch.Tensor
    """float32: centre x, centre y, width, height, each from 0 to 1 relative to the image."""
    labels_M: torch.Tensor
    """int64, 0 to the number of classes - 1."""
    areas_M: torch.Tensor
    """float32: areas of the outlines in pixels. COCO's small is below 32 x 32, its large above 96 x 96."""
    crowd_boxes_K4: torch.Tensor
    """Crowds, as boxes_M4. A detection in a crowd is neither right nor wrong."""
    crowd_labels_K: torch.Tensor
    """Labels of the crowds, as labels_M."""
    image_id: int
    """COCO's id of the image."""
    size: tuple[int, int]
    """Height and width of the image in pixels."""


@dataclass(frozen=True)
class _Image:
    identifier: int
    name: str
    height: int
    width: int


class Coco(Dataset[tuple[torch.Tensor, Target]]):
    """Map-style data set: image_CHW (uint8) and its Target. `mask` returns the semantic mask of an image."""

    def __init__(
        self,
        annotations: Path,
        images: Path,
        *,
        classes: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Read `annotations` (annotations/instances_train2017.json) of the files in `images` (train2017).

        `classes` are names in the order of the labels, by default all categories of the file. Annotations of other
        categories are omitted. Images without annotations are samples without objects. `size` is height and width in
        pixels, to which images and masks are resized, so that they fit into one batch.

        Raises:
            CocoError: the file is invalid.
            OSError: the file cannot be read.
        """
        self.annotations_path, self.images_path, self.size = annotations, images, size
        content = _parsed(annotations)
        names = {_integer(annotations, one, "id", "a category"): str(one.get("name")) for one in content["categories"]}
        self.classes = list(classes) if classes is not None else [names[identifier] for identifier in sorted(names)]
        """Names in the order of the labels. In a semantic mask, class 0 has the value 1."""
        missing = sorted(set(self.classes) - set(names.values()))
        if missing or len(set(self.classes)) < len(self.classes):
            raise CocoError(
                f"{annotations}: has no category {missing[0]!r}"
                if missing
                else f"{annotations}: two categories have one name"
            )
        self._label_of = {key: self.classes.index(name) for key, name in names.items() if name in self.classes}
        self._images = [_image(annotations, one) for one in content["images"]]
        self._objects: list[list[dict[str, Any]]] = [[] for _ in self._images]
        index_of = {image.identifier: index for index, image in enumerate(self._images)}
        if len(index_of) < len(self._images):
            raise CocoError(f"{annotations}: two images have one id")
        for annotation in content["annotations"]:
            self._check(annotation, names, index_of)
            if annotation["category_id"] in self._label_of:
                self._objects[index_of[annotation["image_id"]]].append(annotation)

    def _check(self, annotation: Any, names: dict[int, str], index_of: dict[int, int]) -> None:  # noqa: ANN401
        identifier = _integer(self.annotations_path, annotation, "id", "an annotation")
        if annotation.get("image_id") not in index_of:
            raise self._error(identifier, f"is of image {annotation.get('image_id')!r}, which the file does not list")
        if annotation.get("category_id") not in names:
            raise self._error(
                identifier, f"is of category {annotation.get('category_id')!r}, which the file does not list"
            )
        box, image = annotation.get("bbox"), self._images[index_of[annotation["image_id"]]]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(one, (int, float)) for one in box):
            raise self._error(identifier, f"has the bbox {box!r}, not [left, top, width, height]")
        left, top, width, height = box
        # Some boxes have zero width, and some extend a little beyond the edge; `_boxes` clips them.
        ends = ((left, left + width, image.width), (top, top + height, image.height))
        if any(low > high or low < -0.1 * side or high > 1.1 * side for low, high, side in ends):
            raise self._error(
                identifier, f"has the bbox {box}, which is not within its image's {image.width} x {image.height}"
            )

    def _error(self, identifier: object, problem: str) -> CocoError:
        return CocoError(f"{self.annotations_path}: annotation {identifier} {problem}")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        """Decode an image.

        Raises:
            ImageError: the file is not a complete image, or its size differs from the annotations.
            OSError: the file cannot be read.
        """
        return self.image(index), self.target(index)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.images_path / self._images[index].name

    def image(self, index: int) -> torch.Tensor:
        """Return image_CHW (uint8). Raises the errors of `__getitem__`."""
        image, path = self._images[index], self.path(index)
        pixels = load_rgb(path)
        if pixels.size != (image.width, image.height):
            raise ImageError(
                f"{path}: {pixels.width} x {pixels.height} pixels, where {self.annotations_path} has "
                f"{image.width} x {image.height}: is it of another data set?"
            )
        return to_tensor(pixels) if self.size is None else resized(pixels, *self.size)

    def target(self, index: int) -> Target:
        """Return the objects to detect, without COCO's boxes of zero area."""
        image = self._images[index]
        sound = [one for one in self._objects[index] if one["bbox"][2] > 0 and one["bbox"][3] > 0]
        objects = [one for one in sound if not one.get("iscrowd")]
        crowds = [one for one in sound if one.get("iscrowd")]
        areas = [float(one.get("area", one["bbox"][2] * one["bbox"][3])) for one in objects]
        return Target(
            boxes_M4=_boxes(objects, image),
            labels_M=self._labels(objects),
            areas_M=torch.tensor(areas, dtype=torch.float32),
            crowd_boxes_K4=_boxes(crowds, image),
            crowd_labels_K=self._labels(crowds),
            image_id=image.identifier,
            size=(image.height, image.width),
        )

    def mask(self, index: int) -> torch.Tensor:
        """Return the semantic mask_HW (int64): 0 is background, 1 + label a class, 255 void.

        Where objects overlap, the smaller one is in front. A crowd has a rough outline, so it is void where there is no
        object: `cross_entropy(..., ignore_index=255)` ignores it.

        Raises:
            CocoError: a segmentation is invalid, or there are 255 classes or more.
        """
        if len(self.classes) >= VOID:
            raise CocoError(
                f"{self.annotations_path}: {len(self.classes)} classes, where a mask has room for {VOID - 1}"
            )
        image = self._images[index]
        mask_HW = np.full((image.height, image.width), BACKGROUND, dtype=np.uint8)
        areas = [(one, self._region(one, image)) for one in self._objects[index]]
        for one, region_HW in sorted(areas, key=lambda pair: (not pair[0].get("iscrowd"), -int(pair[1].sum()))):
            mask_HW[region_HW] = VOID if one.get("iscrowd") else 1 + self._label_of[one["category_id"]]
        if self.size is not None:
            rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(self.size, mask_HW.shape))
            mask_HW = mask_HW[rows[:, None], columns]
        return torch.from_numpy(mask_HW.astype(np.int64))

    def _labels(self, annotations: list[dict[str, Any]]) -> torch.Tensor:
        return torch.tensor([self._label_of[one["category_id"]] for one in annotations], dtype=torch.int64)

    def _region(self, annotation: dict[str, Any], image: _Image) -> np.ndarray[Any, np.dtype[np.bool_]]:
        segmentation, identifier = annotation.get("segmentation"), annotation["id"]
        try:
            if isinstance(segmentation, list):
                region_HW = np.zeros((image.height, image.width), dtype=bool)
                for polygon in segmentation:
                    region_HW |= fill_polygon(polygon, image.height, image.width)
                return region_HW
            if isinstance(segmentation, dict):
                if segmentation.get("size") != [image.height, image.width]:
                    raise ValueError(f"is of size {segmentation.get('size')}, not {[image.height, image.width]}")
                return decode_run_lengths(segmentation.get("counts"), image.height, image.width)
            raise ValueError(f"is {type(segmentation).__name__}, neither polygons nor run lengths")
        except (ValueError, TypeError, OverflowError) as error:
            raise self._error(identifier, f"has an unsound segmentation: {error}") from error


class Masks(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Map-style data set: image_CHW (uint8) and its semantic mask_HW (int64), as `Coco.mask` returns it."""

    def __init__(self, coco: Coco) -> None:
        self.coco = coco

    def __len__(self) -> int:
        return len(self.coco)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.coco.image(index), self.coco.mask(index)


def collate(samples: Sequence[tuple[torch.Tensor, Target]]) -> tuple[list[torch.Tensor], list[Target]]:
    """Return lists of images and targets of different sizes, for `DataLoader(coco, collate_fn=collate)`."""
    return [image for image, _ in samples], [target for _, target in samples]


def fill_polygon(polygon: Sequence[float], height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return region_HW: the pixels whose centres are inside `polygon` (x, y, x, y, … in pixels from the top left).

    Raises:
        ValueError: the polygon has fewer than three points.
    """
    points = np.asarray(polygon, dtype=np.float64)
    if points.ndim != 1 or len(points) % 2 or len(points) < 6 or not np.isfinite(points).all():
        raise ValueError(f"a polygon has x and y of three points or more, not {points.size} numbers")
    x, y = points[::2], points[1::2]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    centres = np.arange(height) + 0.5
    # An edge crosses the centre line of a row if its ends are on different sides. Each crossing toggles inside/outside.
    crosses = (y[None] <= centres[:, None]) != (next_y[None] <= centres[:, None])
    rows, edges = np.nonzero(crosses)
    along = (centres[rows] - y[edges]) / (next_y[edges] - y[edges])
    columns = np.ceil(x[edges] + along * (next_x[edges] - x[edges]) - 0.5).clip(0, width).astype(np.int64)
    turns = np.zeros((height, width + 1), dtype=np.int64)
    np.add.at(turns, (rows, columns), 1)
    region: np.ndarray[Any, np.dtype[np.bool_]] = turns.cumsum(1)[:, :width] % 2 == 1
    return region


def decode_run_lengths(counts: object, height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return region_HW from COCO's run lengths, which go down the columns; the first run is outside.

    `counts` is a list of run lengths, or the string into which pycocotools packs them.

    Raises:
        ValueError: their sum is not height x width.
    """
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("its counts are not a list of whole numbers from 0")
    if sum(runs) != height * width:
        raise ValueError(f"its counts are of {sum(runs)} pixels, not of {height} x {width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """Unpack run lengths: 5 bits per character, low bits first; bit 6: more follow; from the fourth on, differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"its counts have the character {character!r}")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its counts end within a number")
    return runs


def _boxes(annotations: list[dict[str, Any]], image: _Image) -> torch.Tensor:
    boxes_M4 = torch.tensor([one["bbox"] for one in annotations], dtype=torch.float64).view(-1, 4)
    left_top, right_bottom = boxes_M4[:, :2], boxes_M4[:, :2] + boxes_M4[:, 2:]
    size = torch.tensor([image.width, image.height], dtype=torch.float64)
    left_top, right_bottom = (left_top / size).clamp(0, 1), (right_bottom / size).clamp(0, 1)
    return torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], 1).float()


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CocoError(f"{path}: not JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise CocoError(f"{path}: has no list {key!r}: is it one of COCO's instances_*.json?")
    return dict(content)


def _integer(path: Path, value: Any, key: str, what: str) -> int:  # noqa: ANN401  (out of JSON)
    if not isinstance(value, dict) or type(value.get(key)) is not int:
        raise CocoError(f"{path}: {what} has no whole number {key!r}: {json.dumps(value)[:100]}")
    return int(value[key])


def _image(path: Path, value: Any) -> _Image:  # noqa: ANN401
    identifier = _integer(path, value, "id", "an image")
    name, height, width = value.get("file_name"), value.get("height"), value.get("width")
    if not isinstance(name, str) or type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise CocoError(f"{path}: image {identifier} has no sound file_name, height and width")
    return _Image(identifier, name, height, width)
