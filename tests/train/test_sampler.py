"""Samplers with simulated ranks that come and go, at random places, over the whole epoch."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Callable

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from train.environment import JobEnvironment
from train.sampler import ResumableGroupedBatchSampler, ResumableSampler, SamplerError


def ranks(world_size: int) -> list[JobEnvironment]:
    environments = []
    for rank in range(world_size):
        values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        master = {"MASTER_ADDR": "localhost", "MASTER_PORT": "20001"}
        environments.append(JobEnvironment.from_environment({**{k: str(v) for k, v in values.items()}, **master}))
    return environments


def walk(make: Callable, worlds: list[int], stops: random.Random, epoch: int = 0) -> list:
    """Return everything that all ranks use in one epoch, which is interrupted before each further world size."""
    used, state = [], None
    for attempt, world_size in enumerate(worlds):
        samplers = [make(environment) for environment in ranks(world_size)]
        states = []
        lengths = set()
        for sampler in samplers:
            if state is not None:
                sampler.load_state_dict(state)
            lengths.add(len(sampler))
        assert len(lengths) == 1
        length = lengths.pop()
        count = length if attempt == len(worlds) - 1 else stops.randint(min(1, length), length)
        for sampler in samplers:
            with sampler.in_epoch(epoch):
                items = list(sampler)
                assert len(items) == len(sampler)
                used += items[:count]
                done = 0
                while done < count:
                    part = stops.randint(1, count - done)
                    sampler.advance(part)
                    done += part
                states.append(sampler.state_dict())
        assert all(other == states[0] for other in states)
        state = states[0]
    return used


@pytest.mark.parametrize("seed", range(30))
def test_every_sample_once_however_the_ranks_change(seed: int) -> None:
    stops = random.Random(seed)
    count = stops.choice([1, 2, 5, 17, 64, 101])
    worlds = [stops.randint(1, 6) for _ in range(stops.randint(1, 5))]
    used = Counter(walk(lambda environment: ResumableSampler(count, environment, seed=seed), worlds, stops))
    assert sorted(used) == list(range(count))
    assert sum(used.values()) - count <= max(worlds) - 1


@pytest.mark.parametrize("seed", range(30))
def test_every_sample_of_groups_once(seed: int) -> None:
    stops = random.Random(seed)
    count, batch = stops.choice([1, 5, 40, 101]), [stops.randint(1, 6) for _ in range(2)]
    groups = [stops.randrange(4) for _ in range(count)]
    worlds = [stops.randint(1, 4) for _ in range(stops.randint(1, 5))]

    def make(environment: JobEnvironment) -> ResumableGroupedBatchSampler:
        return ResumableGroupedBatchSampler(groups, batch[environment.world_size % 2], environment, seed=seed)

    batches = walk(make, worlds, stops)
    assert all(len({groups[index] for index in indices}) == 1 for indices in batches)
    assert {len(indices) for indices in batches} <= set(range(1, max(batch) + 1))
    assert sorted({index for indices in batches for index in indices}) == list(range(count))
    repeated = len(batches) - len({tuple(indices) for indices in batches})
    assert repeated <= sum(worlds) - len(worlds)
    assert sum(map(len, batches)) - count <= repeated * max(batch)


@pytest.mark.parametrize("make", ["plain", "grouped"])
@pytest.mark.parametrize("world_size", [1, 3])
def test_interruptions_change_nothing_for_as_many_ranks(make: str, world_size: int) -> None:
    def sampler(environment: JobEnvironment) -> ResumableSampler | ResumableGroupedBatchSampler:
        if make == "plain":
            return ResumableSampler(50, environment, seed=4)
        return ResumableGroupedBatchSampler([index % 3 for index in range(50)], 4, environment, seed=4)

    def shares(worlds: list[int]) -> list[list]:
        parts, state = [[] for _ in range(world_size)], None
        for attempt, _ in enumerate(worlds):
            for rank, environment in enumerate(ranks(world_size)):
                mine = sampler(environment)
                if state:
                    mine.load_state_dict(state)
                with mine.in_epoch(0):
                    items = list(mine)
                    count = len(items) if attempt == len(worlds) - 1 else 2
                    mine.advance(count)
                    parts[rank] += items[:count]
                    last = mine.state_dict()
            state = last
        return parts

    assert shares([1]) == shares([1, 1, 1])


def test_the_order_is_torch_s_and_new_in_each_epoch() -> None:
    data = TensorDataset(torch.zeros(22))
    for environment in ranks(4):
        mine = ResumableSampler(22, environment, seed=5)
        theirs = DistributedSampler(data, 4, environment.rank, seed=5)
        orders = []
        for epoch in range(3):
            theirs.set_epoch(epoch)
            with mine.in_epoch(epoch):
                orders.append(list(mine))
                mine.advance(len(mine))
            assert orders[-1] == list(theirs)
        assert orders[0] != orders[1] != orders[2]
        assert mine.epoch == 3
    grouped = ResumableGroupedBatchSampler([0] * 22, 4, ranks(1)[0])
    orders = []
    for epoch in range(2):
        with grouped.in_epoch(epoch):
            orders.append(list(grouped))
            grouped.advance(len(grouped))
    assert orders[0] != orders[1]
    still = ResumableSampler(5, ranks(1)[0], shuffle=False)
    with still.in_epoch(0):
        assert list(still) == [0, 1, 2, 3, 4]
        still.advance(5)


def test_what_is_prefetched_is_not_used() -> None:
    """Two workers are eight batches ahead; after three steps the place is three batches on."""
    sampler = ResumableSampler(40, ranks(1)[0], seed=1)
    with sampler.in_epoch(0):
        order = list(sampler)
        loader = DataLoader(TensorDataset(torch.arange(40)), 3, sampler=sampler, num_workers=2, prefetch_factor=4)
        seen = []
        for (batch,) in loader:
            seen += batch.tolist()
            sampler.advance(len(batch))
            if len(seen) == 9:
                break
        state = sampler.state_dict()
    assert seen == order[:9]
    again = ResumableSampler(40, ranks(1)[0], seed=1)
    again.load_state_dict(state)
    with again.in_epoch(0):
        assert list(again) == order[9:]
        again.advance(31)
    grouped = ResumableGroupedBatchSampler([index % 2 for index in range(40)], 4, ranks(1)[0])
    with grouped.in_epoch(0):
        batches = [batch.tolist() for (batch,) in DataLoader(TensorDataset(torch.arange(40)), batch_sampler=grouped)]
        assert batches == list(grouped)
        grouped.advance(10)


def test_mistakes_of_the_loop() -> None:
    sampler = ResumableSampler(10, ranks(3)[0])
    with pytest.raises(SamplerError, match="outside an epoch: use it inside"):
        list(sampler)
    with pytest.raises(SamplerError, match="cannot advance by 1 outside an epoch"):
        sampler.advance(1)
    with sampler.in_epoch(0):
        sampler.advance(3)
        with pytest.raises(SamplerError, match="advanced by 2 where epoch 0 has only 1 left for this rank"):
            sampler.advance(2)
        with pytest.raises(SamplerError, match="cannot advance by -1"):
            sampler.advance(-1)
    with pytest.raises(SamplerError, match="epoch 1 was begun, and epoch 0 has 1 left"), sampler.in_epoch(1):
        pass
    sampler.reset()
    with sampler.in_epoch(1):
        assert len(sampler) == 4
    with pytest.raises(SamplerError, match="gave all it had and was never advanced"), sampler.in_epoch(1):
        list(sampler)
    with pytest.raises(SamplerError, match="begun inside an epoch"), sampler.in_epoch(1), sampler.in_epoch(1):
        pass
    for other, message in (
        (ResumableSampler(11, ranks(1)[0]), "had count 10, this one has 11"),
        (ResumableSampler(10, ranks(1)[0], seed=1), "had seed 0, this one has 1"),
        (ResumableSampler(10, ranks(1)[0], shuffle=False), "had shuffle True, this one has False"),
    ):
        with pytest.raises(SamplerError, match=message):
            other.load_state_dict(sampler.state_dict())
    with pytest.raises(ValueError, match="at least one sample, not 0"):
        ResumableSampler(0, ranks(1)[0])
    with pytest.raises(ValueError, match="a batch size above 0, not 2 and 0"):
        ResumableGroupedBatchSampler([1, 2], 0, ranks(1)[0])


def test_saved_at_the_very_end_of_an_epoch() -> None:
    sampler = ResumableSampler(7, ranks(2)[0])
    with sampler.in_epoch(3):
        sampler.advance(4)
        state = sampler.state_dict()
    after = sampler.state_dict()
    again = ResumableSampler(7, ranks(2)[0])
    again.load_state_dict(state)
    assert again.epoch == 3
    with again.in_epoch(again.epoch):
        assert list(again) == []
    assert again.epoch == sampler.epoch == 4
    again.load_state_dict(after)
    with again.in_epoch(4):
        assert len(list(again)) == math.ceil(7 / 2)
        again.advance(1)
