"""Run by test_distributed.py under torchrun: each rank checks, and says on standard output what it saw."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from train import distributed
from train.distributed import choose_device, failed_anywhere, process_group, shard, sum_over_ranks
from train.environment import JobEnvironment

environment = JobEnvironment.from_environment()
with process_group(environment, choose_device("auto", environment)):
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    model(torch.full((1, 2), environment.rank + 1.0)).sum().backward()
    gradient = model.module.weight.grad

    mine = torch.tensor([environment.rank, 1.0])
    total = sum_over_ranks(mine)
    assert mine.tolist() == [environment.rank, 1.0]

    seen = torch.zeros(10)
    seen[list(shard(10, environment))] += 1
    assert sum_over_ranks(seen).tolist() == [1.0] * 10

    assert not failed_anywhere(None, environment)
    failed = failed_anywhere(f"rank {environment.rank} has no data" if environment.rank else None, environment)

    # No rank leaves before the message is out, however long that takes.
    distributed.print = lambda *values, **options: (time.sleep(1), print(*values, **options))
    started = time.monotonic()
    assert failed_anywhere("nobody has data", environment)
    assert time.monotonic() - started > 0.9
    del model

# Gloo's threads must be gone, or they now and then abort the process while Python shuts down.
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
gloo = [name for name in threads if "gloo" in name]
# One write, so that the ranks' lines do not mix.
sys.stdout.write(f"rank {environment.rank}: {gradient.tolist()} {total.tolist()} {failed} {gloo}\n")
