"""The benchmark `step` of run.sh: a step of the kit's loop beside one of a bare loop of DistributedDataParallel.

    torchrun --nproc-per-node 2 step.py --rounds N --folder DIRECTORY

Both take their batches from tensors in memory and use AdamW with a cosine schedule. The bare loop has no loader, no
metrics, no notices and no resuming. Each round runs both, on the same ranks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from train.config import TrainingConfig  # noqa: E402
from train.data.tensors import Tensors  # noqa: E402
from train.distributed import process_group, sum_over_ranks  # noqa: E402
from train.environment import JobEnvironment  # noqa: E402
from train.loop import fit  # noqa: E402
from train.task import Classification  # noqa: E402
from train.tasks import digits  # noqa: E402

CPU = torch.device("cpu")


class Task(Classification[TrainingConfig]):
    name = "step"

    def __init__(self, config: TrainingConfig, environment: JobEnvironment, make, data: Tensors) -> None:
        super().__init__(config, environment, CPU)
        self.make, self.train_data, self.test_data = make, data, Tensors(*(one[:8] for one in data.tensors))

    def model(self) -> nn.Module:
        return self.make()


def bare(task: Task) -> float:
    """Return the seconds for each step."""
    config, environment = task.config, task.environment
    model = DistributedDataParallel(task.model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    share = config.batch_size // environment.world_size
    order = torch.randperm(len(task.train_data), generator=torch.Generator().manual_seed(0))
    batches = order[environment.rank :: environment.world_size].split(share)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    inputs, labels = task.train_data.tensors
    begun = time.monotonic()
    for batch in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        schedule.step()
    return (time.monotonic() - begun) / len(batches)


def kit(task: Task) -> float:
    """Return the seconds for each step."""
    metrics = task.environment.output_directory / "metrics.jsonl"
    if task.environment.rank == 0:
        metrics.unlink(missing_ok=True)
    sum_over_ranks(torch.zeros(1))
    # It prints only the line of the epoch.
    standard, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123
    try:
        assert fit(task, task.environment, CPU) == 0
    finally:
        sys.stdout.close()
        sys.stdout = standard
    seconds = 0.0
    if task.environment.rank == 0:
        seconds = task.config.batch_size / json.loads(metrics.read_text())["samples_per_second"]
    return sum_over_ranks(torch.tensor(seconds, dtype=torch.float64)).item()


def perceptron() -> nn.Module:
    """A step of 2 x 64 samples takes 10 to 20 ms on one core for each rank."""
    return nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    environment = dataclasses.replace(
        JobEnvironment.from_environment(),
        checkpoint_directory=options.folder / "checkpoints",
        output_directory=options.folder / "outputs",
    )
    generator = torch.Generator().manual_seed(0)

    def data(count: int, *shape: int) -> Tensors:
        inputs = torch.randn(count, *shape, generator=generator)
        return Tensors(inputs, torch.randint(0, 10, (count,), generator=generator))

    workloads = {
        "1.3 million parameters, batch 128": (perceptron, 128, data(128 * 60, 256)),
        "the digits' network, batch 64": (lambda: digits.network(8, 8), 64, data(64 * 200, 1, 8, 8)),
    }
    with process_group(environment, CPU):
        lines = []
        for name, (make, batch_size, tensors) in workloads.items():
            config = TrainingConfig(epochs=1, batch_size=batch_size, cpu=True, no_wandb=True)
            task = Task(config, environment, make, tensors)
            bare(task), kit(task)
            pairs = [(bare(task), kit(task)) for _ in range(options.rounds)]
            ratio = median(mine / peer for peer, mine in pairs)
            milliseconds = [1000 * median(column) for column in zip(*pairs)]
            fastest = [1000 * min(column) for column in zip(*pairs)]
            figures = f"{milliseconds[0]:.2f} | {milliseconds[1]:.2f} | {ratio:.3f}"
            lines.append(f"| {name} | {figures} | {fastest[1] / fastest[0]:.3f} |")
    if environment.rank == 0:
        title = f"milliseconds per step, 2 ranks, {options.rounds} rounds"
        print(f"\n| {title} | bare loop | the kit's loop | ratio | ratio of the fastest |\n|---|---|---|---|---|")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
