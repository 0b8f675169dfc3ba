"""test_crash.py runs `crashing.py KIND` under torchrun: the last rank crashes in its third step."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext

import torch
from toy import model_of

from train.distributed import process_group
from train.environment import JobEnvironment
from train.join import conditional_join


def crash(environment: JobEnvironment, kind: str) -> None:
    model = model_of("fsdp" if kind == "fsdp" else "ddp", environment)
    with conditional_join(model) if kind == "join" else nullcontext():
        for step in range(10**9):
            if environment.rank == environment.world_size - 1 and step == 2:
                print(f"crashed at {time.time()}", file=sys.stderr, flush=True)
                if kind == "killed":
                    os.kill(os.getpid(), 9)
                raise KeyError("a mistake")
            model(torch.ones(4, 6)).sum().backward()


if __name__ == "__main__":
    torch.set_num_threads(1)
    environment = JobEnvironment.from_environment()
    with process_group(environment, torch.device("cpu")):
        crash(environment, sys.argv[1])
