"""Data sets in memory that return whole batches: the fast way for MNIST and CIFAR.

    data = Tensors(images_NCHW, labels_N)
    for images_BCHW, labels_B in DataLoader(data, batch_size, sampler=sampler, collate_fn=collate):
        ...

If a data set has `__getitems__`, a DataLoader requests a whole batch at once. This avoids picking B samples from a
tensor and stacking them again, and needs no worker processes.

Shape suffixes: N samples, B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch.utils.data import Dataset

Batch = TypeVar("Batch")


def collate(batch: Batch) -> Batch:
    """Return the batch unchanged, for `DataLoader(collate_fn=collate)` over a data set of whole batches."""
    return batch


class Tensors(Dataset[tuple[torch.Tensor, ...]]):
    """Tensors with the same number of samples, on one device. On a GPU use num_workers=0."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        """Each tensor's first dimension is N.

        Raises:
            ValueError: there are no tensors, or they differ in length or device.
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
        """Return the batch of `indices`; the first dimension of each tensor is B. Use a DataLoader with `collate`."""
        # Nothing changes this copy of the list, so the step need not wait for the GPU here.
        chosen_B = torch.as_tensor(indices, dtype=torch.int64).to(self.tensors[0].device, non_blocking=True)
        return tuple(tensor.index_select(0, chosen_B) for tensor in self.tensors)
