"""IDX, the file format of MNIST and its family (http://yann.lecun.com/exdb/mnist, "FILE FORMATS").

A file has two zero bytes, a type code, the number of dimensions, the size of each dimension as a big-endian uint32,
then the big-endian elements, with the last dimension fastest. torch is imported only where a tensor is created, so
that `train.prepare` starts fast.

Shape suffixes: N samples, H rows, W columns.
"""

from __future__ import annotations

import gzip
import math
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replaced

if TYPE_CHECKING:
    import torch

# Code: torch's name of the type, bytes per element.
TYPES = {
    0x08: ("uint8", 1),
    0x09: ("int8", 1),
    0x0B: ("int16", 2),
    0x0C: ("int32", 4),
    0x0D: ("float32", 4),
    0x0E: ("float64", 8),
}


class IdxError(ValueError):
    """A file is not valid IDX. The message names the file and the offset in bytes of the uncompressed data."""


def read(path: Path) -> torch.Tensor:
    """Read the tensor in `path` (plain or gzip, detected by content), with type and shape from its header.

    Raises:
        IdxError: the file is not IDX, is truncated, or is longer than its header says.
        OSError: the file cannot be read.
    """
    import torch

    data = _content(path)
    code, shape = _parse_header(path, data)
    dtype, element_size = getattr(torch, TYPES[code][0]), TYPES[code][1]
    start = 4 + 4 * len(shape)
    if len(data) == start:
        return torch.empty(shape, dtype=dtype)
    elements = torch.frombuffer(data, dtype=torch.uint8, offset=start).view(-1, element_size)
    return _swapped(elements).flatten().view(dtype).view(shape)


def write(path: Path, tensor: torch.Tensor) -> None:
    """Write `tensor` atomically.

    Raises:
        ValueError: IDX does not support this element type or shape.
        OSError: the file cannot be written.
    """
    import torch

    type_name = str(tensor.dtype).rpartition(".")[2]
    elements = bytearray(tensor.numel() * tensor.element_size())
    if elements:
        as_bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).view(-1, tensor.element_size())
        torch.frombuffer(elements, dtype=torch.uint8).copy_(_swapped(as_bytes).flatten())
    with replaced(path) as file:
        file.write(encode(type_name, tuple(tensor.shape), elements))


def encode(type_name: str, shape: tuple[int, ...], elements: bytes | bytearray) -> bytes:
    """Return a complete IDX file with `elements`, which are already big-endian. It does not need torch.

    Raises:
        ValueError: IDX does not support this type or shape, or `elements` do not match it.
    """
    code = next((code for code, (name, _) in TYPES.items() if name == type_name), None)
    if code is None:
        raise ValueError(f"IDX has no type {type_name}, only {', '.join(name for name, _ in TYPES.values())}")
    if len(shape) > 255 or any(size >= 2**32 for size in shape):
        raise ValueError(f"IDX has at most 255 dimensions, each below 2**32, not {shape}")
    if len(elements) != math.prod(shape) * TYPES[code][1]:
        raise ValueError(f"{len(elements)} bytes are not {type_name} of shape {shape}")
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape) + elements


def read_split(folder: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read images_NHW and labels_N (both uint8) of `split`, "train" or "t10k" (test), by MNIST's file names.

    Raises:
        FileNotFoundError: a file is not in `folder`.
        IdxError: a file is invalid, or the two do not belong together.
    """
    images_path, labels_path = find(folder, f"{split}-images", 3), find(folder, f"{split}-labels", 1)
    images_NHW, labels_N = read(images_path), read(labels_path)
    for path, tensor, dimensions in ((images_path, images_NHW, 3), (labels_path, labels_N, 1)):
        if tensor.dim() != dimensions or str(tensor.dtype) != "torch.uint8":
            raise IdxError(f"{path}: byte 2: {tensor.dtype} of {tensor.dim()} dimensions, not uint8 of {dimensions}")
    if len(images_NHW) != len(labels_N):
        raise IdxError(f"{labels_path}: byte 4: {len(labels_N)} labels for the {len(images_NHW)} images beside it")
    return images_NHW, labels_N


def find(folder: Path, name: str, dimensions: int) -> Path:
    """Return the file `name`, such as train-images, under any of the usual names of MNIST's files.

    Raises:
        FileNotFoundError: there is none in `folder`.
    """
    for separator in "-.":
        for suffix in ("", ".gz"):
            path = folder / f"{name}{separator}idx{dimensions}-ubyte{suffix}"
            if path.is_file():
                return path
    raise FileNotFoundError(f"no {name}-idx{dimensions}-ubyte in {folder}")


def _swapped(elements: torch.Tensor) -> torch.Tensor:
    """Convert bytes of elements (one element per row) between the machine's order and big-endian."""
    return elements.flip(1) if sys.byteorder == "little" and elements.shape[1] > 1 else elements


def _content(path: Path) -> bytearray:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return bytearray(path.read_bytes())
    data = bytearray()
    with gzip.open(path) as file:
        try:
            while chunk := file.read(1 << 16):
                data += chunk
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise IdxError(f"{path}: byte {len(data)}: damaged gzip: {error}") from error
    return data


def _parse_header(path: Path, data: bytearray) -> tuple[int, tuple[int, ...]]:
    """Return the type code and the shape, after checking that they match the length of `data`."""
    if len(data) < 4:
        raise IdxError(f"{path}: byte {len(data)}: the file ends in its 4-byte magic number")
    if data[0] or data[1]:
        raise IdxError(
            f"{path}: byte {0 if data[0] else 1}: not IDX, which begins with two zero bytes: 0x{data[:4].hex()}"
        )
    code, dimensions = data[2], data[3]
    if code not in TYPES:
        raise IdxError(f"{path}: byte 2: 0x{code:02x} is no IDX type code")
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise IdxError(f"{path}: byte {len(data)}: the file ends in its header of {start} bytes")
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    end = start + math.prod(shape) * TYPES[code][1]
    if len(data) < end:
        raise IdxError(f"{path}: byte {len(data)}: the file ends here; {TYPES[code][0]} of shape {shape} ends at {end}")
    if len(data) > end:
        raise IdxError(f"{path}: byte {end}: {len(data) - end} bytes more than {TYPES[code][0]} of shape {shape}")
    return code, shape
