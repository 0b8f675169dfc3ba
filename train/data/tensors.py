"""Data sets that fit in memory, batches of which are taken in one piece: the fast way for MNIST and CIFAR.

    data = Tensors(images_NCHW, labels_N)
    for images_BCHW, labels_B in DataLoader(data, batch_size, sampler=sampler, collate_fn=collate):
        ...

A DataLoader asks a data set that has `__getitems__` for a batch at once: so there are no B samples to pick out of a
tensor and B to put together again, and no worker processes are needed.

Shape suffixes: N samples, B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch.utils.data import Dataset

Batch = TypeVar("Batch")


def collate(batch: Batch) -> Batch:
    """The batch as it is: for `DataLoader(collate_fn=collate)` over a data set whose batches are complete."""
    return batch


class Tensors(Dataset[tuple[torch.Tensor, ...]]):
    """Tensors of as many samples each, on one device, a GPU too (then with num_workers=0)."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        """Each tensor's first dimension is N.

        Raises:
            ValueError: no tensors, or not of one length or device.
        """
        if not tensors or any(tensor.dim() == 0 for tensor in tensors):
            raise ValueError("Tensors needs one tensor or more, each with a dimension of samples")
        if len({len(tensor) for tensor in tensors}) > 1:
            raise ValueError(f"tensors of {', '.join(str(len(tensor)) for tensor in tensors)} samples: must be equal")
        if len({tensor.device for tensor in tensors}) > 1:
            raise ValueError(f"tensors on {', '.join(str(tensor.device) for tensor in tensors)}: must be one device")
        self.tensors = tensors

    collate = staticmethod(collate)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """The batch of `indices`, each tensor's first dimension being B. For a DataLoader with `collate`."""
        # Nobody changes the list's copy: the step need not wait for the GPU here.
        chosen_B = torch.as_tensor(indices, dtype=torch.int64).to(self.tensors[0].device, non_blocking=True)
        return tuple(tensor.index_select(0, chosen_B) for tensor in self.tensors)
