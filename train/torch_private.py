"""All undocumented names of torch that the package uses.

The tests run with torch 2.13.0. Each name is also in the sources of 2.6.0 (the first release with public FSDP2), 2.9.1
and 2.14.1. If torch lacks a name, `PrivateNameError` is raised where it is needed; everything else works.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

# Import this before there is a process group. DistributedDataParallel imports it later, and its default arguments
# (`group=group.WORLD`) would then keep the group alive. Gloo's threads would outlive destroy_process_group, and
# sometimes abort the process when Python shuts down ("terminate called without an active exception", torch 2.13).
# A torch without the module does not import it later either.
with contextlib.suppress(ImportError):
    import torch.distributed.nn.functional


class PrivateNameError(RuntimeError):
    """This version of torch lacks a name. The message says which one, and what needs it."""


def default_store() -> Any:  # noqa: ANN401  (a Store, which mypy does not find)
    """Return the key-value store of the ranks, however the process group was created.

    Without it several ranks can neither agree where to stop nor use a barrier. A single process needs no store.
    """
    return _found("torch.distributed.distributed_c10d", "_get_default_store", "a run of several ranks")()


def checkpoint_activations(model: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Let the backward pass recompute the activations of `blocks`.

    Without it, --checkpoint-activations does not work.
    """
    chosen = set(blocks)
    module = "torch.distributed.algorithms._checkpoint.checkpoint_wrapper"
    apply = _found(module, "apply_activation_checkpointing", "--checkpoint-activations")
    apply(model, check_fn=lambda part: part in chosen)


def parameter_names(model: nn.Module, name: str) -> set[str]:
    """Return the names in a checkpoint of the parameter that `named_parameters` calls `name`.

    Without it only whole models can be saved: frozen parameters cannot be omitted.
    """
    get = _found("torch.distributed.checkpoint.state_dict", "_get_fqns", "checkpoints without frozen parameters")
    names: set[str] = get(model, name)
    return names


def empty_copies(tensors: dict[str, Any], *, pinned: bool) -> dict[str, Any]:
    """Allocate CPU memory for the tensors of a nested state dict, also DTensors. Saving needs it."""
    create = _found("torch.distributed._state_dict_utils", "_create_cpu_state_dict", "checkpoints")
    copies: dict[str, Any] = create(tensors, pin_memory=pinned)
    return copies


def copy_into(copies: dict[str, Any], tensors: dict[str, Any], *, non_blocking: bool = False) -> dict[str, Any]:
    """Copy `tensors` into `copies` of the same shapes, and return these. Saving needs it."""
    copy = _found("torch.distributed._state_dict_utils", "_copy_state_dict", "checkpoints")
    copied: dict[str, Any] = copy(tensors, copies, non_blocking=non_blocking, type_check=False)
    return copied


def _found(module: str, name: str, purpose: str) -> Any:  # noqa: ANN401
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise PrivateNameError(
            f"torch {torch.__version__} has no {module}.{name}, which {purpose} needs: use torch 2.6 to 2.14"
        ) from None
