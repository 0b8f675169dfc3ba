"""Samples that can only be read in order, distributed to ranks and workers, and resumed where a run stopped.

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

Sample i of the source goes to rank i mod world size. Batch j of a rank goes to worker j mod workers. (With batches of
one sample, sample i goes to i mod (workers x world size).) The batches are therefore the same with any number of
workers, also none, and equal those of a ResumableSampler that does not shuffle. All used samples are at the start of
the source, and one number says how many. Any number of ranks can continue from it.

If the samples cannot be divided evenly, the last ranks repeat samples from the start of the source, at most
world_size - 1 per epoch, because all ranks must take the same number of steps. No sample is omitted.
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
    """The source, the loop and the stream disagree. The message says what to do."""


class ShardedStream(IterableDataset[Any], Generic[Sample]):
    """This rank's samples of a source. Its place counts used samples (`advance`), not fetched ones."""

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
        """`source(epoch)` returns the samples of an epoch, the same ones on all ranks and each time.

        Every rank and worker reads all of it, unless it is a sequence, of which each takes only its own items. Let the
        source return cheap samples, and decode in `transform`, which is called only for a worker's own samples.
        `batch_size` is for one rank and step. `length` is the number of samples in an epoch, of all ranks together, if
        it is known; a sequence has its own.
        """
        if batch_size < 1:
            raise ValueError(f"a stream needs a batch size of at least 1, not {batch_size}")
        self.source, self.batch_size, self.transform = source, batch_size, transform
        self.rank, self.world_size = environment.rank, environment.world_size
        self.epoch = first_epoch
        """The epoch to start or to continue."""
        self.length = length
        if length is None:
            samples = source(first_epoch)
            self.length = len(samples) if isinstance(samples, Sequence) else None
        self._position = 0
        self._used = 0  # By this rank, since the epoch started or the state was loaded.
        self._inside = False
        self._exhausted = False

    def __len__(self) -> int:
        """Samples of this rank that are left in the epoch, equal on all ranks.

        Raises:
            TypeError: the length of the source is unknown.
        """
        if self.length is None:
            raise TypeError("the length of this stream is not known: give length=")
        return max(0, math.ceil((self.length - self._position) / self.world_size) - self._used)

    def __iter__(self) -> Iterator[Any]:
        """Yield the rest of the epoch for this rank or, in a worker of a DataLoader, for this worker.

        Raises:
            StreamError: called outside `in_epoch`, or the source does not have `length` samples.
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
        """Return a DataLoader of batches of `batch_size`, for all epochs. Its `len` is in batches, if known.

        Raises:
            ValueError: an option would change the distribution of samples, or let workers outlive an epoch.
        """
        for name in ("batch_size", "batch_sampler", "sampler", "shuffle", "drop_last", "persistent_workers"):
            if options.get(name):
                raise ValueError(f"a stream's loader cannot have {name}={options[name]!r}")
        # The loader draws a number each time that iteration starts. With its own generator, dropout's is not used.
        options.setdefault("generator", torch.Generator())
        return StreamLoader(self, DataLoader(self, self.batch_size, num_workers=num_workers, **options))

    def advance(self, count: int) -> None:
        """Report that this rank has used `count` more samples. The other ranks must do the same.

        Raises:
            StreamError: fewer samples were left.
        """
        if count < 0 or not self._inside:
            raise StreamError(f"cannot advance by {count}" + ("" if self._inside else " outside an epoch"))
        if self.length is not None and count > len(self):
            raise StreamError(f"advanced by {count} where epoch {self.epoch} has only {len(self)} left for this rank")
        self._used += count

    @contextmanager
    def in_epoch(self, epoch: int) -> Iterator[None]:
        """A context for one epoch, from its start or from where a loaded state left it.

        If the block ends at the end of the epoch, the stream is ready for the next one. If it ends earlier, as at an
        interruption, the stream keeps its place: save it, or `reset` it. A source of unknown length has ended when its
        `loader` has.

        Raises:
            StreamError: another epoch is not over yet, or `advance` was never called.
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
        """Discard the rest of the epoch."""
        self._position = self._used = 0
        self._exhausted = False

    def state_dict(self) -> dict[str, Any]:
        """The same on all ranks."""
        return {"epoch": self.epoch, "position": self._reached(), "length": self.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the state was made, with the current number of ranks and batch size.

        Raises:
            StreamError: the state belongs to a source of another length.
        """
        if state.get("length") != self.length:
            raise StreamError(f"the checkpoint's stream had length {state.get('length')}, this one has {self.length}")
        self.reset()
        self.epoch, self._position = state["epoch"], state["position"]

    def _reached(self) -> int:
        """Samples that all ranks together have used so far."""
        reached = self._position + self._used * self.world_size
        return reached if self.length is None else min(self.length, reached)

    def _is_over(self) -> bool:
        return self._exhausted if self.length is None else len(self) == 0

    def _is_empty(self) -> bool:
        """Whether the epoch had no samples left, as after an interruption at its very end."""
        return self._empty if self.length is None else self._position >= self.length

    _empty = False


class _Share:
    """Which samples belong to a worker, by their number since the start. A row has one sample for each rank."""

    def __init__(self, rank: int, world_size: int, batch_size: int, worker: int, workers: int) -> None:
        self.rank, self.world_size, self.batch_size = rank, world_size, batch_size
        self.worker, self.workers = worker, workers

    def has(self, number: int) -> bool:
        return number % self.world_size == self.rank and self.has_row(number // self.world_size)

    def has_row(self, row: int) -> bool:
        return row // self.batch_size % self.workers == self.worker


class StreamLoader:
    """A DataLoader that tells its stream when it has ended. Workers have copies of the stream and cannot do so."""

    def __init__(self, stream: ShardedStream[Any], loader: DataLoader[Any]) -> None:
        self.stream, self.loader = stream, loader

    def __len__(self) -> int:
        """Batches left in the epoch. The DataLoader's own `len` would warn when a later epoch has more.

        Raises:
            TypeError: the length of the source is unknown.
        """
        return math.ceil(len(self.stream) / self.stream.batch_size)

    def __iter__(self) -> Iterator[Any]:
        self.stream._empty = True
        for batch in self.loader:
            self.stream._empty = False
            yield batch
        self.stream._exhausted = True
