from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from ranks import Ranks
from torch import nn

from train.distributed import data_parallel, sum_over_ranks
from train.environment import JobEnvironment
from train.join import JoinError, conditional_join

BATCHES = (5, 2, 3)


def uneven(environment: JobEnvironment, crash: str = "") -> tuple[int, list[float], float]:
    """Each rank has its own number of batches; rank 1 may crash in its second batch."""
    from torch.distributed.optim import ZeroRedundancyOptimizer  # it imports deprecated modules

    torch.manual_seed(0)
    model = data_parallel(nn.Linear(3, 1, bias=False), environment)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1)
    steps = 0
    try:
        with conditional_join(model, optimizer):
            for batch in range(BATCHES[environment.rank]):
                if crash and environment.rank == 1 and batch == 1:
                    if crash == "kill":
                        os.kill(os.getpid(), 9)
                    raise KeyError("a mistake")
                optimizer.zero_grad()
                model(torch.full((1, 3), batch + 1.0)).sum().backward()
                optimizer.step()
                steps += 1
    except Exception:
        if crash != "caught":
            raise
    total = sum_over_ranks(torch.tensor(steps)).item()
    return steps, next(model.parameters()).detach().flatten().tolist(), total


def test_each_rank_does_its_batches_and_all_have_the_same_weights(tmp_path: Path) -> None:
    results = Ranks(3, uneven, folder=tmp_path).results()
    assert tuple(steps for steps, _, _ in results) == BATCHES
    torch.manual_seed(0)
    gradient = 1 + 2 + 3 * 2 / 3 + (4 + 5) / 3
    expected = next(nn.Linear(3, 1, bias=False).parameters()).detach().flatten() - 0.1 * gradient
    for _, weights, total in results:
        assert weights == pytest.approx(expected.tolist())
        assert total == sum(BATCHES)


@pytest.mark.parametrize("crash", ["raised", "caught", "kill"])
def test_a_crash_is_no_end_of_the_data(tmp_path: Path, crash: str) -> None:
    """In system 003 the other ranks reported success after one rank had crashed."""
    ranks = Ranks(3, uneven, crash, folder=tmp_path)
    statuses = ranks.wait(30)
    assert statuses == [1, -9 if crash == "kill" else 1, 1], ranks.errors()
    if crash != "kill":
        assert "KeyError: 'a mistake'" in (tmp_path / "stderr_1").read_text()


def under_fsdp(environment: JobEnvironment) -> str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(nn.Linear(2, 2), mesh=init_device_mesh("cpu", (environment.world_size,)))
    with pytest.raises(JoinError) as caught, conditional_join(model):
        pass
    return str(caught.value)


def test_fsdp_is_refused(tmp_path: Path) -> None:
    for message in Ranks(2, under_fsdp, folder=tmp_path).results():
        assert message.startswith("FSDP's ranks need the same number of batches: ")


def test_one_process_needs_no_join() -> None:
    model = nn.Linear(1, 1)
    with conditional_join(model, torch.optim.SGD(model.parameters(), lr=0.1)):
        model(torch.ones(1, 1)).backward()
    with pytest.raises(KeyError), conditional_join(model):
        raise KeyError
