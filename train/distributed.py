"""The device and back-end of this rank, the process group, and the few collectives that tasks need."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TextIO

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .environment import JobEnvironment
from .torch_private import default_store

TIMEOUT = timedelta(minutes=10)
"""Limit until the ranks find each other, and for each collective afterwards."""


_barriers = itertools.count()


class BarrierError(RuntimeError):
    """Some ranks did not reach a barrier. The message names them."""


class DeviceError(RuntimeError):
    """The requested device does not exist, or torch lacks what several processes need."""


def choose_device(name: str, environment: JobEnvironment) -> torch.device:
    """Return the device of this rank. `name` is "cpu", "cuda", "mps", or "auto": the first available of cuda, mps, cpu.

    torch is asked for CUDA devices; CUDA_VISIBLE_DEVICES may be set where there are none.

    Raises:
        DeviceError: there is no such device, or several ranks cannot share it.
    """
    if environment.world_size > 1:
        _check_numpy()
    mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if mps and environment.world_size == 1 else "cpu"
    if name == "mps" and not mps:
        raise DeviceError("no MPS device here: use --device cpu")
    if name == "mps" and environment.world_size > 1:
        raise DeviceError("MPS serves one process only: use --device cpu for several")
    if name != "cuda":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA device here, or a CPU build of torch: use --device cpu, or ask the job for GPUs")
    # If Slurm shows each task only its own GPU, this GPU is number 0 for all of them; hence the modulo. If two ranks
    # really get one GPU, NCCL refuses ("Duplicate GPU detected").
    return torch.device("cuda", environment.local_rank % torch.cuda.device_count())


def _check_numpy() -> None:
    """Check numpy now: torch needs it to send objects between ranks, but would fail only then."""
    try:
        torch.empty(0).numpy()
    except RuntimeError:
        raise DeviceError("several processes need numpy, which torch does not find here: pip install numpy") from None


@contextmanager
def process_group(
    environment: JobEnvironment, device: torch.device, timeout: timedelta = TIMEOUT, backend: str = "auto"
) -> Iterator[None]:
    """The default process group for the length of the block. A single process needs none and gets none.

    `backend` is for tensors on the device: gloo, nccl, or auto (nccl on CUDA devices, else gloo).

    After an exception the group is aborted, not destroyed. With NCCL, destroying waits for the peers. With Gloo it
    closes the connections at once: the peers would fail before this rank has ended, and the launcher would blame one
    of them. After an abort the connections close when the process ends.

    Raises:
        DeviceError: numpy is missing.
        torch.distributed.DistError: the ranks did not find each other within `timeout`.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not environment.several:
        yield
        return
    _check_numpy()
    host = environment.master_address or ""
    dist.init_process_group(
        # Gloo in addition to NCCL, for collectives of CPU tensors.
        "cpu:gloo,cuda:nccl" if device.type == "cuda" and backend != "gloo" else "gloo",
        init_method=f"tcp://{f'[{host}]' if ':' in host else host}:{environment.master_port}",
        rank=environment.rank,
        world_size=environment.world_size,
        timeout=timeout,
    )
    try:
        yield
    except BaseException:
        if dist.group.WORLD is not None:
            dist.group.WORLD.abort()
        raise
    dist.destroy_process_group()


def data_parallel(model: nn.Module, environment: JobEnvironment) -> nn.Module:
    """Return `model` under DistributedDataParallel (unchanged for one process). A resumed run stays bit-identical.

    After the first backward pass of a process, torch sorts the gradients into other buckets, in the order of their
    arrival. With three or more ranks, the place of a gradient in its bucket determines the order in which the values
    of the ranks are added. The first step after a resume would then differ from that of an uninterrupted run.
    Therefore a backward pass of zeros, in the order of the parameters, runs before all steps.
    """
    if not environment.several:
        return model
    wrapped = DistributedDataParallel(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Replaces the model's forward for one call. The hooks of the parameters fill the buckets.
    model.forward = lambda: torch.stack([0 * parameter.sum().float() for parameter in parameters]).sum()
    try:
        wrapped().backward()
    finally:
        del model.forward
    wrapped.zero_grad(set_to_none=True)
    return wrapped


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of `tensor` over all ranks, as a new tensor, the same on all. All ranks must call it."""
    total = tensor.clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def barrier(environment: JobEnvironment, timeout: timedelta = TIMEOUT, name: str = "barrier") -> None:
    """Wait until all ranks have called this. It waits for ranks, not for kernels on a GPU.

    It uses the key-value store, and so works the same with Gloo and NCCL. Gloo's monitored_barrier names only one rank.

    Raises:
        BarrierError: some ranks did not come within `timeout`, or the rank that hosts the store has ended.
    """
    if not environment.several:
        return
    store = dist.PrefixStore(f"barrier {next(_barriers)}", default_store())  # type: ignore[attr-defined]
    ranks, limit = environment.world_size, time.monotonic() + timeout.total_seconds()

    def all_have(key: str, limit: float) -> bool:
        """Poll: a blocking read would keep the connection to the store from the rest of the process."""
        while store.add(key, 0) < ranks:
            if time.monotonic() > limit:
                return False
            time.sleep(max(0.01, ranks / 20_000))
        return True

    try:
        store.set(str(environment.rank), "")
        store.add("come", 1)
        if not all_have("come", limit):
            missing = [str(rank) for rank in range(ranks) if not store.check([str(rank)])]
            shown = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
            raise BarrierError(
                f"rank {environment.rank} waited {timeout.total_seconds():g} s at the {name}; "
                f"these of {ranks} ranks did not come: {shown}"
            )
    except dist.DistError as error:
        raise BarrierError(f"the {name}: the ranks' store does not answer: is rank 0 gone? {error}") from error
    # Rank 0 may host the store, which the others still need.
    with contextlib.suppress(dist.DistError):
        store.add("left", 1)
        if environment.rank == 0:
            all_have("left", time.monotonic() + 10)


def rank_print(environment: JobEnvironment, *values: object, file: TextIO | None = None) -> None:
    """Print `values`, each line prefixed by the rank, in one write, so that lines of several ranks do not mix."""
    lines = " ".join(map(str, values)).splitlines() or [""]
    _write("".join(f"[rank {environment.rank}] {line}\n" for line in lines), file)


def print_once(environment: JobEnvironment, *values: object, file: TextIO | None = None) -> None:
    """Print `values` on rank 0 only."""
    if environment.rank == 0:
        _write(" ".join(map(str, values)) + "\n", file)


def _write(text: str, file: TextIO | None) -> None:
    file = file or sys.stdout
    file.flush()
    file.write(text)
    file.flush()


def broadcast(value: Any, source: int = 0) -> Any:  # noqa: ANN401
    """Return the `value` of rank `source`, any object that can be pickled. All ranks must call it."""
    if not dist.is_initialized():
        return value
    box = [value if dist.get_rank() == source else None]
    dist.broadcast_object_list(box, source)
    return box[0]


def shard(count: int, environment: JobEnvironment) -> range:
    """Return this rank's share of `count` samples; each sample is on exactly one rank.

    Use it for evaluation. DistributedSampler does not fit there: it repeats samples until all shares are equal.
    """
    return range(environment.rank, count, environment.world_size)


def failed_anywhere(problem: str | None, environment: JobEnvironment) -> bool:
    """Whether any rank has a `problem`. The lowest such rank prints its own. All ranks must call it.

    Afterwards all ranks may exit. No rank returns before the message is printed, because the launcher ends all
    ranks when the first one exits.
    """
    first = torch.tensor(environment.world_size if problem is None else environment.rank)
    if dist.is_initialized():
        dist.all_reduce(first, dist.ReduceOp.MIN)
    if first == environment.world_size:
        return False
    if first == environment.rank:
        print(f"python -m train: {problem}", file=sys.stderr, flush=True)
    sum_over_ranks(first)  # Wait for the rank that prints.
    return True
