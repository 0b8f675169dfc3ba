"""Which device and back-end this rank uses, the process group's life, and the few collectives tasks need."""

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
"""For the ranks to find each other, and for each collective afterwards."""


_barriers = itertools.count()


class BarrierError(RuntimeError):
    """Some ranks did not come to a barrier. Names them."""


class DeviceError(RuntimeError):
    """The device that was asked for is not there, or what torch needs to use several."""


def choose_device(name: str, environment: JobEnvironment) -> torch.device:
    """The device of this rank: "cpu", "cuda", "mps", or "auto" for the first there of cuda, mps and cpu.

    CUDA devices are asked for, not looked up in CUDA_VISIBLE_DEVICES, which may be set where there are none.

    Raises:
        DeviceError: there is no such device, or it cannot be shared by several ranks.
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
    # Where Slurm shows each task its own GPU alone, that is number 0 for all: hence the modulo. Where two ranks
    # do get one GPU, NCCL refuses ("Duplicate GPU detected").
    return torch.device("cuda", environment.local_rank % torch.cuda.device_count())


def _check_numpy() -> None:
    """Torch sends objects between ranks by way of numpy, and says so as late as that."""
    try:
        torch.empty(0).numpy()
    except RuntimeError:
        raise DeviceError("several processes need numpy, which torch does not find here: pip install numpy") from None


@contextmanager
def process_group(
    environment: JobEnvironment, device: torch.device, timeout: timedelta = TIMEOUT, backend: str = "auto"
) -> Iterator[None]:
    """The default process group for the length of the block. One process needs none and gets none.

    `backend` is that of tensors on the device: gloo, nccl, or auto, which is nccl on CUDA devices.

    After an exception the group is aborted, not destroyed. Destroying waits for peers on NCCL, and on Gloo it
    closes the connections at once, so that the peers fail before this rank has left and the launcher blames
    one of them. Aborted, the connections close when the process ends.

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
        # Gloo beside NCCL, for collectives of tensors on the CPU.
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
    """`model` under DistributedDataParallel, or as it is for one process, so that a resumed run keeps its bits.

    After the first backward pass of a process torch sorts the gradients into other buckets, in the order in
    which they came. From three ranks on it depends on a gradient's place in its bucket in which order the
    ranks' values are added, and so the first step after a resume would not be that of a run that went on.
    Here a backward pass of zeros, in the order of the parameters, comes before all steps.
    """
    if not environment.several:
        return model
    wrapped = DistributedDataParallel(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # In place of the model's own for one call. The hooks that fill the buckets are those of the parameters.
    model.forward = lambda: torch.stack([0 * parameter.sum().float() for parameter in parameters]).sum()
    try:
        wrapped().backward()
    finally:
        del model.forward
    wrapped.zero_grad(set_to_none=True)
    return wrapped


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of every rank's `tensor`, as a new tensor that is the same on all. All must call it."""
    total = tensor.clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def barrier(environment: JobEnvironment, timeout: timedelta = TIMEOUT, name: str = "barrier") -> None:
    """Wait until all ranks are here. All must call it. It is on no GPU's stream: it waits for ranks, not for kernels.

    By the key-value store, and so the same with Gloo and NCCL. Gloo's own monitored_barrier names one rank only.

    Raises:
        BarrierError: not all came within `timeout`, or the store is gone with its rank. Names the ranks.
    """
    if not environment.several:
        return
    store = dist.PrefixStore(f"barrier {next(_barriers)}", default_store())  # type: ignore[attr-defined]
    ranks, limit = environment.world_size, time.monotonic() + timeout.total_seconds()

    def all_have(key: str, limit: float) -> bool:
        """Never by a blocking read: that would hold the store's connection against the rest of the process."""
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
    # Rank 0 may hold the store, which the others still ask.
    with contextlib.suppress(dist.DistError):
        store.add("left", 1)
        if environment.rank == 0:
            all_have("left", time.monotonic() + 10)


def rank_print(environment: JobEnvironment, *values: object, file: TextIO | None = None) -> None:
    """Print `values`, each line behind the rank's number, in one write: lines of several ranks do not mix."""
    lines = " ".join(map(str, values)).splitlines() or [""]
    _write("".join(f"[rank {environment.rank}] {line}\n" for line in lines), file)


def print_once(environment: JobEnvironment, *values: object, file: TextIO | None = None) -> None:
    """Print `values` on rank 0 alone."""
    if environment.rank == 0:
        _write(" ".join(map(str, values)) + "\n", file)


def _write(text: str, file: TextIO | None) -> None:
    file = file or sys.stdout
    file.flush()
    file.write(text)
    file.flush()


def broadcast(value: Any, source: int = 0) -> Any:  # noqa: ANN401
    """What rank `source` has: any object that can be pickled. All must call it; the others' `value` is not read."""
    if not dist.is_initialized():
        return value
    box = [value if dist.get_rank() == source else None]
    dist.broadcast_object_list(box, source)
    return box[0]


def shard(count: int, environment: JobEnvironment) -> range:
    """This rank's share of `count` samples, each on exactly one rank.

    For evaluation, where DistributedSampler will not do: it repeats samples until all shares are equal.
    """
    return range(environment.rank, count, environment.world_size)


def failed_anywhere(problem: str | None, environment: JobEnvironment) -> bool:
    """Whether any rank has a `problem`. The lowest such rank prints its own, once for the run. All must call it.

    Afterwards all ranks may leave with an exit status: none does so before the message is out, which matters
    as the launcher ends the others when the first leaves.
    """
    first = torch.tensor(environment.world_size if problem is None else environment.rank)
    if dist.is_initialized():
        dist.all_reduce(first, dist.ReduceOp.MIN)
    if first == environment.world_size:
        return False
    if first == environment.rank:
        print(f"python -m train: {problem}", file=sys.stderr, flush=True)
    sum_over_ranks(first)  # Waits for the one that prints.
    return True
