"""Samples that can only be read along, dealt out to ranks and their workers, and gone on with where a run stopped.

    stream = ShardedStream(lambda epoch: read_lines(files), batch_size, environment, length=120_000, transform=decode)
    loader = stream.loader(num_workers=4)
    for epoch in range(stream.epoch, epochs):
        with stream.in_epoch(epoch):
            for batch in loader:
                ...  # one step
                stream.advance(len(batch))
                if interruption.agreed():
                    checkpoints.save(step)
                    return NOT_FINISHED

Sample i of the source goes to rank i mod world size. Of a rank's batches, batch j goes to worker j mod workers. (With
batches of one sample, that deals by i mod (workers x world size).) So the batches are the same with any number of
workers, none too, and those of a ResumableSampler that does not shuffle: all samples used lie at the source's front,
and one number says how far, for any number of ranks to go on from.

Where the ranks do not come out even, the last of them repeat samples from the source's front: at most world_size - 1 in
an epoch, for no rank may take a step that the others do not. Nothing is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Callable, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..environment import JobEnvironment

Sample = TypeVar("Sample")


class StreamError(RuntimeError):
    """The source, the loop and the stream disagree. Says what must be done."""


class ShardedStream(IterableDataset[Any], Generic[Sample]):
    """This rank's samples of a source. Its place is counted in samples used, as `advance` says, not in fetched ones."""

    def __init__(
        self,
        source: Callable[[int], Iterable[Sample]],
        batch_size: int,
        environment: JobEnvironment,
        *,
        length: int | None = None,
        transform: Callable[[Sample], Any] | None = None,
        first_epoch: int = 0,
    ) -> None:
        """`source` gives an epoch's samples, the same on all ranks each time that it is asked for that epoch.

        Every rank and worker reads along all of it, unless it returns a sequence, of which each takes its own items.
        So let it return what is cheap, and let `transform` decode: it is called for a worker's own samples alone.
        `batch_size` is of one rank's step. `length` is the number of samples of an epoch, all ranks together, where it
        is known; of a sequence it is its own.
        """
        if batch_size < 1:
            raise ValueError(f"a stream needs a batch size of at least 1, not {batch_size}")
        self.source, self.batch_size, self.transform = source, batch_size, transform
        self.rank, self.world_size = environment.rank, environment.world_size
        self.epoch = first_epoch
        """The epoch to begin or to go on with."""
        self.length = length
        if length is None:
            samples = source(first_epoch)
            self.length = len(samples) if isinstance(samples, Sequence) else None
        self._position = 0
        self._used = 0  # Of this rank, since the epoch's start or since the state was loaded.
        self._inside = False
        self._exhausted = False

    def __len__(self) -> int:
        """Samples of this rank that are left in the epoch, equal for all ranks.

        Raises:
            TypeError: the source's length is not known.
        """
        if self.length is None:
            raise TypeError("the length of this stream is not known: give length=")
        return max(0, math.ceil((self.length - self._position) / self.world_size) - self._used)

    def __iter__(self) -> Iterator[Any]:
        """What is left of the epoch for this rank, or in a worker of a DataLoader, for this worker.

        Raises:
            StreamError: outside `in_epoch`, or the source has other than `length` samples.
        """
        if not self._inside:
            raise StreamError("the stream was asked outside an epoch: use it inside `with stream.in_epoch(epoch):`")
        worker = get_worker_info()
        mine = _Share(
            self.rank, self.world_size, self.batch_size, worker.id if worker else 0, worker.num_workers if worker else 1
        )
        samples, start = self.source(self.epoch), self._reached()
        if isinstance(samples, Sequence):
            self._check_length(len(samples))
            chosen = self._of_sequence(samples, start, mine)
        else:
            chosen = self._along(samples, start, mine)
        return chosen if self.transform is None else map(self.transform, chosen)

    def _of_sequence(self, samples: Sequence[Sample], start: int, mine: _Share) -> Iterator[Sample]:
        for row in range(math.ceil((len(samples) - start) / self.world_size)):
            if mine.has_row(row):
                yield samples[(start + row * self.world_size + self.rank) % len(samples)]

    def _along(self, samples: Iterable[Sample], start: int, mine: _Share) -> Iterator[Sample]:
        front: list[Sample] = []
        count = 0
        for sample in samples:
            if count < self.world_size - 1:
                front.append(sample)
            if count >= start and mine.has(count - start):
                yield sample
            count += 1
        self._check_length(count)
        rest = (count - start) % self.world_size if count > start else 0
        if rest and self.rank >= rest and mine.has_row((count - start) // self.world_size):
            yield front[(self.rank - rest) % count]

    def _check_length(self, count: int) -> None:
        if self.length is not None and count != self.length:
            raise StreamError(
                f"the source has {count} samples in epoch {self.epoch}, but length={self.length} was given"
            )

    def loader(self, num_workers: int = 0, **options: Any) -> StreamLoader:  # noqa: ANN401  (DataLoader's)
        """A DataLoader of batches of `batch_size`; it has a `len`, in batches, if the stream has. For all epochs.

        Raises:
            ValueError: an option would change the dealing of the samples, or let workers live past an epoch.
        """
        for name in ("batch_size", "batch_sampler", "sampler", "shuffle", "drop_last", "persistent_workers"):
            if options.get(name):
                raise ValueError(f"a stream's loader cannot have {name}={options[name]!r}")
        # A generator of its own: it draws a number each time that it is begun, of dropout's generator otherwise.
        options.setdefault("generator", torch.Generator())
        return StreamLoader(self, DataLoader(self, self.batch_size, num_workers=num_workers, **options))

    def advance(self, count: int) -> None:
        """Say that this rank has used `count` further samples; the other ranks must have done the same.

        Raises:
            StreamError: there were not as many left.
        """
        if count < 0 or not self._inside:
            raise StreamError(f"cannot advance by {count}" + ("" if self._inside else " outside an epoch"))
        if self.length is not None and count > len(self):
            raise StreamError(f"advanced by {count} where epoch {self.epoch} has only {len(self)} left for this rank")
        self._used += count

    @contextmanager
    def in_epoch(self, epoch: int) -> Iterator[None]:
        """The epoch's length: at its start, or where a loaded state left it.

        Left at its end, the stream is ready for the next one. Left before, as at an interruption, it stays where it
        is: save it, or `reset` it. The end of a source of unknown length is known when its `loader` has ended.

        Raises:
            StreamError: another epoch is not over yet, or nothing was said to be used.
        """
        if self._inside:
            raise StreamError(f"epoch {epoch} was begun inside an epoch")
        if epoch != self.epoch:
            if self._reached() > 0 and not self._is_over():
                raise StreamError(
                    f"epoch {epoch} was begun, and epoch {self.epoch} is not over: begin with `stream.epoch`, or give "
                    "up the rest by `stream.reset()`"
                )
            self.epoch = epoch
            self.reset()
        before, self._inside, self._exhausted = self._used, True, False
        try:
            yield
        finally:
            self._inside = False
        if self._exhausted and self._used == before and not self._is_empty():
            raise StreamError(f"epoch {epoch} gave all it had and was never advanced: call stream.advance(len(batch))")
        if self._is_over():
            self.epoch += 1
            self.reset()

    def reset(self) -> None:
        """Give up the rest of the epoch."""
        self._position = self._used = 0
        self._exhausted = False

    def state_dict(self) -> dict[str, Any]:
        """The same on all ranks."""
        return {"epoch": self.epoch, "position": self._reached(), "length": self.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was made, with as many ranks and as large batches as there are now.

        Raises:
            StreamError: it is the state of a source of another length.
        """
        if state.get("length") != self.length:
            raise StreamError(f"the checkpoint's stream had length {state.get('length')}, this one has {self.length}")
        self.reset()
        self.epoch, self._position = state["epoch"], state["position"]

    def _reached(self) -> int:
        """Samples that all ranks together have used by now."""
        reached = self._position + self._used * self.world_size
        return reached if self.length is None else min(self.length, reached)

    def _is_over(self) -> bool:
        return self._exhausted if self.length is None else len(self) == 0

    def _is_empty(self) -> bool:
        """Whether the epoch had nothing to give, as after an interruption at its very end."""
        return self._empty if self.length is None else self._position >= self.length

    _empty = False


class _Share:
    """Which samples are a worker's own, by their number since the start. A row has a sample for each rank."""

    def __init__(self, rank: int, world_size: int, batch_size: int, worker: int, workers: int) -> None:
        self.rank, self.world_size, self.batch_size = rank, world_size, batch_size
        self.worker, self.workers = worker, workers

    def has(self, number: int) -> bool:
        return number % self.world_size == self.rank and self.has_row(number // self.world_size)

    def has_row(self, row: int) -> bool:
        return row // self.batch_size % self.workers == self.worker


class StreamLoader:
    """A DataLoader that tells its stream when it has ended: workers have copies of the stream, which cannot."""

    def __init__(self, stream: ShardedStream[Any], loader: DataLoader[Any]) -> None:
        self.stream, self.loader = stream, loader

    def __len__(self) -> int:
        """Batches left in the epoch. Not the DataLoader's own, which would warn when a later epoch has more.

        Raises:
            TypeError: the source's length is not known.
        """
        return math.ceil(len(self.stream) / self.stream.batch_size)

    def __iter__(self) -> Iterator[Any]:
        self.stream._empty = True
        for batch in self.loader:
            self.stream._empty = False
            yield batch
        self.stream._exhausted = True
