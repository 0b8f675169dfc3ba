from __future__ import annotations

import hashlib
import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import real_formats
import torch

from train.data import cifar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a cifar's folder"


def test_the_files_are_written_as_the_published_ones(folder: Path) -> None:
    """These are the only published files whose complete content is known here: their MD5 is that of the originals."""
    for path, md5 in (
        (real_formats.write_cifar10(folder) / "batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        (real_formats.write_cifar100(folder) / "meta", "7973b15100ade9c7d40fb424638fde48"),
    ):
        assert hashlib.md5(path.read_bytes()).hexdigest() == md5


@pytest.mark.parametrize("compressed", [False, True])
def test_what_the_published_recipe_gives(folder: Path, compressed: bool) -> None:
    plain = real_formats.write_cifar10(folder, per_batch=12)
    expected = []
    for number in range(1, 6):
        with (plain / f"data_batch_{number}").open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy 2 warns about the old name of its module
            expected.append(pickle.load(file, encoding="bytes"))
    path = real_formats.write_cifar10(folder / "x", per_batch=12, compressed=True) if compressed else plain
    for place in (path, path.parent):
        images, labels = cifar.read_cifar10(place, "train")
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert np.array_equal(images.numpy(), np.concatenate([one[b"data"] for one in expected]).reshape(-1, 3, 32, 32))
        assert labels.tolist() == [label for one in expected for label in one[b"labels"]]
    images, labels = cifar.read_cifar10(path, "test")
    assert images.shape == (20, 3, 32, 32)
    assert cifar.cifar10_names(path) == real_formats.CIFAR10_NAMES


@pytest.mark.parametrize("compressed", [False, True])
def test_cifar100(folder: Path, compressed: bool) -> None:
    path = real_formats.write_cifar100(folder, compressed=compressed)
    images, fine = cifar.read_cifar100(path, "train")
    same, coarse = cifar.read_cifar100(path, "train", "coarse")
    assert torch.equal(images, same)
    assert fine.max() == 99
    assert torch.equal(coarse, fine // 5)
    assert cifar.cifar100_names(path) == real_formats.CIFAR100_FINE_NAMES
    assert cifar.cifar100_names(path, "coarse") == real_formats.CIFAR100_COARSE_NAMES


def test_a_large_batch_and_one_saved_by_rows_of_memory(folder: Path) -> None:
    """More than 1,000 labels are stored in several pieces, and the format allows Fortran order."""
    real_formats.write_cifar10(folder, per_batch=1100)
    assert cifar.read_cifar10(folder, "train")[1].tolist() == 5 * [index % 10 for index in range(1100)]
    batch = {b"data": np.arange(6144).astype(np.uint8).reshape(2, 3072, order="F"), b"labels": [3, 4]}
    (folder / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(batch, protocol=4))
    images, _ = cifar.read_cifar10(folder, "test")
    assert np.array_equal(images.view(2, 3072).numpy(), batch[b"data"])


class _Calls:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"labels": _Calls()}, "it asks for posix.system, which no file of CIFAR does"),
        ([1], "holds a list, not a dict"),
        ({}, "has no 'data', only nothing"),
        ({b"data": 1, b"labels": []}, "'data' is not an array of uint8"),
        ({b"data": np.zeros((1, 3072), dtype=np.float32), b"labels": [1]}, "'data' is not an array of uint8"),
        ({b"data": np.zeros((2, 3071), dtype=np.uint8), b"labels": [1, 2]}, "of shape (2, 3071), not (N, 3072)"),
        ({b"data": np.zeros(3072, dtype=np.uint8), b"labels": [1]}, "of shape (3072,)"),
        ({b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": [1]}, "1 'labels' for 2 images"),
        ({b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": b"ab"}, "no list of 'labels' for 2 images"),
        (
            {b"data": np.zeros((1, 3072), dtype=np.uint8), b"labels": [10]},
            "image 0 has the label 10, not one from 0 to 9",
        ),
        ({b"data": np.zeros((1, 3072), dtype=np.uint8), b"labels": [True]}, "image 0 has the label True"),
        (
            {b"data": np.zeros((1, 3072), dtype=np.uint8), b"fine_labels": [1]},
            "has no 'labels', only data, fine_labels: is it of the other CIFAR?",
        ),
    ],
)
def test_wrong_content(folder: Path, monkeypatch: pytest.MonkeyPatch, value: object, message: str) -> None:
    path = real_formats.write_cifar10(folder) / "test_batch"
    monkeypatch.chdir(folder)
    path.write_bytes(pickle.dumps(value, protocol=4))
    with pytest.raises(cifar.CifarError, match=re.escape(message)) as caught:
        cifar.read_cifar10(folder, "test")
    assert str(caught.value).startswith(f"{path}: ")
    assert not (folder / "harmed").exists()


def test_truncated_anywhere(folder: Path) -> None:
    """A file that is truncated at any place gives an error with the file and an offset within it."""
    path = real_formats.write_cifar10(folder, test=2) / "test_batch"
    content = path.read_bytes()
    for length in [*range(0, 200, 3), 3000, len(content) // 2, *range(len(content) - 90, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(cifar.CifarError) as caught:
            cifar.read_cifar10(folder, "test")
        found = re.match(re.escape(f"{path}: byte ") + r"(\d+): not a sound pickle", str(caught.value))
        assert found, str(caught.value)
        assert int(found[1]) <= length
    path.write_bytes(content + b"more")
    with pytest.raises(cifar.CifarError, match=rf"byte {len(content)}: 4 bytes after the pickle's end"):
        cifar.read_cifar10(folder, "test")


def test_damaged_anywhere(folder: Path) -> None:
    """Random bytes give an error of the reader's own, or data that passes all checks, but no other exception."""
    path = real_formats.write_cifar10(folder, test=2) / "test_batch"
    content = path.read_bytes()
    draws = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        place = int(draws.integers(0, 300)) - 100  # the ends: between them are pixels
        damaged[place] = int(draws.integers(0, 256))
        path.write_bytes(damaged)
        try:
            cifar.read_cifar10(folder, "test")
        except cifar.CifarError as error:
            refused += str(error).startswith(str(path))
    assert refused > 100


def test_a_damaged_or_wrong_archive(folder: Path) -> None:
    path = real_formats.write_cifar10(folder, compressed=True)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:20], b"", b"<html>not found</html>"):
        path.write_bytes(damaged)
        with pytest.raises(cifar.CifarError, match=r"cifar-10-python.tar.gz: damaged .tar.gz, .*; fetch it again"):
            cifar.read_cifar10(folder, "train")
    other = real_formats.write_cifar100(folder, compressed=True)
    with pytest.raises(FileNotFoundError, match=r"no cifar-10-batches-py/test_batch in .*cifar-100-python.tar.gz"):
        cifar.read_cifar10(other, "test")


def test_missing_files(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither cifar-10-batches-py nor cifar-10-python.tar.gz in .*cifar's"):
        cifar.read_cifar10(folder, "train")
    (real_formats.write_cifar10(folder) / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3"):
        cifar.read_cifar10(folder, "train")
