"""Ranks that have different numbers of batches, under DistributedDataParallel."""

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
    """The model's ranks cannot have different numbers of batches."""


@contextmanager
def conditional_join(model: nn.Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """Around the steps of an epoch: a rank that is out of batches joins in the others' collectives until all are.

    Only for what the model under DistributedDataParallel and a sharded optimizer say to each other; the
    block's own collectives must be as many on all ranks. Gradients are sums over the ranks that still have
    batches, divided by the number of all: each batch counts alike. A model that is not wrapped has one
    process and needs nothing.

    A rank that crashes is not out of batches. Its exception is told, the group aborted, and the process left by
    SystemExit, which a program does not catch by mistake: if it went on, its next collectives would meet the
    others' steps. The other ranks fail when its connections close.

    Raises:
        JoinError: the model is under FSDP, whose ranks must all take part in each step.
        SystemExit: an exception was raised in the block, of several ranks.
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
    if isinstance(optimizer, Joinable):  # ZeroRedundancyOptimizer. Others have nothing to say to other ranks.
        joinables.append(optimizer)
    try:
        with Join(joinables):
            yield
    except Exception as error:
        traceback.print_exc()
        if dist.group.WORLD is not None:
            dist.group.WORLD.abort()
        raise SystemExit(1) from error
