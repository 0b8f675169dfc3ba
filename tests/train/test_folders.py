from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import real_formats
import torch
from PIL import Image
from torch.utils.data import DataLoader

from train.data import images
from train.data.folders import ClassFolders, FoldersError, sample_generator
from train.data.images import ImageError, RandomResizedCrop, ResizedCentreCrop, load_rgb, normalise, resized, to_tensor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return real_formats.write_class_folders(tmp_path / "an image's folder")


def test_classes_and_samples(folder: Path) -> None:
    for name in ("train/n01443537/readme.txt", "train/n01443537/.hidden.jpg", "train/list.txt"):
        (folder / name).write_text("no image")
    (folder / "train/.cache").mkdir()
    (folder / "train/n01443537/last.PNG").write_bytes((folder / "train/n01443537/n01443537_0.JPEG").read_bytes())
    train = ClassFolders(folder / "train", ResizedCentreCrop(32, shorter_side=40))
    assert train.classes == real_formats.IMAGENET_FOLDERS[:3]
    assert len(train) == 25
    assert train.labels_N.tolist() == [0] * 8 + [1] * 9 + [2] * 8
    assert [train.path(index).name for index in (0, 7, 8, 16)] == [
        "n01440764_0.JPEG",
        "n01440764_7.JPEG",
        "last.PNG",
        "n01443537_7.JPEG",
    ]
    assert all(train.path(index).is_file() for index in range(25))
    image, label = train[24]
    assert (image.shape, image.dtype, label) == ((3, 32, 32), torch.uint8, 2)
    with pytest.raises(IndexError):
        train[25]


def test_a_test_set_has_the_training_set_s_labels(folder: Path) -> None:
    train = ClassFolders(folder / "train", ResizedCentreCrop(32, shorter_side=40))
    shutil.rmtree(folder / "val/n01440764")
    test = ClassFolders(folder / "val", ResizedCentreCrop(32, shorter_side=40), classes=train.classes)
    assert test.labels_N.tolist() == [1] * 4 + [2] * 4
    assert test.path(0).parent.name == "n01443537"
    (folder / "val/n01484850").rename(folder / "val/n02000000")
    with pytest.raises(FoldersError, match=r"val: holds n02000000, which is not among the 3 classes$"):
        ClassFolders(folder / "val", ResizedCentreCrop(), classes=train.classes)


def test_augmentation_depends_on_seed_epoch_and_sample_alone(folder: Path) -> None:
    data = ClassFolders(folder / "train", RandomResizedCrop(24), seed=3)
    first = [data[index][0] for index in range(24)]
    # A resumed run has other processes and another order of samples.
    again = ClassFolders(folder / "train", RandomResizedCrop(24), seed=3)
    assert all(torch.equal(again[index][0], first[index]) for index in reversed(range(24)))
    assert torch.equal(torch.cat([batch for batch, _ in DataLoader(data, 5, num_workers=2)]), torch.stack(first))
    again.epoch = 1
    assert not any(torch.equal(again[index][0], first[index]) for index in range(24))
    other = ClassFolders(folder / "train", RandomResizedCrop(24), seed=4)
    assert not any(torch.equal(other[index][0], first[index]) for index in range(24))


def test_persistent_workers_see_the_epoch(folder: Path) -> None:
    data = ClassFolders(folder / "train", RandomResizedCrop(24), seed=3)
    loader = DataLoader(data, 8, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        data.epoch = epoch
        epochs.append(torch.cat([batch for batch, _ in loader]))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


def test_sample_generators_are_unlike() -> None:
    draws = {
        tuple(torch.rand(3, generator=sample_generator(seed, epoch, index)).tolist())
        for seed in range(3)
        for epoch in range(4)
        for index in range(50)
    }
    assert len(draws) == 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: fetch the file again, or remove it"),
        (b"<html>", "cannot be decoded (cannot identify image file"),
        (0.5, "cannot be decoded (image file is truncated"),
        (30, "cannot be decoded ("),
    ],
)
def test_damaged_images(folder: Path, content: bytes | float, message: str) -> None:
    data = ClassFolders(folder / "train", RandomResizedCrop(24))
    whole = data.path(3).read_bytes()
    if isinstance(content, bytes):
        data.path(3).write_bytes(content)
    else:
        data.path(3).write_bytes(whole[: int(len(whole) * content if content < 1 else content)])
    with pytest.raises(ImageError, match=re.escape(message)) as caught:
        data[3]
    assert str(caught.value).startswith(f"{data.path(3)}: ")
    data.path(3).unlink()
    with pytest.raises(FileNotFoundError, match=r"n01440764_3.JPEG"):
        data[3]


def test_a_damaged_image_in_a_worker_names_the_file(folder: Path) -> None:
    data = ClassFolders(folder / "train", RandomResizedCrop(24))
    data.path(0).write_bytes(b"")
    with pytest.raises(ImageError, match=r"n01440764_0.JPEG: is empty"):
        list(DataLoader(data, 2, num_workers=1))


def test_without_pillow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImageError, match="images need Pillow, which this Python does not have: pip install pillow"):
        load_rgb(folder / "train/n01440764/n01440764_0.JPEG")


def test_folders_that_are_not_classes(tmp_path: Path) -> None:
    root = tmp_path / "a root"
    with pytest.raises(FileNotFoundError, match="a root"):
        ClassFolders(root, ResizedCentreCrop())
    root.mkdir()
    with pytest.raises(FoldersError, match="a root: holds no folders; a folder for each class is expected"):
        ClassFolders(root, ResizedCentreCrop())
    (root / "cats").mkdir()
    with pytest.raises(FoldersError, match=r"cats: holds no images \(.bmp .*; remove it, or unpack its archive"):
        ClassFolders(root, ResizedCentreCrop())
    (root / "cats/deeper").mkdir()
    with pytest.raises(FoldersError, match="cats: holds the folder deeper; a class's images lie in it directly"):
        ClassFolders(root, ResizedCentreCrop())


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1"])
def test_all_kinds_of_images_have_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode).save(path)
    assert to_tensor(load_rgb(path)).shape == (3, 4, 6)


def test_centre_crop_is_of_the_centre() -> None:
    image = Image.new("RGB", (100, 50))
    image.paste((255, 255, 255), (30, 5, 70, 45))
    assert ResizedCentreCrop(40, shorter_side=50)(image).min() == 255
    around = ResizedCentreCrop(42, shorter_side=50)(image)
    for edge in (around[:, 0], around[:, -1], around[:, :, 0], around[:, :, -1]):
        assert edge.max() == 0
    assert ResizedCentreCrop(20, shorter_side=25)(image).shape == (3, 20, 20)
    with pytest.raises(ValueError, match="a crop of 50 pixels does not fit in a shorter side of 40"):
        ResizedCentreCrop(50, shorter_side=40)


def test_random_crops_are_as_asked() -> None:
    crop = RandomResizedCrop(8, scale=(0.2, 0.5), ratio=(0.5, 2.0))
    generator = torch.Generator().manual_seed(0)
    areas, lefts = [], set()
    for _ in range(500):
        left, top, right, bottom = crop._box(80, 60, torch.rand(40, generator=generator).tolist())
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 60
        areas.append((right - left) * (bottom - top) / 4800)
        assert 0.45 < (right - left) / (bottom - top) < 2.2
        lefts.add(left)
    assert 0.18 < min(areas) < 0.22
    assert 0.4 < max(areas) < 0.52
    assert len(lefts) > 30
    # No box fits: it takes the centre.
    assert RandomResizedCrop(8)._box(1000, 10, [0.99] * 40) == (493, 0, 506, 10)
    assert RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(1.0, 1.0))._box(10, 1000, [0.99] * 40) == (0, 495, 10, 505)


@pytest.mark.parametrize("box", [(0, 0, 90, 60), (10, 5, 70, 55), (40, 20, 52, 29), (0, 0, 89, 2)])
def test_resized_as_pillow_does(box: tuple[int, int, int, int]) -> None:
    """Test smaller and larger images."""
    draws = torch.randint(0, 256, (60, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = Image.fromarray(draws.numpy()).crop(box)
    by_pillow = to_tensor(part.resize((32, 32), Image.Resampling.BILINEAR))
    difference = (resized(part, 32, 32).int() - by_pillow.int()).abs()
    assert difference.max() <= 1
    assert difference.float().mean() < 0.1


def test_half_are_mirrored() -> None:
    image = Image.new("RGB", (16, 16))
    image.paste((255, 255, 255), (0, 0, 8, 16))
    crop = RandomResizedCrop(16, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    mirrored = sum(int(crop(image, generator)[0, 0, 0] == 0) for _ in range(200))
    assert 70 < mirrored < 130
    assert RandomResizedCrop(16, scale=(1.0, 1.0), ratio=(1.0, 1.0), mirrored=0)(image, generator)[0, 0, 0] == 255


def test_normalise() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    expected = (pixels / 255 - torch.tensor(images.IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(
        images.IMAGENET_DEVIATION
    ).view(3, 1, 1)
    torch.testing.assert_close(normalise(pixels), expected)
    torch.testing.assert_close(normalise(pixels[0]), expected[0])
    assert normalise(pixels, dtype=torch.bfloat16).dtype == torch.bfloat16
