"""Images in one folder per class, as in ImageNet: train/n01440764/n01440764_10026.JPEG, val/n01440764/….

    train = ClassFolders(root / "train", RandomResizedCrop(224), seed=config.seed)
    test = ClassFolders(root / "val", ResizedCentreCrop(224), classes=train.classes)
    for epoch in range(sampler.epoch, epochs):
        train.epoch = epoch
        for images_BCHW, labels_B in DataLoader(train, batch_size, sampler=sampler, num_workers=8): ...

Shape suffixes: N samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import torch
from torch.utils.data import Dataset

from ..data.images import SUFFIXES, load_rgb

if TYPE_CHECKING:
    from PIL import Image

Transform = Callable[["Image.Image", torch.Generator], torch.Tensor]


class FoldersError(ValueError):
    """A folder does not contain classes of images. The message names it and says what is expected."""


class ClassFolders(Dataset[tuple[torch.Tensor, int]]):
    """Map-style data set: image_CHW (uint8), as `transform` returns it, and its class.

    Samples are sorted by class, then by the bytes of their names: the same order on every node.
    """

    def __init__(
        self, folder: Path, transform: Transform, *, seed: int = 0, classes: Sequence[str] | None = None
    ) -> None:
        """List the images of `folder`, which has a folder for each class.

        For each sample `transform` gets a generator whose numbers depend only on `seed`, `epoch` and the index of the
        sample, and not on ranks, workers or interruptions. `classes` are the names in the order of the labels; default:
        the sorted names of the folders. Images are recognized by suffix; other files are ignored.

        Raises:
            FoldersError: there are no classes, or a class has no images, contains a folder, or is not in `classes`.
            OSError: a folder cannot be read.
        """
        self.folder, self.transform, self.seed = folder, transform, seed
        found = _subfolders(folder)
        if not found:
            raise FoldersError(
                f"{folder}: holds no folders; a folder for each class is expected, with its images in it"
            )
        self.classes = list(classes) if classes is not None else found
        """Names in the order of the labels."""
        unknown = sorted(set(found) - set(self.classes))
        if unknown:
            raise FoldersError(
                f"{folder}: holds {unknown[0]}, which is not among the {len(self.classes)} classes"
                + (f", and {len(unknown) - 1} more such" if len(unknown) > 1 else "")
            )
        label_of = {name: label for label, name in enumerate(self.classes)}
        # Shared file systems answer slowly, but many requests in parallel.
        with ThreadPoolExecutor(16) as pool:
            names = list(pool.map(lambda name: _images(folder / name), found))
        # Few large buffers: reference counts would copy a list of a million names into each worker.
        self._names = b"".join(name for part in names for name in part)
        self._ends_N = torch.tensor(list(accumulate(len(name) for part in names for name in part)), dtype=torch.int64)
        counts = torch.tensor([len(part) for part in names])
        self.labels_N = torch.tensor([label_of[name] for name in found], dtype=torch.int64).repeat_interleave(counts)
        """Class of each sample."""
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # For persistent workers.

    @property
    def epoch(self) -> int:
        """The epoch of the augmentations. Set it before each epoch; persistent workers see it too."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def path(self, index: int) -> Path:
        """Return the file of a sample."""
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} among {len(self)}")
        start = int(self._ends_N[index - 1]) if index else 0
        name = os.fsdecode(self._names[start : int(self._ends_N[index])])
        return self.folder / self.classes[int(self.labels_N[index])] / name

    def __len__(self) -> int:
        return len(self._ends_N)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Decode a sample and transform it.

        Raises:
            ImageError: the file is not a complete image. The message names it.
            OSError: the file cannot be read.
        """
        image = load_rgb(self.path(index))
        return self.transform(image, sample_generator(self.seed, self.epoch, index)), int(self.labels_N[index])


def sample_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """Return a generator whose numbers depend only on these three, and are independent of its neighbours'."""
    digest = hashlib.blake2b(struct.pack("<QQQ", seed, epoch, index), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(os.fsencode(folder)) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(b".") and entry.is_dir()]
    return [os.fsdecode(name) for name in sorted(names)]


def _images(folder: Path) -> list[bytes]:
    """Return the sorted names of the images of a class, without a stat of each file."""
    names = []
    with os.scandir(os.fsencode(folder)) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if os.path.splitext(os.fsdecode(entry.name))[1].lower() in SUFFIXES:  # noqa: PTH122  (20 times as fast)
                names.append(entry.name)
            elif entry.is_dir():
                raise FoldersError(
                    f"{folder}: holds the folder {os.fsdecode(entry.name)}; a class's images lie in it directly"
                )
    if not names:
        raise FoldersError(
            f"{folder}: holds no images ({' '.join(sorted(SUFFIXES))}); remove it, or unpack its archive"
        )
    return sorted(names)
