"""data.py [--rounds N] [--folder FOLDER]   Samples per second beside readers like torchvision's, as Markdown.

CIFAR: 10,000 images of 32 x 32, cropped, mirrored and normalised, in batches of 512. Class folders: JPEG of 500 x 375,
like ImageNet's; a random part of each is resized to 224 x 224, mirrored and normalised, in batches of 64. The peers
work like torchvision's data sets, transforms and `default_collate`, with Pillow: one sample after the other.

Each round runs every reader once, in turn. A ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Callable

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import real_formats

from train.data.augment import random_crop_flip
from train.data.cifar import read_cifar10
from train.data.folders import ClassFolders
from train.data.images import IMAGENET_DEVIATION, IMAGENET_MEAN, RandomResizedCrop, normalise
from train.data.tensors import Tensors, collate

MEAN, DEVIATION = (torch.tensor(one).view(-1, 1, 1) for one in (IMAGENET_MEAN, IMAGENET_DEVIATION))
CIFAR_IMAGES, JPEGS = 10_000, 2_048


def to_float(image: Image.Image) -> torch.Tensor:
    """Like ToTensor and Normalize."""
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    return tensor.sub_(MEAN).div_(DEVIATION)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(1) < 0.5 else image


class PeerCifar(Dataset):
    """Like CIFAR10 with RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor and Normalize."""

    def __init__(self, folder: Path) -> None:
        parts, self.labels = [], []
        for number in range(1, 6):
            with (folder / f"cifar-10-batches-py/data_batch_{number}").open("rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                batch = pickle.load(file, encoding="latin1")
            parts.append(batch["data"])
            self.labels += batch["labels"]
        self.images = np.vstack(parts).reshape(-1, 3, 32, 32).transpose((0, 2, 3, 1))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        padded = Image.new("RGB", (40, 40))
        padded.paste(Image.fromarray(self.images[index]), (4, 4))
        top, left = (int(torch.randint(0, 9, (1,))) for _ in range(2))
        return to_float(mirrored(padded.crop((left, top, left + 32, top + 32)))), self.labels[index]


class PeerFolders(Dataset):
    """Like ImageFolder with RandomResizedCrop(224), RandomHorizontalFlip, ToTensor and Normalize."""

    def __init__(self, folder: Path) -> None:
        self.crop = RandomResizedCrop(224)
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        self.samples = []
        for label, name in enumerate(classes):
            for root, _, names in sorted(os.walk(folder / name, followlinks=True)):
                for file in sorted(names):
                    if file.lower().endswith((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")):
                        self.samples.append((os.path.join(root, file), label))  # noqa: PTH118  (as torchvision has it)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.samples[index]
        with open(path, "rb") as file:  # noqa: PTH123
            image = Image.open(file).convert("RGB")
        box = self.crop._box(image.width, image.height, torch.rand(40).tolist())
        return to_float(mirrored(image.crop(box).resize((224, 224), Image.Resampling.BILINEAR))), label


def kit_cifar(folder: Path) -> Iterable[torch.Tensor]:
    generator = torch.Generator()
    order = torch.randperm(CIFAR_IMAGES).tolist()
    for images, _ in DataLoader(Tensors(*read_cifar10(folder, "train")), 512, sampler=order, collate_fn=collate):
        yield normalise(random_crop_flip(images, generator))


def kit_folders(folder: Path, workers: int) -> Iterable[torch.Tensor]:
    data = ClassFolders(folder, RandomResizedCrop(224))
    for images, _ in DataLoader(data, 64, shuffle=True, num_workers=workers):
        yield normalise(images)


def peer(data: Dataset, batch_size: int, workers: int) -> Iterable[torch.Tensor]:
    for images, _ in DataLoader(data, batch_size, shuffle=True, num_workers=workers):
        yield images


def write_jpegs(folder: Path) -> None:
    """Make smooth noise, whose files have about ImageNet's size."""
    draws = np.random.default_rng(0)
    for index in range(JPEGS):
        path = folder / f"class{index % 8}" / f"{index}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = Image.fromarray(draws.integers(0, 256, (94, 125, 3), dtype=np.uint8))
        cells.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=92)


def measure(
    rounds: int, readers: dict[str, tuple[int, Callable[[], Iterable[torch.Tensor]]]]
) -> dict[str, list[float]]:
    """Return the samples per second, including the reading of the files."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, (count, reader) in readers.items():
            started = time.perf_counter()
            seen = sum(len(batch) for batch in reader())
            speeds[name].append(seen / (time.perf_counter() - started))
            assert seen == count, (name, seen)
    return speeds


def show(title: str, speeds: dict[str, list[float]], peer_name: str) -> None:
    rounds = len(speeds[peer_name])
    print(f"\n| {title} (samples per second), {rounds} rounds | median | slowest | fastest | ratio to the peer |")
    print("|---|---|---|---|---|")
    for name, mine in speeds.items():
        ratio = median(a / b for a, b in zip(mine, speeds[peer_name]))
        print(f"| {name} | {median(mine):,.0f} | {min(mine):,.0f} | {max(mine):,.0f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker; on a busy machine, several threads would measure their waiting
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        real_formats.write_cifar10(folder, per_batch=CIFAR_IMAGES // 5)
        speeds = measure(
            options.rounds,
            {
                "train/data: Tensors, random_crop_flip": (CIFAR_IMAGES, lambda: kit_cifar(folder)),
                "sample by sample, 2 workers": (CIFAR_IMAGES, lambda: peer(PeerCifar(folder), 512, 2)),
                "sample by sample, no workers": (CIFAR_IMAGES, lambda: peer(PeerCifar(folder), 512, 0)),
            },
        )
        show("CIFAR-10", speeds, "sample by sample, 2 workers")
        write_jpegs(folder / "images")
        size = sum(path.stat().st_size for path in (folder / "images").rglob("*.JPEG")) / JPEGS
        speeds = measure(
            options.rounds,
            {
                "train/data: ClassFolders, 2 workers": (JPEGS, lambda: kit_folders(folder / "images", 2)),
                "as torchvision's ImageFolder, 2 workers": (JPEGS, lambda: peer(PeerFolders(folder / "images"), 64, 2)),
            },
        )
        show(f"class folders, {size / 1000:.0f} kB each", speeds, "as torchvision's ImageFolder, 2 workers")


if __name__ == "__main__":
    main()
