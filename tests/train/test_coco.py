from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import real_formats
import torch
from PIL import Image
from torch.utils.data import DataLoader

from train.data.coco import Coco, CocoError, Masks, collate, decode_run_lengths, fill_polygon
from train.data.images import ImageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return real_formats.write_coco(tmp_path / "a coco's folder")


def opened(folder: Path, **options: Any) -> Coco:
    return Coco(folder / "annotations/instances_train2017.json", folder / "train2017", **options)


def change(folder: Path, edit: Callable[[dict], object]) -> Path:
    path = folder / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_targets_are_the_annotations(folder: Path) -> None:
    data = opened(folder)
    content = json.loads((folder / "annotations/instances_train2017.json").read_text())
    assert data.classes == ["person", "car", "dog", "toothbrush"]
    assert len(data) == 8
    crowds = 0
    for index in range(8):
        image, target = data[index]
        assert image.shape == (3, 48, 64)
        assert (target.image_id, target.size) == (index + 1, (48, 64))
        mine = [one for one in content["annotations"] if one["image_id"] == index + 1 and not one["iscrowd"]]
        for one, box, label, area in zip(mine, target.boxes_M4, target.labels_M, target.areas_M):
            centre_x, centre_y, width, height = (box * torch.tensor([64, 48, 64, 48])).tolist()
            expected = pytest.approx(one["bbox"], abs=1e-4)
            assert [centre_x - width / 2, centre_y - height / 2, width, height] == expected
            assert data.classes[label] == real_formats.COCO_CATEGORIES[one["category_id"]]
            assert area == one["area"]
        assert len(mine) == len(target.labels_M) == len(target.boxes_M4)
        crowds += len(target.crowd_labels_K)
        assert len(target.crowd_boxes_K4) == len(target.crowd_labels_K)
    assert crowds == 2
    assert data.target(4).boxes_M4.shape == (0, 4)
    images, targets = next(iter(DataLoader(data, 8, collate_fn=collate)))
    assert (len(images), len(targets)) == (8, 8)


def test_masks(folder: Path) -> None:
    data = opened(folder)
    for index in range(8):
        mask, (pixels, target) = data.mask(index), data[index]
        assert (mask.shape, mask.dtype) == ((48, 64), torch.int64)
        # In the image the objects have the colours of their classes, which JPEG changes a little.
        for label, colour in enumerate(real_formats.COCO_COLOURS.values()):
            # Where objects overlap, the mask has the smaller one in front, the picture the later one.
            of_colour = ((pixels.int() - torch.tensor(colour).view(3, 1, 1)).abs().amax(0) < 60) & (mask != 255)
            if len(target.labels_M) == 1:
                assert ((mask == label + 1) != of_colour).sum() < 40
        assert bool((mask == 255).any()) == bool(len(target.crowd_labels_K))
    assert int((data.mask(3) == 255).sum()) <= 12 * 32
    assert data.mask(4).max() == 0


def test_the_smaller_is_in_front_and_a_crowd_behind(folder: Path) -> None:
    def edit(content: dict) -> None:
        square = {"iscrowd": 0, "image_id": 1, "bbox": [0, 0, 4, 4], "area": 1}
        crowd = np.ones((48, 64), dtype=np.uint8)
        content["annotations"] = [
            {**square, "id": 1, "category_id": 3, "segmentation": [[8, 8, 12, 8, 12, 12, 8, 12]]},
            {
                **square,
                "id": 2,
                "category_id": 18,
                "segmentation": [[4, 4, 20, 4, 20, 20, 4, 20], [30, 0, 32, 0, 32, 2]],
            },
            {
                **{**square, "id": 3, "category_id": 1, "iscrowd": 1},
                "segmentation": {
                    "counts": real_formats.compressed_rle(real_formats.run_lengths(crowd)),
                    "size": [48, 64],
                },
            },
        ]

    change(folder, edit)
    mask = opened(folder).mask(0)
    assert mask[8:12, 8:12].unique().tolist() == [2]
    assert int((mask == 2).sum()) == 16
    assert int((mask == 3).sum()) == 16 * 16 - 16 + 1 + 1 + 1
    assert mask[40, 40] == 255


def test_one_size_for_a_batch(folder: Path) -> None:
    data = opened(folder, size=(24, 32))
    whole = opened(folder)
    images, masks = next(iter(DataLoader(Masks(data), 8)))
    assert images.shape == (8, 3, 24, 32)
    assert masks.shape == (8, 24, 32)
    assert torch.equal(masks[0], whole.mask(0)[1::2, 1::2])
    assert torch.equal(data.target(0).boxes_M4, whole.target(0).boxes_M4)


def test_chosen_classes(folder: Path) -> None:
    data = opened(folder, classes=["dog", "person"])
    whole = opened(folder)
    for index in range(8):
        kept = [whole.classes[label] for label in whole.target(index).labels_M]
        assert [data.classes[label] for label in data.target(index).labels_M] == [
            name for name in kept if name in ("dog", "person")
        ]
    with pytest.raises(CocoError, match=r"instances_train2017.json: has no category 'cat'"):
        opened(folder, classes=["dog", "cat"])


def test_polygons_by_their_pixels() -> None:
    assert fill_polygon([1, 1, 4, 1, 4, 3, 1, 3], 5, 6).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert fill_polygon([0, 0, 4, 0, 0, 4], 4, 4).astype(int).tolist() == [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    # It extends beyond the image, and has the other orientation.
    assert fill_polygon([-5, 9, 9, 9, 9, -5, -5, -5], 3, 2).all()
    # The area is that of any polygon, up to its edge.
    angles = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    points = np.stack([100 + 60 * np.cos(angles), 90 + 40 * np.sin(angles)], 1)
    area = 0.5 * 50 * 60 * 40 * np.sin(2 * np.pi / 50)
    assert abs(fill_polygon(points.reshape(-1).tolist(), 200, 220).sum() - area) < 20


def test_random_polygons_as_by_asking_each_pixel() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        polygon = draws.uniform(-3, 15, 2 * int(draws.integers(3, 8)))
        x, y = polygon[::2], polygon[1::2]
        for row, column in draws.integers(0, 12, (20, 2)).tolist():
            right = 0
            for x1, y1, x2, y2 in zip(x, y, np.roll(x, -1), np.roll(y, -1)):
                if (y1 <= row + 0.5) != (y2 <= row + 0.5):
                    right += x1 + (row + 0.5 - y1) / (y2 - y1) * (x2 - x1) > column + 0.5
            assert fill_polygon(polygon.tolist(), 12, 12)[row, column] == (right % 2 == 1)


def test_run_lengths() -> None:
    assert decode_run_lengths([1, 2, 3], 2, 3).astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert decode_run_lengths([0, 6], 2, 3).all()
    draws = np.random.default_rng(0)
    for threshold in (0.02, 0.5, 0.98, 1.0):
        mask = (draws.random((70, 90)) < threshold).astype(np.uint8)
        runs = real_formats.run_lengths(mask)
        for counts in (runs, real_formats.compressed_rle(runs)):
            assert np.array_equal(decode_run_lengths(counts, 70, 90), mask == 1)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], "its counts are of 3 pixels, not of 4 x 5"),
        ([-1, 21], "not a list of whole numbers from 0"),
        ([1.0, 19], "not a list of whole numbers from 0"),
        (None, "not a list of whole numbers from 0"),
        ("\u00ff", "its counts have the character"),
        ("T", "its counts end within a number"),
    ],
)
def test_unsound_run_lengths(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        decode_run_lengths(counts, 4, 5)


def _set(key: str, value: object) -> Callable[[dict], object]:
    return lambda content: content["annotations"][0].update({key: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.pop("images"), "has no list 'images': is it one of COCO's instances_*.json?"),
        (lambda content: content["images"].append(content["images"][0]), "two images have one id"),
        (lambda content: content["images"][1].pop("height"), "image 2 has no sound file_name, height and width"),
        (lambda content: content["images"][1].pop("id"), "an image has no whole number 'id'"),
        (lambda content: content["categories"].append({"id": 7, "name": "dog"}), "two categories have one name"),
        (lambda content: content["annotations"].append(3), "an annotation has no whole number 'id': 3"),
        (_set("image_id", 99), "annotation 1000 is of image 99, which the file does not list"),
        (_set("category_id", 2), "annotation 1000 is of category 2, which the file does not list"),
        (_set("bbox", [1, 2, 3]), "annotation 1000 has the bbox [1, 2, 3], not [left, top, width, height]"),
        (
            _set("bbox", [60, 2, 30, 3]),
            "annotation 1000 has the bbox [60, 2, 30, 3], which is not within its image's 64 x 48",
        ),
        (_set("bbox", [1, 2, -3, 3]), "annotation 1000 has the bbox [1, 2, -3, 3]"),
    ],
)
def test_unsound_annotations(folder: Path, edit: Callable[[dict], object], message: str) -> None:
    path = change(folder, edit)
    with pytest.raises(CocoError, match=re.escape(message)) as caught:
        opened(folder)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "is NoneType, neither polygons nor run lengths"),
        ([[1, 2, 3, 4]], "a polygon has x and y of three points or more, not 4 numbers"),
        ([["a", 2, 3, 4, 5, 6]], "could not convert"),
        ({"counts": [3072], "size": [64, 48]}, "is of size [64, 48], not [48, 64]"),
        ({"counts": [3071], "size": [48, 64]}, "its counts are of 3071 pixels"),
    ],
)
def test_unsound_segmentations(folder: Path, segmentation: object, message: str) -> None:
    path = change(folder, _set("segmentation", segmentation))
    data = opened(folder)
    assert data[0]
    with pytest.raises(CocoError, match=re.escape(message)) as caught:
        data.mask(0)
    assert str(caught.value).startswith(f"{path}: annotation 1000 has an unsound segmentation: ")


def test_truncated_annotations(folder: Path) -> None:
    path = folder / "annotations/instances_train2017.json"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CocoError, match=r"instances_train2017.json: not JSON: .*line 1 column"):
        opened(folder)


def test_images_that_are_not_the_annotations(folder: Path) -> None:
    data = opened(folder)
    Image.new("RGB", (10, 20)).save(data.path(2))
    with pytest.raises(ImageError, match=r"000000000003.jpg: 10 x 20 pixels, where .*json has 64 x 48"):
        data[2]
    data.path(2).unlink()
    with pytest.raises(FileNotFoundError, match=r"000000000003.jpg"):
        data[2]
