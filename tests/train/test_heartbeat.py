"""Which events are progress: the heartbeat file is touched for them, and for no others."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import loop_toy
import pytest
import torch
from ranks import Ranks
from runner import until
from torch import nn

from train import checkpoint, heartbeat, interruption, loop
from train.checkpoint import Checkpoints
from train.environment import KEYWORD_ONLY, JobEnvironment
from train.heartbeat import Heartbeat


def environment_of(**values: object) -> JobEnvironment:
    return JobEnvironment.from_environment({"SPOT_NOTICES": "none", **{k: str(v) for k, v in values.items()}})


def forget(beat: Path) -> None:
    os.utime(beat, (0, 0))


def touched(beat: Path) -> bool:
    return beat.stat().st_mtime > 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TOUCH_SECONDS", 0.02)
    monkeypatch.setattr(interruption, "POLL_SECONDS", 0.02)


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the threads that sent a heartbeat, one entry for each heartbeat."""
    told: list[str] = []
    beat = Heartbeat.beat
    monkeypatch.setattr(Heartbeat, "beat", lambda self: (told.append(threading.current_thread().name), beat(self)))
    return told


def test_the_file_is_not_touched_too_often(tmp_path: Path) -> None:
    beat = tmp_path / "the beat"
    heart = Heartbeat(environment_of(HEARTBEAT_FILE=beat))
    heart.beat()
    forget(beat)
    heart.beat()
    assert not touched(beat)
    heart._touched -= heartbeat.TOUCH_SECONDS
    heart.beat()
    assert touched(beat)
    Heartbeat(environment_of()).beat()
    Heartbeat(environment_of(HEARTBEAT_FILE=tmp_path / "no folder" / "beat")).beat()


def test_a_load_does_not_begin_the_watch(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    Heartbeat(environment_of(HEARTBEAT_FILE=beat), begins=False).beat()
    assert not beat.exists()
    beat.touch()
    forget(beat)
    Heartbeat(environment_of(HEARTBEAT_FILE=beat), begins=False).beat()
    assert touched(beat)


@pytest.mark.usefixtures("quick")
def test_patience_has_an_end(tmp_path: Path) -> None:
    beat, ended = tmp_path / "beat", threading.Event()
    heart = Heartbeat(environment_of(HEARTBEAT_FILE=beat))
    with heart.patience(1.0):
        forget(beat)
        until(lambda: touched(beat))  # no call of beat

        def silent() -> bool:
            forget(beat)
            return not ended.wait(0.5) and not touched(beat)

        until(silent)
        heart.beat()
        forget(beat)
        until(lambda: touched(beat))  # it counts from the last heartbeat


@pytest.mark.parametrize("mirrored", [False, True])
def test_each_part_of_a_save_and_of_a_load(tmp_path: Path, beats: list[str], mirrored: bool) -> None:
    """At least one heartbeat for each tensor and each file, in the thread that does it; more for larger files."""
    url = {"CHECKPOINT_URL": f"file://{tmp_path}/bucket"} if mirrored else {}
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(20)])
    with Checkpoints(environment_of(CHECKPOINT_DIRECTORY=tmp_path / "a", **url), {"model": model}) as checkpoints:
        checkpoints.save(1)
    files = len(list((tmp_path / "a" / "step_00000001").iterdir())) - 1
    assert beats.count("checkpoint") >= 40 + files * (1 + mirrored)
    beats.clear()
    place = tmp_path / ("b" if mirrored else "a")
    assert Checkpoints(environment_of(CHECKPOINT_DIRECTORY=place, **url), {"model": model}).resume() == 1
    assert beats.count("MainThread") >= 40 + files * (1 + mirrored)
    beats.clear()
    large = tmp_path / "large"
    large.write_bytes(bytes(10 << 20))
    checkpoint.manifest.fingerprint(large, Heartbeat(environment_of()).beat)
    assert len(beats) == 10


def hangs_in_a_save(environment: JobEnvironment) -> None:
    """Rank 1 never writes, and both main threads wait for the checkpoint."""
    heartbeat.TOUCH_SECONDS, checkpoint.QUIET_SECONDS = 0.05, 1.0
    if environment.rank == 1:
        checkpoint.write = lambda *_: threading.Event().wait()
    with Checkpoints(environment, {"model": nn.Linear(4, 4)}) as checkpoints:
        checkpoints.save(1)
        (environment.output_directory.parent / f"waits_{environment.rank}").touch()
        checkpoints.wait()


def test_a_rank_that_hangs_in_a_save_is_found(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    beat.touch()
    ranks = Ranks(2, hangs_in_a_save, folder=tmp_path, HEARTBEAT_FILE=beat)
    try:
        until(lambda: all((tmp_path / f"waits_{rank}").exists() for rank in range(2)))

        def silent() -> bool:
            forget(beat)
            time.sleep(2)
            return not touched(beat)

        until(silent)
        assert all(process.is_alive() for process in ranks.processes)
    finally:
        ranks.kill()


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(loop_toy.Config):
    epochs: int = 1
    test_batch_size: int = 1
    save_minutes: float = 0.0


class Watched(loop_toy.Toy):
    """Each batch of the evaluation but the first waits for a touch since the previous batch."""

    batches = 0

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        beat = self.environment.heartbeat_file
        if Watched.batches > 1:
            until(lambda: touched(beat))
        forget(beat)
        Watched.batches += 1
        return super().evaluate(model, batch)


def run(task: type[loop_toy.Toy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> int:
    monkeypatch.chdir(tmp_path)
    environment = environment_of(HEARTBEAT_FILE=tmp_path / "beat")
    return loop.run(task, Config(**settings), environment, torch.device("cpu"))


@pytest.mark.usefixtures("quick")
def test_each_batch_of_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "batches", 0)
    assert run(Watched, tmp_path, monkeypatch) == 0
    assert Watched.batches == 7


@pytest.mark.usefixtures("quick")
def test_a_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compilation of a step or an evaluation makes no call until it has ended. Later ones compile nothing."""
    beat, modes, patient = tmp_path / "beat", [], []
    patience = Heartbeat.patience

    def compiled(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def slow(tokens_BT: torch.Tensor) -> torch.Tensor:
            mode = torch.is_grad_enabled()
            if mode not in modes:
                modes.append(mode)
                for _ in range(3):
                    forget(beat)
                    until(lambda: touched(beat))
            return forward(tokens_BT)

        return slow

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(Heartbeat, "patience", lambda self, long: (patient.append(long), patience(self, long))[1])
    assert run(loop_toy.Toy, tmp_path, monkeypatch, compile=True) == 0
    assert modes == [True, False]
    assert patient.count(loop.COMPILE_SECONDS) == 2
