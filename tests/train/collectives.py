"""test_distributed.py runs it under torchrun: each rank checks collectives and prints what it saw."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from train import distributed
from train.distributed import (
    BarrierError,
    barrier,
    broadcast,
    choose_device,
    failed_anywhere,
    print_once,
    process_group,
    rank_print,
    shard,
    sum_over_ranks,
)
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

    assert broadcast({"of rank": environment.rank, "é": [1]}) == {"of rank": 0, "é": [1]}
    assert broadcast(Path(f"{environment.rank}"), source=2) == Path("2")

    assert not failed_anywhere(None, environment)
    failed = failed_anywhere(f"rank {environment.rank} has no data" if environment.rank else None, environment)

    # No rank may leave before the message is out, however long that takes.
    distributed.print = lambda *values, **options: (time.sleep(1), print(*values, **options))
    started = time.monotonic()
    assert failed_anywhere("nobody has data", environment)
    assert time.monotonic() - started > 0.9
    del model

    came = time.monotonic()
    if environment.rank == 1:
        time.sleep(0.5)
    barrier(environment)
    assert environment.rank == 1 or time.monotonic() - came > 0.4
    for number in range(200):
        rank_print(environment, "line", number, "\nand", "more" * 20)
    print_once(environment, "once", file=sys.stderr)
    problem = ""
    if environment.rank == 0:
        try:
            barrier(environment, timedelta(seconds=0.5), "end of the test")
        except BarrierError as error:
            problem = str(error)
    assert problem == broadcast(problem) or environment.rank
    assert broadcast(problem) == "rank 0 waited 0.5 s at the end of the test; these of 3 ranks did not come: 1, 2"

# End gloo's threads; otherwise they sometimes abort the process while Python shuts down.
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
gloo = [name for name in threads if "gloo" in name]
# Write once, so that the ranks' lines do not mix.
sys.stdout.write(f"rank {environment.rank}: {gradient.tolist()} {total.tolist()} {failed} {gloo}\n")
