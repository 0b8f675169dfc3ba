"""Samplers that resume in the middle of an epoch, at the exact sample, also with another number of ranks.

The place counts samples that were *used*, which the training loop reports by `advance`. Samples that were only
fetched do not count, because the workers of a loader run ahead. The place is one number for all ranks: the
position in the order of the epoch. This order depends only on the seed and the epoch, and is distributed to the
ranks in turn.

    for epoch in range(sampler.epoch, epochs):
        with sampler.in_epoch(epoch):
            for batch in DataLoader(data, batch_size, sampler=sampler, num_workers=2, generator=torch.Generator()):
                ...  # one step
                sampler.advance(len(batch))
                if interruption.agreed():
                    checkpoints.save(step)
                    return NOT_FINISHED

Give the loader a generator of its own. A loader draws a number each time that iteration starts, so once more after a
resume, and would otherwise take it from the generator of dropout.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import Sampler

from .environment import JobEnvironment

Item = TypeVar("Item")


class SamplerError(RuntimeError):
    """The training loop and the sampler disagree about their place. The message says what the loop must do."""


class _Resumable(Sampler[Item], ABC, Generic[Item]):
    """Epoch, place and their checks. An item is what the sampler yields: an index, or a batch of indices.

    A subclass returns all items of the epoch, for all ranks, from `_items`. `_position` is how many of them were
    used when the state was loaded.
    """

    def __init__(self, environment: JobEnvironment, seed: int, shuffle: bool, first_epoch: int) -> None:
        self.rank, self.world_size = environment.rank, environment.world_size
        self.seed, self.shuffle = seed, shuffle
        self.epoch = first_epoch
        """The epoch to start or to continue."""
        self._position = 0
        self._used = 0  # By this rank, since the epoch started or the state was loaded.
        self._fetched_all = False
        self._inside = False

    @abstractmethod
    def _items(self) -> Sequence[Item]:
        """All items of the epoch in order, for all ranks together."""

    def _begin(self) -> None:
        """Start the epoch: no item is used yet."""
        self._position = self._used = 0

    def _begun(self) -> bool:
        return self._position > 0 or self._used > 0

    def _order(self, count: int) -> torch.Tensor:
        """Return order_N of the epoch, equal to that of torch's DistributedSampler, so that a program may switch."""
        if not self.shuffle:
            return torch.arange(count)
        return torch.randperm(count, generator=torch.Generator().manual_seed(self.seed + self.epoch))

    def _total(self) -> int:
        """Items of this rank in the epoch from `_position` on."""
        return math.ceil((len(self._items()) - self._position) / self.world_size)

    def _reached(self) -> int:
        """Items that all ranks together have used so far."""
        return min(len(self._items()), self._position + self._used * self.world_size)

    def __len__(self) -> int:
        """Items of this rank that are left in the epoch."""
        return self._total() - self._used

    def __iter__(self) -> Iterator[Item]:
        """Yield the rest of the epoch for this rank.

        If the items cannot be divided evenly, the last ranks repeat items from the start of the epoch, at most
        world_size - 1 per epoch, because all ranks must take the same number of steps.

        Raises:
            SamplerError: outside `in_epoch`.
        """
        if not self._inside:
            raise SamplerError("the sampler was asked outside an epoch: use it inside `with sampler.in_epoch(epoch):`")
        items, self._fetched_all = self._items(), False
        for place in range(self._used, self._total()):
            yield items[(self._position + place * self.world_size + self.rank) % len(items)]
        self._fetched_all = True

    def advance(self, count: int) -> None:
        """Report that this rank has used `count` more items. The other ranks must do the same.

        Raises:
            SamplerError: fewer items were left.
        """
        if count < 0 or not self._inside:
            raise SamplerError(f"cannot advance by {count}" + ("" if self._inside else " outside an epoch"))
        if count > len(self):
            raise SamplerError(f"advanced by {count} where epoch {self.epoch} has only {len(self)} left for this rank")
        self._used += count

    @contextmanager
    def in_epoch(self, epoch: int) -> Iterator[None]:
        """A context for one epoch, from its start or from where a loaded state left it.

        If the block ends at the end of the epoch, the sampler is ready for the next one. If it ends earlier, as at an
        interruption, the sampler keeps its place: save it, or `reset` it.

        Raises:
            SamplerError: another epoch is not over yet, or `advance` was never called.
        """
        if epoch != self.epoch and self._is_midway():
            raise SamplerError(
                f"epoch {epoch} was begun, and epoch {self.epoch} has {len(self)} left for this rank: begin with "
                "`sampler.epoch`, or give up the rest by `sampler.reset()`"
            )
        if self._inside:
            raise SamplerError(f"epoch {epoch} was begun inside an epoch")
        if epoch != self.epoch:
            self.epoch = epoch
            self.reset()
        before = len(self)
        self._inside, self._fetched_all = True, False
        try:
            yield
        finally:
            self._inside = False
        if len(self) == 0:
            self.epoch += 1
            self.reset()
        elif self._fetched_all and len(self) == before:
            raise SamplerError(
                f"epoch {epoch} gave all it had and was never advanced: call sampler.advance(len(batch))"
            )

    def reset(self) -> None:
        """Discard the rest of the epoch."""
        self._begin()

    def _is_midway(self) -> bool:
        return self._begun() and len(self) > 0

    def _load(self, state: dict[str, Any], **expected: object) -> None:
        for name, value in {"seed": self.seed, "shuffle": self.shuffle, **expected}.items():
            if state.get(name) != value:
                raise SamplerError(f"the checkpoint's sampler had {name} {state.get(name)!r}, this one has {value!r}")
        self.epoch, self._position, self._used = state["epoch"], 0, 0


class ResumableSampler(_Resumable[int]):
    """Each rank's share of `count` samples, in a new order each epoch.

    Rank r takes samples r, r + world_size, … of the order, as torch's DistributedSampler does with the same
    seed and epoch. With another world size the rest of the epoch is distributed again. Every sample of the epoch
    is used, and none twice except for at most world_size - 1 that make the shares of the ranks equal at the end.
    All ranks must use the same number of samples per step.
    """

    def __init__(
        self, count: int, environment: JobEnvironment, *, seed: int = 0, shuffle: bool = True, first_epoch: int = 0
    ) -> None:
        if count < 1:
            raise ValueError(f"a sampler needs at least one sample, not {count}")
        super().__init__(environment, seed, shuffle, first_epoch)
        self.count = count
        self._cached: tuple[int, torch.Tensor] | None = None

    def _items(self) -> Sequence[int]:
        if self._cached is None or self._cached[0] != self.epoch:
            self._cached = (self.epoch, self._order(self.count))
        return _Integers(self._cached[1])

    def state_dict(self) -> dict[str, Any]:
        """The same on all ranks."""
        state = {"epoch": self.epoch, "position": self._reached()}
        return {**state, "count": self.count, "seed": self.seed, "shuffle": self.shuffle}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the state was made, with the current number of ranks.

        Raises:
            SamplerError: the state belongs to other data, or to another order.
        """
        self._load(state, count=self.count)
        self._position = state["position"]


class _Integers(Sequence[int]):
    """A tensor as a sequence of Python integers, converted only when they are accessed."""

    def __init__(self, values_N: torch.Tensor) -> None:
        self.values_N = values_N

    def __len__(self) -> int:
        return len(self.values_N)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  (Sequence's own signature is overloaded)
        return int(self.values_N[index])


class ResumableGroupedBatchSampler(_Resumable[list[int]]):
    """Batches of one group each, such as images of similar shape, for the `batch_sampler` of a DataLoader.

    Batches come in the order in which they fill up along the order of the epoch. What remains of a group at the
    end makes a smaller batch, so that every sample of the epoch is used. To give all ranks the same number of
    batches, at most world_size - 1 whole batches are repeated. `advance` counts batches.

    The world size and the batch size may change in the middle of an epoch: the samples used so far are
    reconstructed from the former sizes, and the rest is batched again.
    """

    def __init__(
        self,
        groups: Sequence[int],
        batch_size: int,
        environment: JobEnvironment,
        *,
        seed: int = 0,
        shuffle: bool = True,
        first_epoch: int = 0,
    ) -> None:
        """`groups` has the group of each sample; `batch_size` is the samples of one rank in one step."""
        if not len(groups) or batch_size < 1:
            raise ValueError(f"a sampler needs samples and a batch size above 0, not {len(groups)} and {batch_size}")
        super().__init__(environment, seed, shuffle, first_epoch)
        self.groups, self.batch_size = groups, batch_size
        # (batch size, used batches of all ranks) of earlier parts of the epoch, which had other batch sizes.
        self._stretches: list[tuple[int, int]] = []
        self._cached: tuple[int, list[list[int]]] | None = None

    def _items(self) -> Sequence[list[int]]:
        if self._cached is None or self._cached[0] != self.epoch:
            order = [int(index) for index in self._order(len(self.groups))]
            for batch_size, used in self._stretches:
                done = {index for batch in self._batches(order, batch_size)[:used] for index in batch}
                order = [index for index in order if index not in done]
            self._cached = (self.epoch, self._batches(order, self.batch_size))
        return self._cached[1]

    def _batches(self, order: Sequence[int], batch_size: int) -> list[list[int]]:
        full: list[list[int]] = []
        open_batches: dict[int, list[int]] = {}
        for index in order:
            batch = open_batches.setdefault(self.groups[index], [])
            batch.append(index)
            if len(batch) == batch_size:
                full.append(open_batches.pop(self.groups[index]))
        return full + list(open_batches.values())

    def _begin(self) -> None:
        super()._begin()
        self._stretches, self._cached = [], None

    def _begun(self) -> bool:
        return super()._begun() or bool(self._stretches)

    def state_dict(self) -> dict[str, Any]:
        """The same on all ranks."""
        state = {"epoch": self.epoch, "stretches": [*self._stretches, (self.batch_size, self._reached())]}
        return {**state, "count": len(self.groups), "seed": self.seed, "shuffle": self.shuffle}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the state was made, with the current number of ranks and batch size.

        Raises:
            SamplerError: the state belongs to other data, or to another order.
        """
        self._load(state, count=len(self.groups))
        self._stretches, self._cached = [(size, used) for size, used in state["stretches"]], None
        if self._stretches[-1][0] == self.batch_size:
            self._position = self._stretches.pop()[1]
