from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from train.data.tensors import Tensors, collate


def test_batches_come_in_one_piece() -> None:
    images, labels = torch.arange(60).view(10, 2, 3), torch.arange(10)
    data = Tensors(images, labels)
    assert len(data) == 10
    assert data[3][0].tolist() == images[3].tolist()
    assert data[3][1] == 3
    batches = list(DataLoader(data, batch_size=4, sampler=[9, 0, 3, 3, 1], collate_fn=collate))
    assert [batch[1].tolist() for batch in batches] == [[9, 0, 3, 3], [1]]
    assert torch.equal(batches[0][0], images[[9, 0, 3, 3]])
    batches[0][0].zero_()  # a copy, so the data does not change
    assert images[9, 0, 0] == 54


def test_a_batch_asks_no_single_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Tensors, "__getitem__")
    data = Tensors(torch.arange(10))
    [(batch,), (rest,)] = list(DataLoader(data, batch_size=8, sampler=range(10), collate_fn=collate))
    assert [*batch.tolist(), *rest.tolist()] == list(range(10))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((), "needs one tensor or more"),
        ((torch.tensor(1),), "with a dimension of samples"),
        ((torch.zeros(3), torch.zeros(4)), "tensors of 3, 4 samples: must be equal"),
        ((torch.zeros(3), torch.zeros(3, device="meta")), "tensors on cpu, meta: must be one device"),
    ],
)
def test_what_does_not_belong_together(tensors: tuple[torch.Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tensors(*tensors)
