"""Does steps of 50 ms on any number of ranks, with a checkpoint (12 MB) every 100; ends 20 steps after a restart.

Rank 0 adds a line `TIME ATTEMPT STEP` to OUTPUT_PATH/steps for each step.
"""

from __future__ import annotations

import sys
import time

import torch

from train.checkpoint import Checkpoints
from train.distributed import data_parallel, process_group
from train.environment import JobEnvironment
from train.interruption import NOT_FINISHED, Interruption


def main() -> int:
    environment = JobEnvironment.from_environment()
    with process_group(environment, torch.device("cpu")):
        model = torch.nn.Linear(1000, 1000)
        wrapped, optimizer = data_parallel(model, environment), torch.optim.Adam(model.parameters())
        checkpoints = Checkpoints(environment, {"model": model, "optimizer": optimizer})
        begun = step = checkpoints.resume()
        with (
            (environment.output_directory / "steps").open("a") as notes,
            Interruption(environment) as interruption,
            checkpoints,
        ):
            while environment.attempt == 0 or step < begun + 20:
                time.sleep(0.05)
                optimizer.zero_grad()
                wrapped(torch.ones(1, 1000)).square().mean().backward()
                optimizer.step()
                step += 1
                if environment.rank == 0:
                    print(f"{time.time():.3f}", environment.attempt, step, file=notes, flush=True)
                if (stop := interruption.agreed()) or step % 100 == 0:
                    checkpoints.save(step)
                if stop:
                    return NOT_FINISHED
    return 0


sys.exit(main())
