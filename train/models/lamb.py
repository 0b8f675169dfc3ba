"""LAMB, for large batches: Adam with the step of each tensor scaled to the norm of the tensor.

Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", arXiv:1904.00962,
Algorithm 2, with bias correction of both moments and phi(z) = z.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Optional

import torch


class Lamb(torch.optim.Optimizer):
    """The LAMB optimizer. Tensors of one dimension (biases, norms) get AdamW's step, as their norms mean nothing."""

    def __init__(
        self,
        parameters: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        """Raises ValueError for a negative lr, eps or weight_decay, or a beta outside [0, 1)."""
        if min(lr, eps, weight_decay) < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lamb cannot take lr {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}")
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:  # type: ignore[override]  # noqa: UP045
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_of(parameter, group)
        return loss

    def _step_of(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        taken = state["step"].item()
        state["mean"].lerp_(parameter.grad, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
        mean, square = state["mean"] / (1 - beta1**taken), state["square"] / (1 - beta2**taken)
        update = mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * parameter
        if parameter.dim() > 1:
            length, update_length = parameter.norm(), update.norm()
            # A tensor that starts at zero would stay zero.
            usable = (length > 0) & (update_length > 0)
            update = update * torch.where(usable, length / update_length, torch.ones_like(length))
        parameter.sub_(update, alpha=group["lr"])
