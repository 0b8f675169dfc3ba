"""Collects the state of a program's objects for a checkpoint, and restores it."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict as dcp_state
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from . import random_state
from .torch_private import copy_into, empty_copies, parameter_names

COMMON = "common.pt"
"""File of the state that is the same on all ranks; rank 0 writes it."""


def own_file(rank: int) -> str:
    """Return the name of the file with the state of one rank."""
    return f"rank_{rank}.pt"


class StateError(RuntimeError):
    """The state of an object cannot be saved, or the state of the checkpoint does not fit the program."""


@dataclass
class Snapshot:
    """The state of a run after one step."""

    tensors: dict[str, Any]
    """State dicts of modules and optimizers, sharded as they are. They share memory until `Stage.copy`."""
    common: bytes
    own: bytes


class State:
    """The objects of a program that have a state, by name."""

    def __init__(self, items: Mapping[str, Any], *, frozen: bool = True) -> None:
        """Sort `items` into modules (also under DDP, FSDP2 and compiled), optimizers, and other objects with a state.

        Objects with `load_state_dicts`, such as a MetricsTracker, differ between ranks. Without `frozen`, parameters
        that need no gradient are omitted; the program must create the same ones each time.

        Raises:
            StateError: an item has no state, or an optimizer has no module.
        """
        self.frozen = frozen
        self.modules = {name: item for name, item in items.items() if isinstance(item, nn.Module)}
        self.optimizers = {name: item for name, item in items.items() if isinstance(item, torch.optim.Optimizer)}
        others = {name: item for name, item in items.items() if name not in {*self.modules, *self.optimizers}}
        for name, item in others.items():
            if not hasattr(item, "state_dict"):
                raise StateError(f"{name!r} has no state_dict(): a {type(item).__name__} cannot be saved by itself")
        self.own = {name: item for name, item in others.items() if hasattr(item, "load_state_dicts")}
        self.common = {name: item for name, item in others.items() if name not in self.own}
        self._owners = {name: self._owner(name, optimizer) for name, optimizer in self.optimizers.items()}

    def _owner(self, name: str, optimizer: torch.optim.Optimizer) -> nn.Module:
        first = next(iter(optimizer.param_groups[0]["params"]), None)
        for module in self.modules.values():
            if any(parameter is first for parameter in module.parameters()):
                return module
        raise StateError(f"{name!r} optimizes no module among {', '.join(map(repr, self.modules)) or 'none'}")

    def _of(self, module: nn.Module) -> dict[str, Any]:
        state: dict[str, Any] = dcp_state.get_model_state_dict(module)
        return state if self.frozen else without_frozen(module, state)

    def collect(self, step: int, notes: Mapping[str, Any], rank: int) -> Snapshot:
        """Return the current state. Parameters and optimizer states are not copied yet; everything else is.

        Raises:
            StateError: an object cannot be pickled.
        """
        try:
            tensors: dict[str, Any] = {}
            buffers: dict[str, Any] = {}
            unused = [name for name, optimizer in self.optimizers.items() if not optimizer.state]
            for name, module in self.modules.items():
                parameters = {_address(parameter) for parameter in module.parameters()}
                state = self._of(module)
                own = [key for key, value in state.items() if _address(value) not in parameters]
                # Copy buffers now: the next forward pass changes them, and each rank has its own. Rank 0's are for
                # new ranks, and for all ranks under DDP, which broadcasts them.
                buffers[name] = {key: _cloned(state[key]) for key in own}
                shared = buffers[name] if rank == 0 else {k: v for k, v in buffers[name].items() if _is_sharded(v)}
                tensors[name] = {**{key: value for key, value in state.items() if key not in own}, **shared}
                if isinstance(module, DistributedDataParallel):
                    buffers[name] = {}
            for name, optimizer in self.optimizers.items():
                whole: dict[str, Any] = dcp_state.get_optimizer_state_dict(self._owners[name], optimizer)
                tensors[name] = {"state": whole["state"], "param_groups": _cloned(whole["param_groups"])}
                if name in unused:
                    optimizer.state.clear()  # torch made this state by a step of zero length, only to return one.
            run = getattr(sys.modules.get("wandb"), "run", None)
            common = {
                "step": step,
                "notes": {**notes, **({"wandb_run_id": run.id} if run is not None else {})},
                "unused": unused,
                "items": {name: item.state_dict() for name, item in self.common.items()},
            }
            mine = {
                "random": random_state.capture(),
                "buffers": {n: {k: v for k, v in part.items() if not _is_sharded(v)} for n, part in buffers.items()},
                "items": {name: item.state_dict() for name, item in self.own.items()},
            }
            return Snapshot(tensors, _pickled(common) if rank == 0 else b"", _pickled(mine))
        except Exception as error:  # The objects' own methods may raise anything.
            raise StateError(f"the state cannot be collected: {type(error).__name__}: {error}") from error

    def restore(
        self,
        folder: Path,
        world_size_then: int,
        rank: int,
        world_size: int,
        group: dist.ProcessGroup | None,
        beat: Callable[[], None],
    ) -> dict[str, Any]:
        """Restore the state in `folder`, and return the common part. All ranks must call it. Beat for each tensor.

        Any number of ranks can load a checkpoint of W ranks. New ranks derive their random generators
        (`random_state.derive`). The state of former rank r goes to rank r modulo the new number.

        Raises:
            StateError: the state belongs to other objects, or does not fit them.
        """
        # These are pickles, because the state of an object may contain anything. Loading a pickle can run code: load
        # only checkpoints of the program itself.
        common: dict[str, Any] = torch.load(folder / COMMON, map_location="cpu", weights_only=False)
        missing = self.common.keys() ^ common["items"].keys()
        if missing:
            raise StateError(f"in the program or in the checkpoint, but not in both: {', '.join(sorted(missing))}")
        try:
            for name, module in self.modules.items():
                options = dcp_state.StateDictOptions(strict=self.frozen)
                state: dict[str, Any] = {name: self._of(module)}
                _read(state, folder, group, _Reading(beat))
                dcp_state.set_model_state_dict(module, state[name], options=options)
            for name, optimizer in self.optimizers.items():
                state = {name: dcp_state.get_optimizer_state_dict(self._owners[name], optimizer)}
                unused = name in common["unused"]
                _read(state, folder, group, _Reading(beat, allow_partial_load=unused))
                dcp_state.set_optimizer_state_dict(self._owners[name], optimizer, state[name])
                if unused:
                    optimizer.state.clear()
            for name, item in self.common.items():
                item.load_state_dict(common["items"][name])
            whose = range(rank, world_size_then, world_size)
            owns = [torch.load(folder / own_file(r), map_location="cpu", weights_only=False) for r in whose]
            for name, module in self.modules.items() if owns else ():
                values: dict[str, Any] = dcp_state.get_model_state_dict(module)
                for key, value in owns[0]["buffers"][name].items():
                    values[key].copy_(value)
            for name, item in self.own.items():
                item.load_state_dicts([own["items"][name] for own in owns])
        except (KeyError, ValueError, RuntimeError, CheckpointException) as error:
            raise StateError(f"the checkpoint does not fit the program: {first_cause(error)}") from error
        if owns:
            random_state.restore(owns[0]["random"])
        else:
            first = torch.load(folder / own_file(0), map_location="cpu", weights_only=False)
            random_state.derive(first["random"], common["step"], rank)
        return common


class Stage:
    """Copies of a snapshot's tensors in main memory (pinned for CUDA), reused for each checkpoint.

    They need as much memory as this rank's share of the state.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._copies: dict[str, Any] | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def order(self) -> None:
        """Make the copies wait for all work that the training's thread has enqueued so far. That thread calls it."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def copy(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Return copies of all `tensors`. It may run in another thread while nothing changes them."""
        if self._copies is None or not _same_shapes(self._copies, tensors):
            self._copies = empty_copies(tensors, pinned=self._stream is not None)
        if self._stream is None:
            return copy_into(self._copies, tensors)
        with torch.cuda.stream(self._stream):
            copied = copy_into(self._copies, tensors, non_blocking=True)
        self._stream.synchronize()
        return copied


def without_frozen(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return `state` of `module` without the parameters that need no gradient, under any of their names."""
    named = module.named_parameters(remove_duplicate=False)
    frozen = set().union(*(parameter_names(module, name) for name, parameter in named if not parameter.requires_grad))
    return {name: value for name, value in state.items() if name not in frozen}


def bytes_of(tensors: object, rank: int) -> int:
    """Return the bytes of this rank's share of `tensors`: its shards, and on rank 0 the common ones."""
    if isinstance(tensors, DTensor):
        local = tensors.to_local()
        return local.numel() * local.element_size()
    if isinstance(tensors, torch.Tensor):
        return tensors.numel() * tensors.element_size() if rank == 0 else 0
    if isinstance(tensors, Mapping):
        return sum(bytes_of(value, rank) for value in tensors.values())
    return sum(bytes_of(value, rank) for value in tensors) if isinstance(tensors, (list, tuple)) else 0


def first_cause(error: BaseException) -> str:
    """Return in one line the error that torch.distributed.checkpoint wraps in tracebacks of all ranks."""
    if isinstance(error, CheckpointException) and error.failures:
        error, _ = error.failures[min(error.failures)]
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def write(state: dict[str, Any], folder: Path, group: dist.ProcessGroup | None, beat: Callable[[], None]) -> None:
    """Write the tensors of `state`, each rank its own. All ranks must call it. Beat for each tensor."""
    save(
        state,
        storage_writer=FileSystemWriter(folder),
        planner=_Writing(beat),
        process_group=group,
        no_dist=group is None,
    )


def _read(state: dict[str, Any], folder: Path, group: dist.ProcessGroup | None, planner: _Reading) -> None:
    load(
        state,
        storage_reader=FileSystemReader(folder),
        planner=planner,
        process_group=group,
        no_dist=group is None,
    )


class _Writing(DefaultSavePlanner):
    """torch's planner, with a beat for each tensor to write."""

    def __init__(self, beat: Callable[[], None]) -> None:
        super().__init__()
        self._beat = beat

    def resolve_data(self, write_item: Any) -> Any:  # noqa: ANN401
        self._beat()
        return super().resolve_data(write_item)


class _Reading(DefaultLoadPlanner):
    """torch's planner, with a beat for each tensor read."""

    def __init__(self, beat: Callable[[], None], **options: Any) -> None:  # noqa: ANN401  (as torch takes them)
        super().__init__(**options)
        self._beat = beat

    def commit_tensor(self, read_item: Any, tensor: torch.Tensor) -> None:  # noqa: ANN401
        super().commit_tensor(read_item, tensor)
        self._beat()


def _pickled(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _address(value: object) -> int:
    if isinstance(value, DTensor):
        value = value.to_local()
    return value.data_ptr() if isinstance(value, torch.Tensor) else 0


def _is_sharded(value: object) -> bool:
    return isinstance(value, DTensor)


def _cloned(value: Any) -> Any:  # noqa: ANN401  (a nested state dict)
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _cloned(part) for key, part in value.items()}
    return [_cloned(part) for part in value] if isinstance(value, list) else value


def _same_shapes(copies: object, tensors: object) -> bool:
    if isinstance(tensors, torch.Tensor):
        return isinstance(copies, torch.Tensor) and (copies.shape, copies.dtype) == (tensors.shape, tensors.dtype)
    if isinstance(tensors, Mapping):
        if not isinstance(copies, Mapping) or copies.keys() != tensors.keys():
            return False
        return all(_same_shapes(copies[key], value) for key, value in tensors.items())
    if isinstance(tensors, list):
        return isinstance(copies, list) and len(copies) == len(tensors) and all(map(_same_shapes, copies, tensors))
    return True
