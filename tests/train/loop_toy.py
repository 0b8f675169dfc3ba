"""A task with repeated blocks and samples of unequal weight, which records its loss at each step."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from train import loop
from train.config import TrainingConfig
from train.data.tensors import Tensors
from train.environment import KEYWORD_ONLY, JobEnvironment
from train.parallel import Parallelism
from train.task import Task as AnyTask

IGNORED = -100


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    epochs: int = 2
    batch_size: int = 12
    log_every: int = 1
    learning_rate: float = 0.3


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Toy(AnyTask[Config]):
    """Predicts the next tokens of sequences; in each sequence another number of tokens counts."""

    name, headline, weighs_samples = "toy", "validation_loss", False

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        generator = torch.Generator().manual_seed(5)
        tokens_NT = torch.randint(0, 11, (36, 9), generator=generator)
        labels_NT = tokens_NT.roll(-1, 1).clone()
        for index in range(36):
            labels_NT[index, 1 + index % 8 :] = IGNORED
        self.train_data, self.test_data = Tensors(tokens_NT, labels_NT), Tensors(tokens_NT[:7], labels_NT[:7])

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Embedding(11, 16), nn.Sequential(*[Block(16) for _ in range(3)]), nn.Linear(16, 11))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.config.learning_rate, momentum=0.9)

    def weight(self, batch: Any) -> int:
        return int((batch[1] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        tokens_BT, labels_BT = batch
        return F.cross_entropy(
            model(tokens_BT).float().flatten(0, 1), labels_BT.flatten(), reduction="sum", ignore_index=IGNORED
        )

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        return {
            "loss": self.loss(model, batch),
            "tokens": torch.tensor(self.weight(batch)),
            "samples": torch.tensor(len(batch[0])),
        }

    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        assert totals["samples"] == (7 if not self.config.dry_run else totals["samples"])
        return {"validation_loss": (totals["loss"] / totals["tokens"]).item()}


def train(environment: JobEnvironment, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the loss of each step, as rank 0 printed it, and all of its output."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = loop.run(Toy, Config(**settings), environment, torch.device("cpu"))
    losses = [float(value) for value in re.findall(r"^step .*: loss (\S+)$", said.getvalue(), re.MULTILINE)]
    return {"status": status, "losses": losses, "said": said.getvalue()}


def evaluate_with_norm(environment: JobEnvironment) -> float:
    """Return a norm's running mean under FSDP after an evaluation; before, it is the rank's number + 1."""
    task = Toy(Config(), environment, torch.device("cpu"))
    bare = nn.Sequential(task.model(), nn.Flatten(0, 1), nn.BatchNorm1d(11), nn.Unflatten(0, (-1, 9)))
    model = Parallelism(kind="fsdp", shard_above=100).apply(bare, environment, torch.device("cpu"))
    bare[2].running_mean.fill_(environment.rank + 1)
    loop.evaluate(task, model, Parallelism())
    return bare[2].running_mean.mean().item()


def step_with_norm(environment: JobEnvironment) -> list[str]:
    """Return the types of parameters, gradients and output for such a norm under FSDP in bfloat16."""
    parallelism, device = Parallelism(kind="fsdp", precision="bfloat16", shard_above=1), torch.device("cpu")
    model = parallelism.apply(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), environment, device)
    with parallelism.autocast(device):
        output = model(torch.rand(2, 3, 8, 8))
    output.float().square().sum().backward()
    kept = [tensor for parameter in model.parameters() for tensor in (parameter, parameter.grad)]
    return [*sorted({str(tensor.dtype) for tensor in kept}), str(output.dtype)]
