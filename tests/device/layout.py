"""Check of channels_last, the memory layout in which convolutions are fastest."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
from kit import Check
from speed import Timed, task_of
from torch import nn

from train.checkpoint import Checkpoints
from train.parallel import Parallelism


def channels_last(check: Check) -> None:
    """Parameters, gradients and activations must have the layout, also after a resume."""
    task = task_of(check, Timed, "--epochs=1")
    parallelism = Parallelism.of(task.config)
    times = {}
    for last in (True, False):
        torch.manual_seed(0)
        model = parallelism.apply(task.model(), task.environment, check.device)
        if not last:
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        outputs, hooks = watched(model) if last else ([], [])
        optimizer = task.optimizer(model)
        batch = task.train_data[: check.sizes.batch]
        seconds = []
        for number in range(20 if check.cuda else 6):
            check.synchronize()
            begun = time.perf_counter()
            with parallelism.autocast(check.device):
                loss = task.loss(model, batch)
            (loss / check.sizes.batch).backward()
            if last and number == 0:
                for hook in hooks:
                    hook.remove()
                tensors: list[Any] = [part.weight for part in convolutions(model)]
                tensors += [part.weight.grad for part in convolutions(model)]
                wrong = sum(not is_last(tensor) for tensor in (*tensors, *outputs))
                text = "parameters, gradients and activations"
                check.expect(not wrong, text, f"{wrong} of {len(tensors) + len(outputs)} in another order")
            optimizer.step()
            optimizer.zero_grad()
            check.synchronize()
            seconds.append(time.perf_counter() - begun)
        times[last] = median(seconds[2:])
        if last:
            survives(check, task, model, optimizer)
    figures = f"{1000 * times[True]:.2f} ms a step, as torch lays it out {1000 * times[False]:.2f} ms"
    check.expect(True, "the network's step, not compiled", f"{times[False] / times[True]:.2f} x: {figures}")


def watched(model: nn.Module) -> tuple[list[torch.Tensor], list[Any]]:
    """Record the output of the convolutions from now on; return the record and the hooks."""
    outputs: list[torch.Tensor] = []
    hooks = [part.register_forward_hook(lambda *values: outputs.append(values[2])) for part in convolutions(model)]
    return outputs, hooks


def survives(check: Check, task: Timed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    with Checkpoints(task.environment, {"model": model, "optimizer": optimizer}) as saver:
        saver.save(1)
        saver.wait()
        saver.resume()
    momentum = [optimizer.state[part.weight]["momentum_buffer"] for part in convolutions(model)]
    tensors = [*(part.weight for part in convolutions(model)), *momentum]
    wrong = sum(not is_last(tensor) for tensor in tensors)
    check.expect(not wrong, "parameters and momentum after a resume", f"{wrong} of {len(tensors)} in another order")


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [part for part in model.modules() if isinstance(part, nn.Conv2d)]


def is_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)
