"""Windows of the tokens of a text in one long file. The file is memory-mapped: it stays on disk.

`.bin` is the format of nanoGPT's prepare.py (https://github.com/karpathy/nanoGPT): little-endian uint16, or uint32 for
vocabularies above 65,536, without a header. `.npy` is a numpy array of one dimension; it contains its type.

Shape suffixes: T tokens of a window, B windows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

SCAN_ELEMENTS = 1 << 22


class TokensError(ValueError):
    """A file does not contain valid tokens. The message names the file and the offset in bytes."""


class Tokens(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Map-style data set: (x_T, y_T) (int64), where y has the tokens that follow those of x.

    Window i begins at token i x stride. With `collate` of train.data.tensors, a DataLoader gets (x_BT, y_BT) at once.
    """

    def __init__(
        self,
        path: Path,
        block_size: int,
        *,
        stride: int | None = None,
        vocabulary: int | None = None,
        dtype: Literal["uint16", "uint32"] = "uint16",
    ) -> None:
        """`block_size` is T. `stride` is the distance of windows; default: T, so that each token is predicted once.

        With `vocabulary`, the tokens of each window are checked when it is read; `check` checks the whole file. `dtype`
        is the type of a .bin file.

        Raises:
            TokensError: the file does not consist of whole tokens, or has too few for one window.
            OSError: the file cannot be read.
        """
        if block_size < 1 or (stride is not None and stride < 1):
            raise ValueError(f"block_size and stride must be at least 1, not {block_size} and {stride}")
        self.path, self.dtype, self.vocabulary = path, dtype, vocabulary
        self.block_size, self.stride = block_size, stride or block_size
        self._tokens, self._offset = _mapped(path, dtype)
        if len(self._tokens) <= block_size:
            end = self._offset + self._tokens.nbytes
            raise TokensError(
                f"{path}: byte {end}: the file ends after {len(self._tokens)} tokens; a window of {block_size} and the "
                f"token after it need {block_size + 1}"
            )

    def __len__(self) -> int:
        """Number of whole windows. Fewer than `stride` tokens at the end may be in none."""
        return (len(self._tokens) - 1 - self.block_size) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one window.

        Raises:
            TokensError: a token in it is not below `vocabulary`.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"no window {index} among {len(self)}")
        start = index * self.stride
        window = self._tokens[start : start + self.block_size + 1]
        if self.vocabulary is not None:
            _check(self.path, window, start, self._offset, self.vocabulary)
        both = torch.from_numpy(window.astype(np.int64))
        return both[:-1], both[1:]

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return windows x_BT and y_BT, for a DataLoader with `collate_fn=train.data.tensors.collate`."""
        windows = [self[index] for index in indices]
        return torch.stack([x for x, _ in windows]), torch.stack([y for _, y in windows])

    def __getstate__(self) -> dict[str, Any]:
        """Pickle no mapping, which would be the whole file: a spawned worker maps the file itself."""
        return {**self.__dict__, "_tokens": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = dict(state)
        self._tokens, self._offset = _mapped(self.path, self.dtype)


def check(path: Path, vocabulary: int, dtype: Literal["uint16", "uint32"] = "uint16") -> int:
    """Check all tokens of a file, and return their number.

    Raises:
        TokensError: a token is not below `vocabulary`, or the file does not consist of whole tokens.
        OSError: the file cannot be read.
    """
    tokens, offset = _mapped(path, dtype)
    for start in range(0, len(tokens), SCAN_ELEMENTS):
        _check(path, tokens[start : start + SCAN_ELEMENTS], start, offset, vocabulary)
    return len(tokens)


def _check(path: Path, part: np.ndarray[Any, Any], start: int, offset: int, vocabulary: int) -> None:
    if len(part) == 0 or (part.max() < vocabulary and part.min() >= 0):
        return
    place = int(np.flatnonzero((part >= vocabulary) | (part < 0))[0])
    raise TokensError(
        f"{path}: byte {offset + (start + place) * part.itemsize}: token {int(part[place])} is not below the "
        f"vocabulary's {vocabulary}: is it of another tokenizer, or of a type other than {part.dtype}?"
    )


def _mapped(path: Path, dtype: str) -> tuple[np.ndarray[Any, Any], int]:
    """Return the tokens, and the offset in bytes at which they begin."""
    if path.suffix == ".npy":
        return _mapped_npy(path)
    kind = np.dtype(dtype).newbyteorder("<")
    size = path.stat().st_size
    if size % kind.itemsize:
        raise TokensError(
            f"{path}: byte {size}: the file ends within a token of {dtype}, {kind.itemsize} bytes each: it is cut "
            "short, or of another type"
        )
    if size == 0:  # An empty file cannot be mapped.
        return np.empty(0, kind), 0
    return np.memmap(path, kind, "r"), 0


def _mapped_npy(path: Path) -> tuple[np.ndarray[Any, Any], int]:
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise TokensError(f"{path}: byte {path.stat().st_size}: not a whole .npy of numbers: {error}") from error
    if not isinstance(tokens, np.memmap) or tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise TokensError(f"{path}: byte 0: {tokens.dtype} of shape {tokens.shape}, not one dimension of whole numbers")
    return tokens, int(tokens.offset)
