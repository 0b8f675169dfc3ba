"""Data sets that are tensors in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset


class Tensors(Dataset[tuple[torch.Tensor, ...]]):
    """Samples along the first dimension of `tensors`, which may lie on a GPU. A batch is one selection a tensor."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        if len({len(tensor) for tensor in tensors}) != 1:
            raise ValueError(f"tensors of as many samples are needed, not of {[len(tensor) for tensor in tensors]}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
        chosen = torch.tensor(indices, device=self.tensors[0].device)
        return tuple(tensor.index_select(0, chosen) for tensor in self.tensors)

    @staticmethod
    def collate(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The batch as `__getitems__` made it."""
        return batch
