"""Samplers that go on in the middle of an epoch, at the very sample, also with another number of ranks.

The place is counted in samples that were *used*, which the training loop says by `advance`, not in samples
that were fetched: a loader's workers run ahead. It is one number for all ranks, counted along the epoch's
order, which depends on the seed and the epoch alone and is dealt out to the ranks in turn.

    for epoch in range(sampler.epoch, epochs):
        with sampler.in_epoch(epoch):
            for batch in DataLoader(data, batch_size, sampler=sampler, num_workers=2, generator=torch.Generator()):
                ...  # one step
                sampler.advance(len(batch))
                if interruption.agreed():
                    checkpoints.save(step)
                    return NOT_FINISHED

The loader's own generator matters: it draws a number each time that it is begun, so once more after a resume, and
would take it from the generator of dropout.
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
    """The training loop and the sampler disagree on where they are. Says what the loop must do."""


class _Resumable(Sampler[Item], ABC, Generic[Item]):
    """Epoch, place and their checks. An item is what the sampler yields: an index, or a batch of them.

    A subclass tells in `_items` all that the epoch has, for all ranks, and keeps in `_position` how many of
    them were used when the state was loaded.
    """

    def __init__(self, environment: JobEnvironment, seed: int, shuffle: bool, first_epoch: int) -> None:
        self.rank, self.world_size = environment.rank, environment.world_size
        self.seed, self.shuffle = seed, shuffle
        self.epoch = first_epoch
        """The epoch to begin or to go on with."""
        self._position = 0
        self._used = 0  # Of this rank, since the epoch's start or since the state was loaded.
        self._fetched_all = False
        self._inside = False

    @abstractmethod
    def _items(self) -> Sequence[Item]:
        """All that the epoch has, in its order, for all ranks together."""

    def _begin(self) -> None:
        """Nothing of the epoch is used yet."""
        self._position = self._used = 0

    def _begun(self) -> bool:
        return self._position > 0 or self._used > 0

    def _order(self, count: int) -> torch.Tensor:
        """order_N of the epoch. As torch's DistributedSampler makes it, so that a program may change over."""
        if not self.shuffle:
            return torch.arange(count)
        return torch.randperm(count, generator=torch.Generator().manual_seed(self.seed + self.epoch))

    def _total(self) -> int:
        """Items of this rank in the rest of the epoch, those since `_position`."""
        return math.ceil((len(self._items()) - self._position) / self.world_size)

    def _reached(self) -> int:
        """Items that all ranks together have used by now."""
        return min(len(self._items()), self._position + self._used * self.world_size)

    def __len__(self) -> int:
        """Items of this rank that are left in the epoch."""
        return self._total() - self._used

    def __iter__(self) -> Iterator[Item]:
        """What is left of the epoch for this rank.

        Where the ranks do not come out even, the last of them repeat items from the epoch's front: at most
        world_size - 1 in an epoch, for no rank may take a step that the others do not.

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
        """Say that this rank has used `count` further items; the other ranks must have done the same.

        Raises:
            SamplerError: there were not as many left.
        """
        if count < 0 or not self._inside:
            raise SamplerError(f"cannot advance by {count}" + ("" if self._inside else " outside an epoch"))
        if count > len(self):
            raise SamplerError(f"advanced by {count} where epoch {self.epoch} has only {len(self)} left for this rank")
        self._used += count

    @contextmanager
    def in_epoch(self, epoch: int) -> Iterator[None]:
        """The epoch's length: at its start, or where a loaded state left it.

        Left at its end, the sampler is ready for the next one. Left before, as at an interruption, it stays
        where it is: save it, or `reset` it.

        Raises:
            SamplerError: another epoch is not over yet, or nothing was said to be used.
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
        """Give up the rest of the epoch."""
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
    seed and epoch. With another world size the rest of the epoch is dealt out anew: every sample of the epoch
    is used, and none twice but for the at most world_size - 1 that make the ranks' shares equal at its end.
    Ranks must use the same number of samples a step.
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
        """Go on where the state was made, with as many ranks as there are now.

        Raises:
            SamplerError: it is the state of other data, or of another order.
        """
        self._load(state, count=self.count)
        self._position = state["position"]


class _Integers(Sequence[int]):
    """A tensor as a sequence of Python's integers, of which few may be looked at."""

    def __init__(self, values_N: torch.Tensor) -> None:
        self.values_N = values_N

    def __len__(self) -> int:
        return len(self.values_N)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  (Sequence's own signature is overloaded)
        return int(self.values_N[index])


class ResumableGroupedBatchSampler(_Resumable[list[int]]):
    """Batches of one group each, as images of like shape, for a DataLoader's `batch_sampler`.

    Batches come in the order in which they fill up as the epoch's order is walked along; what a group has
    left at the end makes a smaller batch, so that every sample of the epoch is used. Only whole batches are
    repeated, at most world_size - 1 of them, to give all ranks as many. `advance` counts batches.

    The world size and the batch size may change in the middle of an epoch: what was used until then is
    found again from the sizes of then, and the rest is batched anew.
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
        """`groups` holds the group of each sample, `batch_size` the samples of one rank's step."""
        if not len(groups) or batch_size < 1:
            raise ValueError(f"a sampler needs samples and a batch size above 0, not {len(groups)} and {batch_size}")
        super().__init__(environment, seed, shuffle, first_epoch)
        self.groups, self.batch_size = groups, batch_size
        # (batch size, batches of all ranks used) of the epoch's earlier parts, which had other batch sizes.
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
        """Go on where the state was made, with as many ranks and as large batches as there are now.

        Raises:
            SamplerError: it is the state of other data, or of another order.
        """
        self._load(state, count=len(self.groups))
        self._stretches, self._cached = [(size, used) for size, used in state["stretches"]], None
        if self._stretches[-1][0] == self.batch_size:
            self._position = self._stretches.pop()[1]
