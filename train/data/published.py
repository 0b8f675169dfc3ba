"""The public data sets: where to download them, and how to check a folder.

The MD5 sums are from torchvision and the pages of the data sets. Data sets without known sums are checked by reading
all their files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from ..data import cifar, idx
from ..data.fetch import fetch, md5_of


class VerifyError(ValueError):
    """A data set differs from the published one. The message names the file and says what to do."""


@dataclass(frozen=True)
class Published:
    """A public data set."""

    verify: Callable[[Path], str]
    """Checks the folder, and returns a short summary."""
    address: str = ""
    """Address of the folder with its files. Empty: it cannot be downloaded here."""
    files: dict[str, str] = field(default_factory=dict)
    """Files to download, with their MD5."""
    how: str = ""
    """How to get it, if it cannot be downloaded here."""


def fetch_missing(name: str, folder: Path, address: str) -> None:
    """Download those files of data set `name` that are missing in `folder`.

    Raises:
        FetchError: a file cannot be downloaded, or is not the published one.
        OSError: `folder` cannot be written.
    """
    for file, md5 in DATA_SETS[name].files.items():
        if not (folder / file).exists():
            # The address is that of the only file, or of the folder.
            one = address.endswith(file) and len(DATA_SETS[name].files) == 1
            fetch(address if one else f"{address.rstrip('/')}/{file}", folder / file, md5)


def _verify_mnist(md5: dict[str, str]) -> Callable[[Path], str]:
    def verify(folder: Path) -> str:
        known = 0
        for split, count in (("train", 60_000), ("t10k", 10_000)):
            for kind, dimensions in (("images", 3), ("labels", 1)):
                path = idx.find(folder, f"{split}-{kind}", dimensions)
                if path.name in md5:  # packed, as published
                    _match(path, md5[path.name])
                    known += 1
            images_NHW, labels_N = idx.read_split(folder, split)
            if tuple(images_NHW.shape) != (count, 28, 28):
                raise VerifyError(f"{folder}: {split} images of shape {tuple(images_NHW.shape)}, not {(count, 28, 28)}")
            if labels_N.max() > 9:
                raise VerifyError(f"{folder}: a {split} label is {int(labels_N.max())}, not from 0 to 9")
        return f"60,000 + 10,000 images of 28 x 28; {known} of 4 files known by MD5"

    return verify


def _verify_cifar(folder_name: str, archive: str, md5: dict[str, str]) -> Callable[[Path], str]:
    def verify(folder: Path) -> str:
        place = cifar.locate(folder, folder_name, archive)
        if place.is_file():
            _match(place, md5[archive])
            return f"{archive} known by MD5"
        names = [name for name in md5 if name != archive]
        for name in names:
            _match(place / name, md5[name])
        return f"{len(names)} files known by MD5"

    return verify


def _match(path: Path, published: str) -> None:
    found = md5_of(path)
    if found != published:
        raise VerifyError(
            f"{path}: has the MD5 {found}, not {published} as published: it is damaged, or of another data set; "
            "remove it, and fetch it again"
        )


def _verify_imagenet(folder: Path) -> str:
    from ..data.folders import ClassFolders
    from ..data.images import ResizedCentreCrop, load_rgb

    train = ClassFolders(folder / "train", ResizedCentreCrop())
    val = ClassFolders(folder / "val", ResizedCentreCrop(), classes=train.classes)
    for split in (train, val):
        for index in _progress(range(len(split)), split.folder):
            path = split.path(index)
            content = path.read_bytes()
            # A file with a JPEG's start and end is not truncated. Decode the others: a few of them are valid.
            if not content.startswith(b"\xff\xd8\xff") or b"\xff\xd9" not in content[-64:]:
                load_rgb(path)
    found = (len(train.classes), len(train), len(val))
    told = f"{found[0]:,} classes, {found[1]:,} + {found[2]:,} images"
    return told + (", as published" if found == (1000, 1_281_167, 50_000) else "; ILSVRC 2012 has others")


def _verify_coco(folder: Path) -> str:
    from ..data.coco import Coco
    from ..data.images import load_rgb

    counts = []
    for split, published in (("train2017", 118_287), ("val2017", 5_000)):
        data = Coco(folder / "annotations" / f"instances_{split}.json", folder / split)
        for index in _progress(range(len(data)), folder / split):
            data.mask(index)
            content = data.path(index).read_bytes()
            if not content.startswith(b"\xff\xd8\xff") or b"\xff\xd9" not in content[-64:]:
                load_rgb(data.path(index))
        counts.append(f"{len(data):,} images" + ("" if len(data) == published else f" (2017 has {published:,})"))
    return f"{' + '.join(counts)}, {len(data.classes)} classes"


def _verify_ag_news(folder: Path) -> str:
    from ..data import text

    counts = []
    for split, published in (("train", 120_000), ("test", 7_600)):
        texts = text.read_csv(folder / f"{split}.csv", text.AG_NEWS_NAMES)
        missing = sorted(set(range(4)) - set(texts.labels_N.tolist()))
        if missing:
            raise VerifyError(f"{folder / split}.csv: has no text of class {missing[0] + 1}")
        counts.append(f"{len(texts.texts):,}" + ("" if len(texts.texts) == published else f" (AG has {published:,})"))
    return f"{' + '.join(counts)} texts of 4 classes"


def _progress(indices: range, folder: Path) -> Iterator[int]:
    for index in indices:
        if index and index % 50_000 == 0:
            print(f"{folder}: {index:,} of {len(indices):,}", file=sys.stderr, flush=True)
        yield index


MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR10_MD5 = {
    cifar.CIFAR10_ARCHIVE: "c58f30108f718f92721af3b95e74349a",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
CIFAR100_MD5 = {
    cifar.CIFAR100_ARCHIVE: "eb9058c3a382ffc7106e4002c42a8d85",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
DATA_SETS = {
    "mnist": Published(_verify_mnist(MNIST_MD5), "https://ossci-datasets.s3.amazonaws.com/mnist", MNIST_MD5),
    "fashion_mnist": Published(
        _verify_mnist(FASHION_MD5), "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", FASHION_MD5
    ),
    "cifar10": Published(
        _verify_cifar(cifar.CIFAR10_FOLDER, cifar.CIFAR10_ARCHIVE, CIFAR10_MD5),
        "https://www.cs.toronto.edu/~kriz",
        {cifar.CIFAR10_ARCHIVE: CIFAR10_MD5[cifar.CIFAR10_ARCHIVE]},
    ),
    "cifar100": Published(
        _verify_cifar(cifar.CIFAR100_FOLDER, cifar.CIFAR100_ARCHIVE, CIFAR100_MD5),
        "https://www.cs.toronto.edu/~kriz",
        {cifar.CIFAR100_ARCHIVE: CIFAR100_MD5[cifar.CIFAR100_ARCHIVE]},
    ),
    "imagenet": Published(_verify_imagenet, how="unpack ILSVRC 2012 to train/CLASS/*.JPEG and val/CLASS/*.JPEG"),
    "coco": Published(_verify_coco, how="unpack COCO 2017 to train2017/, val2017/ and annotations/instances_*.json"),
    "ag_news": Published(_verify_ag_news, how="unpack ag_news_csv to train.csv, test.csv and classes.txt"),
}
