"""interruptions.py [--rounds N] [--folder FOLDER]   The cost of being interruptible for a training program, as
Markdown.

Checkpoints: a training with 41.7 million parameters and Adam, 500 MB of state, on the CPU. Each round does the same
number of steps with a checkpoint saved by train/checkpoint.py and with one saved by torch.save, in turn. A pause is the
time for which the training's own thread waits.

Check: two ranks with steps of 2 ms ask train/interruption.py. In another run they start an all-reduce at each step and
read it at the next.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from train.checkpoint import Checkpoints
from train.distributed import process_group
from train.environment import JobEnvironment
from train.interruption import Interruption

STEP_SECONDS = 0.05
STEPS = 3


class Timed(Checkpoints):
    """Adds up how long the optimizer's steps waited."""

    waited = 0.0

    def _wait_for_stage(self) -> None:
        started = time.perf_counter()
        super()._wait_for_stage()
        self.waited += time.perf_counter() - started


def checkpoints(rounds: int, folder: Path) -> None:
    model = nn.Sequential(*(nn.Linear(2041, 2041) for _ in range(10)))
    optimizer = torch.optim.Adam(model.parameters())
    environment = JobEnvironment.from_environment({"CHECKPOINT_DIRECTORY": str(folder / "checkpoints")})
    saver = Timed(environment, {"model": model, "optimizer": optimizer}, keep_last=1)
    x_BF = torch.randn(32, 2041)
    state_bytes = 3 * sum(parameter.nbytes for parameter in model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        model(x_BF).square().mean().backward()
        optimizer.step()

    def torch_save(number: int) -> None:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / f"{number}.pt")

    def torch_save_synced(number: int) -> None:
        torch_save(number)
        with (folder / f"{number}.pt").open("rb") as file:
            os.fsync(file.fileno())

    def steps(save: object, number: int) -> tuple[float, float]:
        """Return the seconds of waiting and the seconds of all steps, up to the end of the write in the background."""
        started, saver.waited = time.perf_counter(), 0.0
        for index in range(STEPS):
            step()
            if index == 0:
                begun = time.perf_counter()
                save(number)
                held = time.perf_counter() - begun
        saver.wait()
        return held + saver.waited, time.perf_counter() - started

    for number in range(2):  # allocations of the first time
        step()
        saver.save(number + 1)
    results: dict[str, list[tuple[float, float]]] = {}

    def save_and_copy(number: int) -> None:
        saver.save(number)
        saver._staged.wait()

    modes = {"kit": saver.save, "copy": save_and_copy, "torch": torch_save, "synced": torch_save_synced}
    order = list(modes)
    for turn in range(rounds):
        order = order[1:] + order[:1]
        for place, name in enumerate(order):
            save, number = modes[name], 10 + turn * len(order) + place  # a step is saved only once
            saver.wait()
            results.setdefault(name, []).append(steps(save, number))
            assert name not in ("kit", "copy") or (folder / "checkpoints" / f"step_{number:08d}").is_dir()
            (folder / f"{number}.pt").unlink(missing_ok=True)
    saver.close()
    print(f"\n| a checkpoint of {state_bytes / 1e6:.0f} MB (seconds), {rounds} rounds | pause | fastest | slowest | "
          "ratio to torch.save |")  # fmt: skip
    print("|---|---|---|---|---|")
    for name, text in (
        ("kit", "train/checkpoint.py: in the background, synced, hashed"),
        ("copy", "the same, where no forward and backward pass hides the copy"),
        ("torch", "torch.save"),
        ("synced", "torch.save and fsync"),
    ):
        stalls = [stall for stall, _ in results[name]]
        ratio = median(mine / theirs for mine, (theirs, _) in zip(stalls, results["torch"]))
        print(f"| {text} | {median(stalls):.3f} | {min(stalls):.3f} | {max(stalls):.3f} | {ratio:.2f} |")
    print(f"\nA step takes {median(total for _, total in results['torch']) / STEPS:.2f} s.", flush=True)


def check(count: int) -> None:
    """Run one of two ranks. Rank 0 prints."""
    environment = JobEnvironment.from_environment()
    with process_group(environment, torch.device("cpu")):
        asked, reduced = [], []
        with Interruption(environment) as interruption:
            for _ in range(count):
                time.sleep(0.002)
                started = time.perf_counter()
                interruption.agreed()
                asked.append(time.perf_counter() - started)
        group = dist.new_group(backend="gloo")
        work, flag, stop = None, torch.zeros(1), False
        for _ in range(count):
            time.sleep(0.002)
            started = time.perf_counter()
            if work is not None:
                work.wait()
                stop = bool(flag)
            flag = torch.zeros(1)
            work = dist.all_reduce(flag, group=group, async_op=True)
            reduced.append(time.perf_counter() - started)
        work.wait()
    if environment.rank != 0 or stop:
        return
    print("\n| the check at a step (microseconds), 2 ranks | median | mean | 99 % | mean of a 50 ms step |")
    print("|---|---|---|---|---|")
    for name, seconds in (("train/interruption.py", asked), ("all-reduce, read a step later", reduced)):
        mean = sum(seconds) / len(seconds)
        figures = " | ".join(f"{value * 1e6:.1f}" for value in (median(seconds), mean, sorted(seconds)[-count // 100]))
        print(f"| {name} | {figures} | {mean / STEP_SECONDS:.4%} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where to write checkpoints (default: the folder of temporary files)"
    )
    options = parser.parse_args()
    if "RANK" in os.environ:
        check(3000)
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        checkpoints(options.rounds, folder)
    finally:
        shutil.rmtree(folder)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place.update(SPOT_NOTICES="none", OMP_NUM_THREADS=1)
    ranks = []
    for rank in range(2):
        environ = {name: str(value) for name, value in {**place, "RANK": rank, "LOCAL_RANK": rank}.items()}
        ranks.append(subprocess.Popen([sys.executable, __file__], env={**os.environ, **environ}))
    statuses = [rank.wait(120) for rank in ranks]
    sys.exit(max(statuses))


if __name__ == "__main__":
    main()
