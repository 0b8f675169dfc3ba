"""How a model is distributed over the ranks, and in which precision it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from .config import TrainingConfig
from .distributed import data_parallel
from .environment import KEYWORD_ONLY, JobEnvironment
from .state import without_frozen
from .torch_private import checkpoint_activations


class ParallelismError(ValueError):
    """The model does not support a setting."""


@dataclass(frozen=True, **KEYWORD_ONLY)
class Parallelism:
    """DDP or FSDP2, precision, activation checkpointing, compilation."""

    kind: str = "ddp"
    """ddp or fsdp. A single process gets neither."""
    precision: str = "float32"
    """float32 or bfloat16 (by autocast; fsdp also has its own policy). Sums over ranks stay in float32."""
    shard_above: int = 1_000_000
    """A part of the model with at least this many parameters is a unit of FSDP."""
    checkpoint_activations: bool = False
    compile: bool = False

    @classmethod
    def of(cls, config: TrainingConfig) -> Parallelism:
        return cls(
            kind=config.parallelism,
            precision=config.precision,
            shard_above=config.shard_above,
            checkpoint_activations=config.checkpoint_activations,
            compile=config.compile,
        )

    def apply(self, model: nn.Module, environment: JobEnvironment, device: torch.device) -> nn.Module:
        """Move `model`, which is on the CPU and the same on all ranks, to `device` and distribute it over the ranks.

        Create optimizers from the model that this returns. All ranks must call it.

        Raises:
            ParallelismError: activations should be checkpointed, but the model has no repeated blocks.
        """
        if self.checkpoint_activations:
            blocks = repeated_blocks(model)
            if not blocks:
                raise ParallelismError("--checkpoint-activations: this model has no repeated blocks (nn.ModuleList)")
            checkpoint_activations(model, blocks)
        if self.kind == "fsdp" and environment.several:
            if self.compile:
                for block in repeated_blocks(model) or [model]:
                    _compile(block)
            # Each unit moves to the device when it is sharded, so that the whole model is never there.
            return self._shard(model, environment, device)
        model = data_parallel(model.to(device), environment)
        if self.compile:
            _compile(model)
        return model

    def _shard(self, model: nn.Module, environment: JobEnvironment, device: torch.device) -> nn.Module:
        mesh = init_device_mesh(device.type, (environment.world_size,))
        # Norms with statistics in float32 refuse weights of another type. For these, use autocast only.
        keeps_statistics = any(getattr(part, "running_mean", None) is not None for part in model.modules())
        half = torch.bfloat16 if self.precision == "bfloat16" and not keeps_statistics else None
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
        for unit in units_by_size(model, self.shard_above):
            fully_shard(unit, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)  # In place.
        return model

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """A context for each forward pass and its loss."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)


def _compile(module: nn.Module) -> None:
    """Compile in place, to keep the names of parameters. nn.Module.compile would skip torch's own classes."""
    module.forward = torch.compile(module.forward)


@contextmanager
def gradients_kept(model: nn.Module) -> Iterator[None]:
    """A context for all parts of an accumulated step except the last: each rank adds up gradients and sends none.

    The mean equals that of one large batch, because gradients are linear in the loss.
    """
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


def whole_state(model: nn.Module, *, frozen: bool = True) -> dict[str, torch.Tensor]:
    """Return parameters and buffers, by the names of the bare model, on the CPU of rank 0. All ranks must call it.

    Without `frozen`, parameters that need no gradient are omitted and not gathered.
    """
    sharded = isinstance(model, FSDPModule)
    options = StateDictOptions(full_state_dict=sharded, cpu_offload=sharded, ignore_frozen_params=not frozen)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    if not frozen:
        state = without_frozen(model, state)  # torch keeps tied parameters under their other names.
    return {name: value.cpu() for name, value in state.items()}


def take_over_buffers(model: nn.Module) -> None:
    """Copy rank 0's buffers before an evaluation: with FSDP the norms of each rank have their own statistics.

    DDP does this by itself. All ranks must call it.
    """
    if isinstance(model, FSDPModule):
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the outermost entries of lists and sequences that have parts themselves, as transformer layers."""
    blocks: list[nn.Module] = []
    for child in model.children():
        entries = list(child.children()) if isinstance(child, (nn.ModuleList, nn.Sequential)) else []
        composite = [entry for entry in entries if any(True for _ in entry.children())]
        blocks += composite or repeated_blocks(child)
    return blocks


def units_by_size(model: nn.Module, minimum: int) -> list[nn.Module]:
    """Return the parts of `model` that FSDP gathers separately, inner ones first, without the model itself.

    A part is such a unit if it has at least `minimum` parameters outside the units within it. Source: FSDP1's
    size_based_auto_wrap_policy; torch has no equivalent for FSDP2.
    """
    units: list[nn.Module] = []
    names = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    tied = {
        name for name, count in Counter(names).items() if count > 1
    }  # Both places of a tied parameter must be in one unit, that of the model.

    def visit(module: nn.Module) -> int:
        """Return the number of parameters of `module` that are in no unit."""
        rest = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        rest += sum(visit(child) for child in module.children())
        # Lists are never called, and attention accesses the weights of its projection directly.
        never = isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)) or any(
            id(parameter) in tied for parameter in module.parameters()
        )
        if module is model or never or rest < max(1, minimum):
            return rest
        units.append(module)
        return 0

    visit(model)
    return units
