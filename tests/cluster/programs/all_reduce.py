"""Each rank contributes 2**RANK to one all-reduce over torch's gloo, and rank 0 prints the sum.

all_reduce.py [FOLDER COUNT]   waits until COUNT jobs have arrived in FOLDER, so that they run at the same time
"""

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist


def meet(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / os.environ["SLURM_JOB_ID"]).touch()
    for _ in range(600):
        if len(list(folder.iterdir())) >= count:
            return
        time.sleep(0.1)
    sys.exit(f"after a minute fewer than {count} jobs are in {folder}")


def main(arguments: list[str]) -> None:
    if arguments:
        meet(Path(arguments[0]), int(arguments[1]))
    dist.init_process_group("gloo")
    total = torch.tensor(2 ** dist.get_rank())
    dist.all_reduce(total)
    if dist.get_rank() == 0:
        print(f"sum {total.item()} at {os.environ['MASTER_ADDR']} port {os.environ['MASTER_PORT']}", flush=True)
    dist.destroy_process_group()


main(sys.argv[1:])
