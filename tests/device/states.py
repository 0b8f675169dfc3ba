"""Checks of checkpoints to and from a device, and of trainings that are interrupted and resumed."""

from __future__ import annotations

import io
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from interruptions import Timed
from kit import GROUP_OF_ONE, Check, Run, compare
from torch import nn

from train.environment import JobEnvironment

Act = Callable[[subprocess.Popen[str]], object]

WIDTH = {False: 512, True: 4096}
STALL_GOAL = 0.2
"""Of torch.save's."""
NOT_FINISHED = 75


def checkpoint(check: Check) -> None:
    model, optimizer = made(check, seed=0)
    folder = check.folder / "state"
    environment = JobEnvironment.from_environment({"CHECKPOINT_DIRECTORY": str(folder)})
    inputs = torch.randn(64, WIDTH[check.cuda], device=check.device)
    saver = Timed(environment, {"model": model, "optimizer": optimizer}, keep_last=1)
    with saver:
        # The next steps follow at once: a copy that comes too late would contain them.
        step(model, optimizer, inputs)
        kept = cloned(model, optimizer)
        saver.save(1)
        for _ in range(3):
            step(model, optimizer, inputs)
        whole = saver.wait()
        other, its_optimizer = made(check, seed=1)
        reached = Timed(environment, {"model": other, "optimizer": its_optimizer}).resume()
        found = cloned(other, its_optimizer)
        same = kept.keys() == found.keys() and all(torch.equal(kept[name], found[name]) for name in kept)
        there = {str(value.device.type) for value in found.values() if value.dim()} == {check.device.type}
        size = sum(value.nbytes for value in kept.values())
        text = "saved while the next steps run, loaded: the same bits, on the device"
        check.expect(whole and reached == 1 and same and there, text, f"{size / 1e6:,.0f} MB")
        stall(check, saver, model, optimizer, inputs)
    for way in ("fsdp",) if check.small else ("ddp", "fsdp"):
        flags = [f"--epochs={check.sizes.epochs}", f"--parallelism={way}", "--shard-above=1000", "--log-every=1"]
        resumed(check, f"{way}, one rank in a group, killed", f"killed_{way}", flags, subprocess.Popen.kill, -9)


def stall(check: Check, saver: Timed, model: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
    """Measure how long a save pauses the training's thread, beside torch.save into memory and into a file."""

    def kit(number: int) -> float:
        saver.waited = 0.0
        begun = time.perf_counter()
        saver.save(number)
        held = time.perf_counter() - begun
        step(model, optimizer, inputs)
        return held + saver.waited

    def torch_save(file: Any) -> float:
        begun = time.perf_counter()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        return time.perf_counter() - begun

    file = check.folder / "peer.pt"
    times: dict[str, list[float]] = {"kit": [], "file": [], "memory": []}
    for round_ in range(check.sizes.rounds + 1):
        measured = {}
        for name in times:
            step(model, optimizer, inputs)
            saver.wait()
            check.synchronize()
            measured[name] = kit(10 + round_) if name == "kit" else torch_save(file if name == "file" else io.BytesIO())
        if round_:  # the first save allocates the memory for the copies
            for name, seconds in measured.items():
                times[name].append(seconds)
    saver.wait()
    file.unlink()
    ratio = median(mine / peer for mine, peer in zip(times["kit"], times["file"]))
    mine, peer, memory = (1000 * median(times[name]) for name in ("kit", "file", "memory"))
    figures = f"{mine:.1f} ms; torch.save {peer:.1f} ms, into memory {memory:.1f} ms; {ratio:.2f} x"
    sound = ratio <= STALL_GOAL or not check.cuda
    check.expect(sound, "the stall of a save", figures + goal(check, f"at most {STALL_GOAL} x"))


def goal(check: Check, words: str) -> str:
    return f" (goal {words})" if check.cuda else f" (goal {words}: of GPUs only)"


def made(check: Check, seed: int) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """The model with Adam has 2 GB on a GPU."""
    torch.manual_seed(seed)
    width, layers = WIDTH[check.cuda], 10 if check.cuda else 4
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers))).to(check.device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
    optimizer.zero_grad()
    with torch.autocast(inputs.device.type, torch.bfloat16):
        loss = model(inputs).float().square().mean()
    loss.backward()
    optimizer.step()


def cloned(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        state.update({f"{index} {name}": value.detach().clone() for name, value in values.items()})
    return state


def interruption(check: Check) -> None:
    flags = [f"--epochs={check.sizes.epochs}", "--log-every=1"]
    stop = check.folder / "stop"

    def touch(process: subprocess.Popen[str]) -> None:
        del process
        stop.touch()

    resumed(check, "STOP_FILE", "stopped", flags, touch, NOT_FINISHED, PROCESS_GROUP=0, STOP_FILE=stop)
    resumed(check, "SIGTERM", "terminated", flags, subprocess.Popen.terminate, NOT_FINISHED, PROCESS_GROUP=0)
    flags += ["--parallelism=fsdp", "--shard-above=1000"]
    resumed(check, "fsdp, SIGTERM", "terminated_fsdp", flags, subprocess.Popen.terminate, NOT_FINISHED)


def resumed(
    check: Check, what: str, place: str, flags: list[str], act: Act, status: int, **environment: object
) -> None:
    """A training that `act` ends early and that is then resumed must have the same bits as an uninterrupted one."""
    flags, noted = check.flags(*flags), []

    def acting(process: subprocess.Popen[str]) -> None:
        act(process)
        noted.append(time.monotonic())

    environment["DETERMINISTIC"] = 1
    whole = in_one_piece(check, flags, environment)
    # At that line the second save has started, so the first one is complete.
    every = check.sizes.save_every
    saving = [*flags, f"--save-every={every}"] if status == -9 else flags
    first = check.train(place, saving, GROUP_OF_ONE, at=f"step {3 * every} of ", act=acting, environment=environment)
    seconds = time.monotonic() - noted[0] if noted else float("nan")
    stop = Path(str(environment.get("STOP_FILE", check.folder / "no stop file")))
    stop.unlink(missing_ok=True)
    ended = first.status == status and (first.folder / "checkpoints/latest").exists()
    figures = f"status {first.status}, {seconds:.1f} s after it"
    if not check.expect(ended and whole.status == 0, f"{what}: ended early, a checkpoint is there", figures, first):
        return
    second = check.train(place, flags, GROUP_OF_ONE, environment={**environment, "ATTEMPT": 1})
    said = next((line for line in second.lines if line.startswith("resumed at step")), "it did not resume")
    difference = compare(second, whole) if second.status == 0 else f"status {second.status}"
    if difference and second.status == 0:
        again = check.train(f"{place}_again", flags, GROUP_OF_ONE, environment=environment)
        difference += "; so do two runs in one piece" if compare(again, whole) else "; two runs in one piece do not"
    figures = "; ".join(filter(None, (said, difference)))
    sound = not difference and said.startswith("resumed")
    check.expect(sound, f"{what}: resumed, the bits of a run in one piece", figures, second)


def in_one_piece(check: Check, flags: list[str], environment: dict[str, object]) -> Run:
    """Return the uninterrupted training, which runs once for all checks with the same flags."""
    place = f"whole_{zlib.crc32(repr((flags, environment.get('PROCESS_GROUP'))).encode())}"
    values = {name: value for name, value in environment.items() if name != "STOP_FILE"}
    if (check.folder / place / "checkpoints/final.pt").exists():
        return Run(0, [], check.folder / place)
    return check.train(place, flags, GROUP_OF_ONE, environment=values)
