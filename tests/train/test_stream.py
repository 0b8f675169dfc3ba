"""Streams with simulated ranks and workers that come and go, at random places, over the whole epoch."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest

import pytest
from torch.utils.data import DataLoader

from train.data.stream import ShardedStream, StreamError
from train.environment import JobEnvironment
from train.sampler import ResumableSampler

from test_sampler import ranks  # isort: skip


class Lines:
    """A source that can only be read from the start on."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, epoch: int) -> Iterable[int]:
        return iter(range(1000 * epoch, 1000 * epoch + self.count))


class Sequences(Lines):
    def __call__(self, epoch: int) -> Iterable[int]:
        return range(1000 * epoch, 1000 * epoch + self.count)


def in_worker(stream: ShardedStream, worker: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Yield the batches that a worker of a DataLoader would make, without the process."""
    information = type("Information", (), {"id": worker, "num_workers": workers})
    monkeypatch.setattr("train.data.stream.get_worker_info", lambda: information if workers else None)
    samples = list(stream)
    return [samples[start : start + stream.batch_size] for start in range(0, len(samples), stream.batch_size)]


def batches_of(stream: ShardedStream, workers: int, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Yield the batches in a DataLoader's order: one from each worker in turn."""
    parts = [in_worker(stream, worker, workers, monkeypatch) for worker in range(max(1, workers))]
    return [batch for row in zip_longest(*parts) for batch in row if batch is not None]


@pytest.mark.parametrize("source", [Lines, Sequences])
@pytest.mark.parametrize("seed", range(20))
def test_every_sample_once_however_ranks_and_workers_change(
    seed: int, source: type[Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = random.Random(seed)
    count = stops.choice([1, 2, 5, 17, 64, 101])
    known = stops.choice([count, None])
    attempts = stops.randint(1, 5)
    used: Counter[int] = Counter()
    worlds, state = [], None
    for attempt in range(attempts):
        worlds.append(stops.randint(1, 6))
        batch_size, workers = stops.randint(1, 5), stops.randint(0, 4)
        states, shapes, steps = [], set(), stops.random()
        for environment in ranks(worlds[-1]):
            stream = ShardedStream(source(count), batch_size, environment, length=known)
            if state is not None:
                stream.load_state_dict(state)
            with stream.in_epoch(stream.epoch):
                batches = batches_of(stream, workers, monkeypatch)
                shapes.add(tuple(map(len, batches)))
                if stream.length is not None:
                    assert len(stream) == sum(map(len, batches))
                    assert math.ceil(len(stream) / batch_size) == len(batches)
                stop = len(batches) if attempt == attempts - 1 else int(steps * len(batches))
                for batch in batches[:stop]:
                    used.update(batch)
                    stream.advance(len(batch))
                states.append(stream.state_dict())
        assert len(shapes) == 1  # all ranks do the same number of steps
        assert all(other == states[0] for other in states)
        state = states[0]
    assert sorted(used) == list(range(count))
    assert sum(used.values()) - count <= sum(worlds) - len(worlds)


@pytest.mark.parametrize("source", [Lines, Sequences])
@pytest.mark.parametrize(
    ("count", "world_size", "batch_size"), [(23, 3, 2), (24, 4, 3), (5, 4, 8), (2, 5, 2), (40, 1, 7)]
)
def test_the_batches_are_the_sampler_s_with_any_workers(
    source: type[Lines], count: int, world_size: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for environment in ranks(world_size):
        sampler = ResumableSampler(count, environment, shuffle=False)
        with sampler.in_epoch(0):
            expected = list(sampler)
            sampler.advance(len(expected))
        for workers in range(5):
            stream = ShardedStream(source(count), batch_size, environment, length=count)
            with stream.in_epoch(0):
                batches = batches_of(stream, workers, monkeypatch)
                stream.advance(len(expected))
            assert [sample for batch in batches for sample in batch] == expected


def test_single_samples_are_dealt_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, environment in enumerate(ranks(3)):
        stream = ShardedStream(Lines(24), 1, environment)
        with stream.in_epoch(0):
            for worker in range(4):
                mine = [sample for [sample] in in_worker(stream, worker, 4, monkeypatch)]
                assert mine == [sample for sample in range(24) if sample % 12 == worker * 3 + rank]
            stream.advance(8)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_real_loader(workers: int) -> None:
    """Workers that read ahead, an interruption and a second epoch, with real processes."""
    environment = ranks(2)[1]
    expected = [[1 + 2 * (4 * batch + place) for place in range(4)] for batch in range(5)] + [[41, 1]]
    stream = ShardedStream(Lines(43), 4, environment, length=43, transform=float)
    assert len(stream.loader()) == 6
    with stream.in_epoch(0):
        for number, batch in enumerate(stream.loader(workers)):
            assert batch.tolist() == expected[number] if number < 5 else True
            stream.advance(len(batch))
            if number == 1:
                break
    assert (stream.epoch, stream.state_dict()["position"]) == (0, 16)
    again = ShardedStream(Lines(43), 4, environment, length=43)
    again.load_state_dict(stream.state_dict())
    loader = again.loader(workers)
    rest = []
    with again.in_epoch(0):
        for batch in loader:
            rest.append(batch.tolist())
            again.advance(len(batch))
    # Rank 1 has no 44th sample, so it repeats the first of the source.
    assert rest == [*expected[2:5], [41, 0]]
    assert again.epoch == 1
    with again.in_epoch(1):
        samples = []
        for batch in loader:
            samples += batch.tolist()
            again.advance(len(batch))
    assert samples == [*range(1001, 1043, 2), 1000]


def test_an_unknown_length() -> None:
    stream = ShardedStream(Lines(10), 4, ranks(1)[0])
    with pytest.raises(TypeError, match="length of this stream is not known: give length="):
        len(stream)
    loader = stream.loader()
    for epoch in range(2):
        with stream.in_epoch(epoch):
            for batch in loader:
                stream.advance(len(batch))
        assert stream.epoch == epoch + 1
    # The interruption comes after the last batch and before the loader reports the end: nothing is left, the epoch is
    # over.
    with stream.in_epoch(2):
        for number, batch in enumerate(loader):
            stream.advance(len(batch))
            if number == 2:
                break
    assert stream.epoch == 2
    again = ShardedStream(Lines(10), 4, ranks(1)[0])
    again.load_state_dict(stream.state_dict())
    with again.in_epoch(2):
        assert list(again.loader()) == []
    assert again.epoch == 3


def test_a_wrong_length() -> None:
    stream = ShardedStream(Lines(10), 4, ranks(1)[0], length=12)
    with stream.in_epoch(0), pytest.raises(StreamError, match="the source has 10 samples in epoch 0, but length=12"):
        list(stream.loader())
    stream = ShardedStream(Lines(10), 4, ranks(1)[0], length=12)
    with stream.in_epoch(0), pytest.raises(StreamError, match="the source has 10 samples"):
        list(stream.loader(2))
    with pytest.raises(StreamError, match="checkpoint's stream had length 12, this one has 10"):
        ShardedStream(Sequences(10), 4, ranks(1)[0]).load_state_dict(stream.state_dict())


def test_misuse() -> None:
    stream = ShardedStream(Lines(10), 2, ranks(1)[0], length=10)
    with pytest.raises(StreamError, match="asked outside an epoch"):
        next(iter(stream))
    with pytest.raises(StreamError, match="cannot advance by 1 outside an epoch"):
        stream.advance(1)
    with (
        pytest.raises(StreamError, match=r"gave all it had and was never advanced: call stream.advance"),
        stream.in_epoch(0),
    ):
        list(stream.loader())
    with stream.in_epoch(0):
        with pytest.raises(StreamError, match="advanced by 11 where epoch 0 has only 10 left"):
            stream.advance(11)
        with pytest.raises(StreamError, match="begun inside an epoch"), stream.in_epoch(0):
            pass
        stream.advance(2)
    with pytest.raises(StreamError, match=r"epoch 1 was begun, and epoch 0 is not over"), stream.in_epoch(1):
        pass
    stream.reset()
    with stream.in_epoch(1):
        assert next(iter(stream)) == 1000
    for options in ({"persistent_workers": True}, {"shuffle": True}, {"batch_size": 3}, {"drop_last": True}):
        with pytest.raises(ValueError, match=f"a stream's loader cannot have {next(iter(options))}="):
            stream.loader(1, **options)


def test_its_random_numbers_are_not_the_model_s() -> None:
    """A resumed run starts its loader once more than an uninterrupted one: dropout must not depend on it."""
    import torch

    stream = ShardedStream(Lines(4), 2, ranks(1)[0])
    torch.manual_seed(0)
    with stream.in_epoch(0):
        for batch in stream.loader():
            stream.advance(len(batch))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


def test_transform_sees_a_rank_s_own_samples_only() -> None:
    seen: list[int] = []
    environment: JobEnvironment = ranks(4)[2]
    stream = ShardedStream(Lines(12), 1, environment, transform=lambda sample: seen.append(sample) or sample)
    with stream.in_epoch(0):
        for batch in stream.loader():
            stream.advance(len(batch))
    assert seen == [2, 6, 10]


def test_a_plain_dataloader_works_too() -> None:
    stream = ShardedStream(Sequences(6), 2, ranks(1)[0])
    with stream.in_epoch(0):
        batches = [batch.tolist() for batch in DataLoader(stream, 2)]
        stream.advance(6)
    assert batches == [[0, 1], [2, 3], [4, 5]]
    assert stream.epoch == 1
