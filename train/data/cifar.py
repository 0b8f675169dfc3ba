"""CIFAR-10 and CIFAR-100, the "python version" as published (https://www.cs.toronto.edu/~kriz/cifar.html).

The files are pickles of Python 2: a dict from byte strings to lists and to a numpy array of uint8. Each row of this is
an image of 3,072 bytes (32 x 32: all red, then all green, then all blue, row by row). A pickle can call any code.
Therefore the unpickler here accepts only the three names of a numpy array. It does not need numpy.

Shape suffixes: N samples, C channels (red, green, blue), H rows, W columns.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

CIFAR10_FOLDER, CIFAR10_ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
CIFAR100_FOLDER, CIFAR100_ARCHIVE = "cifar-100-python", "cifar-100-python.tar.gz"
CIFAR10_FILES = {
    "train": [f"data_batch_{number}" for number in range(1, 6)],
    "test": ["test_batch"],
    "names": ["batches.meta"],
}
CIFAR100_FILES = {"train": ["train"], "test": ["test"], "names": ["meta"]}
ROW = 3 * 32 * 32


class CifarError(ValueError):
    """A file is not in CIFAR's format. The message names the file and, in an invalid pickle, the offset in bytes."""


def read_cifar10(path: Path, split: Literal["train", "test"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read images_NCHW (uint8) and labels_N (int64, 0 to 9) in the published order.

    `path` is the folder cifar-10-batches-py, the published archive, or a folder that contains one of them.

    Raises:
        FileNotFoundError: a file is missing.
        CifarError: a file is invalid.
        OSError: a file cannot be read.
    """
    batches = _read(path, CIFAR10_FOLDER, CIFAR10_ARCHIVE, CIFAR10_FILES[split])
    return _concatenated([_samples(name, batch, b"labels", 10) for name, batch in batches])


def read_cifar100(
    path: Path, split: Literal["train", "test"], labels: Literal["fine", "coarse"] = "fine"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read images_NCHW (uint8) and labels_N (int64; 0 to 99, or 0 to 19 for the coarse labels).

    `path` is the folder cifar-100-python, the published archive, or a folder that contains one of them.

    Raises:
        FileNotFoundError: a file is missing.
        CifarError: a file is invalid.
        OSError: a file cannot be read.
    """
    batches = _read(path, CIFAR100_FOLDER, CIFAR100_ARCHIVE, CIFAR100_FILES[split])
    classes = 100 if labels == "fine" else 20
    return _concatenated([_samples(name, batch, f"{labels}_labels".encode(), classes) for name, batch in batches])


def cifar10_names(path: Path) -> list[str]:
    """Read the names of the labels 0 to 9. Raises the errors of `read_cifar10`."""
    [(name, content)] = _read(path, CIFAR10_FOLDER, CIFAR10_ARCHIVE, CIFAR10_FILES["names"])
    return _names(name, content, b"label_names", 10)


def cifar100_names(path: Path, labels: Literal["fine", "coarse"] = "fine") -> list[str]:
    """Read the names of the labels 0 to 99, or of the coarse labels. Raises the errors of `read_cifar100`."""
    [(name, content)] = _read(path, CIFAR100_FOLDER, CIFAR100_ARCHIVE, CIFAR100_FILES["names"])
    return _names(name, content, f"{labels}_label_names".encode(), 100 if labels == "fine" else 20)


def locate(path: Path, folder: str, archive: str) -> Path:
    """Return the unpacked folder if it exists, else the archive. `path` is one of the two, or contains one.

    Raises:
        FileNotFoundError: neither exists.
    """
    if path.is_file() or path.name == folder:
        return path
    for inside in (path / folder, path / archive):
        if inside.exists():
            return inside
    raise FileNotFoundError(f"neither {folder} nor {archive} in {path}")


def read_members(path: Path, folder: str, archive: str, names: list[str]) -> list[tuple[str, bytes]]:
    """Return for each of `names` a name for messages, and the content.

    Raises:
        FileNotFoundError: a file is missing.
        CifarError: the archive is damaged.
        OSError: a file cannot be read.
    """
    place = locate(path, folder, archive)
    if not place.is_file():
        return [(str(place / name), (place / name).read_bytes()) for name in names]
    contents = _archive_members(place, {f"{folder}/{name}" for name in names})
    for name in names:
        if f"{folder}/{name}" not in contents:
            raise FileNotFoundError(f"no {folder}/{name} in {place}")
    return [(f"{place}: {folder}/{name}", contents[f"{folder}/{name}"]) for name in names]


def _archive_members(archive: Path, wanted: set[str]) -> dict[str, bytes]:
    """Read the wanted members in one pass over the archive, which stops after the last of them."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r|gz") as file:
            for member in file:
                content = file.extractfile(member) if member.name in wanted else None
                if content is not None:
                    contents[member.name] = content.read()
                if len(contents) == len(wanted):
                    break
    except (tarfile.TarError, EOFError, zlib.error) as error:
        read = f"after {', '.join(contents)}" if contents else "at its first files"
        raise CifarError(f"{archive}: damaged .tar.gz, {read}: {error}; fetch it again") from error
    return contents


class _DType:
    """Stands for a numpy.dtype in a pickle. Only its name is used."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which do not matter for uint8."""


class _Array:
    """Stands for a numpy array in a pickle."""

    shape: tuple[int, ...] = ()
    dtype: object = None
    content = b""
    is_fortran: object = False

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401  (whatever the pickle says)
        _, self.shape, self.dtype, self.is_fortran, self.content = state


def _reconstruct(*_: object) -> _Array:
    return _Array()


class _Unpickler(pickle.Unpickler):
    """Creates only plain values and `_Array` objects. numpy 2.0 moved its module."""

    allowed = {  # noqa: RUF012  (not changed)
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DType,
    }

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  (a class or a function)
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of CIFAR does: do not trust it")
        return self.allowed[module, name]

    def persistent_load(self, identifier: object) -> Any:  # noqa: ANN401
        raise pickle.UnpicklingError(f"it asks for the outside object {identifier!r}, which no file of CIFAR does")


def _unpickled(name: str, content: bytes) -> dict[bytes, Any]:
    # From a file without peek(), an unpickler reads only what it understands: tell() is then where it failed.
    file = io.BytesIO(content)
    try:
        value = _Unpickler(file, encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise CifarError(f"{name}: byte {file.tell()}: not a sound pickle of CIFAR: {error}") from error
    except (MemoryError, struct.error) as error:
        raise CifarError(f"{name}: byte {file.tell()}: not a sound pickle of CIFAR: it asks for too much") from error
    if file.tell() != len(content):
        raise CifarError(f"{name}: byte {file.tell()}: {len(content) - file.tell()} bytes after the pickle's end")
    if not isinstance(value, dict):
        raise CifarError(f"{name}: holds a {type(value).__name__}, not a dict")
    return value


def _read(path: Path, folder: str, archive: str, names: list[str]) -> list[tuple[str, dict[bytes, Any]]]:
    return [(name, _unpickled(name, content)) for name, content in read_members(path, folder, archive, names)]


def _entry(name: str, content: dict[bytes, Any], key: bytes) -> Any:  # noqa: ANN401
    if key not in content:
        there = ", ".join(sorted(other.decode(errors="replace") for other in content if isinstance(other, bytes)))
        raise CifarError(f"{name}: has no {key.decode()!r}, only {there or 'nothing'}: is it of the other CIFAR?")
    return content[key]


def _samples(name: str, content: dict[bytes, Any], key: bytes, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    data, labels = _entry(name, content, b"data"), _entry(name, content, key)
    if not isinstance(data, _Array) or not isinstance(data.dtype, _DType) or data.dtype.name not in (b"u1", "u1"):
        raise CifarError(f"{name}: 'data' is not an array of uint8")
    if not isinstance(data.shape, tuple) or len(data.shape) != 2 or data.shape[1] != ROW:
        raise CifarError(f"{name}: 'data' is of shape {data.shape}, not (N, {ROW})")
    count = data.shape[0]
    if not isinstance(data.content, bytes) or len(data.content) != count * ROW:
        raise CifarError(f"{name}: 'data' does not hold the {count} x {ROW} bytes of its shape")
    if not isinstance(labels, list) or len(labels) != count:
        size = f"{len(labels)}" if isinstance(labels, list) else "no list of"
        raise CifarError(f"{name}: {size} {key.decode()!r} for {count} images")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise CifarError(f"{name}: image {index} has the label {label!r}, not one from 0 to {classes - 1}")
    pixels = (
        torch.frombuffer(bytearray(data.content), dtype=torch.uint8) if count else torch.empty(0, dtype=torch.uint8)
    )
    rows = pixels.view(ROW, count).t() if data.is_fortran else pixels.view(count, ROW)
    return rows.reshape(count, 3, 32, 32), torch.tensor(labels, dtype=torch.int64)


def _concatenated(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])


def _names(name: str, content: dict[bytes, Any], key: bytes, count: int) -> list[str]:
    names = _entry(name, content, key)
    if not isinstance(names, list) or len(names) != count or not all(isinstance(one, bytes) for one in names):
        raise CifarError(f"{name}: {key.decode()!r} is not a list of {count} names")
    return [one.decode() for one in names]
