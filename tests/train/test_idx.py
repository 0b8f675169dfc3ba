from __future__ import annotations

import contextlib
import gzip
import re
import struct
from pathlib import Path

import pytest
import torch

from train.data import idx
from train.files import replaced

# The first bytes of MNIST's real train-images-idx3-ubyte and train-labels-idx1-ubyte.
MNIST_IMAGES_HEADER = bytes.fromhex("00000803 0000ea60 0000001c 0000001c")
MNIST_LABELS_HEADER = bytes.fromhex("00000801 0000ea60")
IMAGES = struct.pack(">HBBIII", 0, 8, 3, 2, 2, 3) + bytes(range(12))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "an idx's folder"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (5,), (2, 3), (2, 3, 4), (1, 2, 1, 3, 2)])
def test_round_trip(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    dtype = getattr(torch, name)
    tensor = (torch.randn(shape, dtype=torch.float64) * 50).to(dtype)
    idx.write(folder / "a tensor", tensor)
    read = idx.read(folder / "a tensor")
    assert read.dtype == dtype
    assert read.shape == tensor.shape
    assert torch.equal(read, tensor)
    assert [path.name for path in folder.iterdir()] == ["a tensor"]


def test_extreme_values_and_strides(folder: Path) -> None:
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        limits = torch.tensor([torch.iinfo(dtype).min, torch.iinfo(dtype).max], dtype=dtype)
        idx.write(folder / "limits", limits)
        assert torch.equal(idx.read(folder / "limits"), limits)
    transposed = torch.arange(6, dtype=torch.int32).view(2, 3).t()
    idx.write(folder / "transposed", transposed)
    assert torch.equal(idx.read(folder / "transposed"), transposed)


def test_bytes_are_those_of_the_format(folder: Path) -> None:
    idx.write(folder / "a", torch.tensor([[1, -2]], dtype=torch.int16))
    assert (folder / "a").read_bytes() == bytes.fromhex("00000b02 00000001 00000002 0001 fffe")
    idx.write(folder / "b", torch.tensor([1.5]))
    assert (folder / "b").read_bytes() == bytes.fromhex("00000d01 00000001 3fc00000")


@pytest.mark.parametrize(
    "name", ["plain", "compressed.gz", "compressed without the suffix", "plain with the suffix.gz"]
)
def test_gzip_by_content(folder: Path, name: str) -> None:
    (folder / name).write_bytes(gzip.compress(IMAGES) if name.startswith("compressed") else IMAGES)
    assert torch.equal(idx.read(folder / name), torch.arange(12, dtype=torch.uint8).view(2, 2, 3))


def test_mnist(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(MNIST_IMAGES_HEADER + bytes(60000 * 28 * 28))
    (folder / "train-labels.idx1-ubyte.gz").write_bytes(gzip.compress(MNIST_LABELS_HEADER + b"\7" * 60000))
    images, labels = idx.read_split(folder, "train")
    assert images.shape == (60000, 28, 28)
    assert labels.shape == (60000,)
    assert labels.unique().tolist() == [7]
    with pytest.raises(FileNotFoundError, match=r"no t10k-images-idx3-ubyte in .*an idx's folder"):
        idx.read_split(folder, "t10k")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "byte 0: the file ends in its 4-byte magic number"),
        (IMAGES[:3], "byte 3: the file ends in its 4-byte magic number"),
        (b"\1" + IMAGES[1:], "byte 0: not IDX, which begins with two zero bytes: 0x01000803"),
        (b"\0\1" + IMAGES[2:], "byte 1: not IDX"),
        (b"<html>", "byte 0: not IDX"),
        (b"\0\0\x0a" + IMAGES[3:], "byte 2: 0x0a is no IDX type code"),
        (IMAGES[:4], "byte 4: the file ends in its header of 16 bytes"),
        (IMAGES[:15], "byte 15: the file ends in its header of 16 bytes"),
        (IMAGES[:16], "byte 16: the file ends here; uint8 of shape (2, 2, 3) ends at 28"),
        (IMAGES[:-1], "byte 27: the file ends here; uint8 of shape (2, 2, 3) ends at 28"),
        (IMAGES + b"!", "byte 28: 1 bytes more than uint8 of shape (2, 2, 3)"),
        (b"\0\0\x08\x02" + b"\xff" * 8, "byte 12: the file ends here; uint8 of shape (4294967295, 4294967295)"),
        (b"\0\0\x0e\x01\0\0\0\1" + bytes(7), "byte 15: the file ends here; float64 of shape (1,) ends at 16"),
        (gzip.compress(IMAGES)[:-9], "damaged gzip: Compressed file ended"),
        (gzip.compress(IMAGES)[:-8] + bytes(8), "damaged gzip: CRC check failed"),
        (gzip.compress(IMAGES + b"!"), "byte 28: 1 bytes more"),
    ],
)
def test_unsound_files(folder: Path, content: bytes, message: str) -> None:
    (folder / "bad file").write_bytes(content)
    with pytest.raises(idx.IdxError, match=re.escape(message)) as caught:
        idx.read(folder / "bad file")
    assert str(caught.value).startswith(f"{folder / 'bad file'}: byte ")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.zeros(3, 2, dtype=torch.uint8),
            torch.zeros(3, dtype=torch.uint8),
            "uint8 of 2 dimensions, not uint8 of 3",
        ),
        (torch.zeros(3, 2, 2), torch.zeros(3, dtype=torch.uint8), "float32 of 3 dimensions, not uint8 of 3"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8), "2 labels for the 3 images"),
    ],
)
def test_files_that_do_not_belong_together(
    folder: Path, images: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    idx.write(folder / "train-images-idx3-ubyte", images)
    idx.write(folder / "train-labels-idx1-ubyte", labels)
    with pytest.raises(idx.IdxError, match=message):
        idx.read_split(folder, "train")


def test_what_idx_cannot_hold(folder: Path) -> None:
    with pytest.raises(ValueError, match="IDX has no type int64, only uint8, int8, int16, int32, float32, float64"):
        idx.write(folder / "a", torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="3 bytes are not int16 of shape"):
        idx.encode("int16", (2,), b"123")
    assert not (folder / "a").exists()


def test_a_failed_write_leaves_the_old_file(folder: Path) -> None:
    path = folder / "file"
    idx.write(path, torch.ones(2, dtype=torch.uint8))
    with contextlib.suppress(RuntimeError), replaced(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert idx.read(path).tolist() == [1, 1]
    assert list(folder.iterdir()) == [path]
