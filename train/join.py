"""Different numbers of batches per rank, under DistributedDataParallel."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join, Joinable
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.optim import Optimizer


class JoinError(TypeError):
    """The ranks of this model cannot have different numbers of batches."""


@contextmanager
def conditional_join(model: nn.Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """A context for the steps of an epoch. A rank without batches joins the collectives of the others until all end.

    It covers the collectives of DistributedDataParallel and of a sharded optimizer. All ranks must call other
    collectives in the block equally often. Gradients are sums over the ranks that still have batches, divided by the
    number of all ranks, so each batch has the same weight. A model that is not wrapped has one process and needs
    nothing.

    A rank that crashes has not run out of batches. It prints its exception, aborts the group, and raises SystemExit,
    which a program does not catch by mistake. If it continued, its next collectives would match the steps of the
    others. The other ranks fail when its connections close.

    Raises:
        JoinError: the model uses FSDP, whose ranks must all take part in each step.
        SystemExit: the block raised an exception, with several ranks.
    """
    if isinstance(model, (FSDPModule, FullyShardedDataParallel)):
        raise JoinError(
            "FSDP's ranks need the same number of batches: give a sampler that repeats or drops samples "
            "(ResumableSampler), or use DistributedDataParallel"
        )
    if not isinstance(model, Joinable):
        yield
        return
    joinables: list[Joinable] = [model]
    if isinstance(optimizer, Joinable):  # ZeroRedundancyOptimizer. Other optimizers have no collectives.
        joinables.append(optimizer)
    try:
        with Join(joinables):
            yield
    except Exception as error:
        traceback.print_exc()
        if dist.group.WORLD is not None:
            dist.group.WORLD.abort()
        raise SystemExit(1) from error
