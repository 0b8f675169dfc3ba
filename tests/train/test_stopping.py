"""A stop during an evaluation, and the status 75: only for ends from which a restart can continue."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import loop_toy
import pytest
import torch
from ranks import Ranks
from torch import nn

from train import interruption, loop
from train.checkpoint import Checkpoints
from train.environment import KEYWORD_ONLY, JobEnvironment
from train.interruption import NOT_FINISHED, Interruption


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(loop_toy.Config):
    epochs: int = 3
    test_batch_size: int = 1
    log_every: int = 0


class Drawing(loop_toy.Toy):
    """The evaluation draws random numbers for its result; the training weights change randomly at each step, too.

    At `stop_at`, a number of evaluated batches, rank 0 makes the stop file, and all ranks wait until they know of it.
    """

    stop_at = 0
    batches = 0

    def augment(self, batch: Any, generator: torch.Generator) -> Any:
        tokens_BT, labels_BT = batch
        changed = torch.rand(tokens_BT.shape, generator=generator) < 0.1 * torch.rand(())
        return torch.where(changed, 0, tokens_BT), labels_BT

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        Drawing.batches += 1
        if Drawing.batches == Drawing.stop_at:
            if self.environment.rank == 0:
                self.environment.stop_file.touch()
            Noticing.made.wait()
        return {**super().evaluate(model, batch), "noise": torch.rand(())}

    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        return {**super().summarize(totals), "noise": totals["noise"].item()}


class Noticing(Interruption):
    made: Noticing

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        Noticing.made = self

    def wait(self) -> None:
        """Wait until this rank must wait for an answer at its next boundary."""
        while self._bound == sys.maxsize if self._store else not self._notice:
            time.sleep(0.005)


def train(environment: JobEnvironment, stop_at: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train in a process of its own."""
    interruption.POLL_SECONDS = 0.05
    loop.Interruption, Drawing.stop_at = Noticing, stop_at
    status = loop.run(Drawing, Config(**settings), environment, torch.device("cpu"))
    folder = environment.checkpoint_directory
    return {"status": status, "batches": Drawing.batches, "saved": sorted(path.name for path in folder.glob("step_*"))}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics, without what depends on the time and the attempt."""
    file = folder / "outputs" / "metrics.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for line in found:
        del line["samples_per_second"], line["attempt"]
    return found


@pytest.mark.parametrize(
    ("world_size", "stop_at", "settings"),
    [
        (1, 9, {}),
        (2, 2, {}),
        (2, 6, {}),
        (2, 10, {}),
        (2, 6, {"parallelism": "fsdp", "shard_above": 100}),
        (2, 6, {"workers": 1}),
    ],
)
def test_a_stop_in_an_evaluation(tmp_path: Path, world_size: int, stop_at: int, settings: dict) -> None:
    """It saves before the end of the evaluation, and after a restart all results are those of one run."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert {part["status"] for part in Ranks(world_size, train, 0, settings, folder=whole).results()} == {0}
    an_epoch = -(-7 // world_size)
    epoch = -(-stop_at // an_epoch)
    stop = parts / "stop"
    for part in Ranks(world_size, train, stop_at, settings, folder=parts, STOP_FILE=stop).results():
        assert part["status"] == NOT_FINISHED
        assert part["saved"] == [f"step_{3 * epoch:08d}"]
        assert stop_at <= part["batches"] <= stop_at + 1
        assert part["batches"] < epoch * an_epoch
    assert len(lines(parts)) == epoch - 1
    stop.unlink()
    for part in Ranks(world_size, train, 0, settings, folder=parts, STOP_FILE=stop, ATTEMPT=1).results():
        assert part["status"] == 0
        assert part["batches"] == (4 - epoch) * an_epoch
    assert lines(parts) == lines(whole)
    assert (parts / "checkpoints/final.pt").read_bytes() == (whole / "checkpoints/final.pt").read_bytes()


# Stops that cannot be saved.


def test_a_stop_that_cannot_be_saved_is_a_failure(tmp_path: Path) -> None:
    """All ranks fail, and the error says so."""
    (tmp_path / "checkpoints").write_text("a file in the way")
    ranks = Ranks(2, stopped, folder=tmp_path, STOP_FILE=tmp_path / "stop")
    assert [part["status"] for part in ranks.results()] == [1, 1]
    assert "step 1 was not saved: " in ranks.errors()
    assert ranks.errors().count("nothing that this attempt has done could be saved: it ends with 1 in place of 75") == 1


def stopped(environment: JobEnvironment, **settings: Any) -> dict[str, Any]:
    environment.stop_file.touch()
    loop.Interruption = AtOnce
    return loop_toy.train(environment, settings)


class AtOnce(Noticing):
    def agreed(self) -> bool:
        self.wait()
        return super().agreed()


def environment_of(folder: Path) -> JobEnvironment:
    return JobEnvironment.from_environment({"CHECKPOINT_DIRECTORY": str(folder), "SPOT_NOTICES": "none"})


def status_of(folder: Path, steps: Callable[[Checkpoints], object]) -> int:
    """Return the status of a program that resumes, does `steps`, and asks for a restart."""

    def program() -> None:
        with Checkpoints(environment_of(folder), {"model": nn.Linear(2, 2)}) as made:
            made.resume()
            steps(made)
            sys.exit(NOT_FINISHED)

    with pytest.raises(SystemExit) as ended:
        program()
    return ended.value.code


def failing(made: Checkpoints, step: int) -> None:
    made.wait()
    folder, made.folder = made.folder, made.folder / "a file" / "in the way"
    made.save(step)
    made.wait()
    made.folder = folder


def test_a_program_may_ask_to_be_run_again_if_that_leads_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath("a file").touch()
    assert status_of(tmp_path, lambda _: None) == 1
    said = "train.checkpoint: nothing is saved that a restart could go on from: ended with 1 in place of 75\n"
    assert capsys.readouterr().err == said
    assert status_of(tmp_path, lambda made: failing(made, 1)) == 1
    assert capsys.readouterr().err.endswith(said)
    assert status_of(tmp_path, lambda made: made.save(2)) == 75
    assert status_of(tmp_path, lambda _: None) == 75  # stopped before there was anything new
    assert capsys.readouterr().err == ""
    assert status_of(tmp_path, lambda made: failing(made, 3)) == 1
    # An earlier save of the same attempt is progress.
    assert status_of(tmp_path, lambda made: (made.save(4), failing(made, 5))) == 75


# Mounted buckets.


@pytest.fixture
def no_folder_is_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def refusing(rename: Callable[..., None]) -> Callable[..., None]:
    def refused(source: Any, *arguments: Any, **named: Any) -> None:
        if Path(source).is_dir() and not Path(source).is_symlink():
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source))
        rename(source, *arguments, **named)

    return refused


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("no_folder_is_renamed")
def test_where_no_folder_can_be_renamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Linear(2, 2)
    for step in (1, 2, 3):
        with Checkpoints(environment_of(tmp_path), {"model": model}) as made:
            assert made.resume() == step - 1
            nn.init.constant_(model.weight, step)
            made.save(step)
            assert made.wait()
    assert names(tmp_path) == ["latest", "step_00000002", "step_00000003"]
    assert capsys.readouterr().err == ""
    nn.init.constant_(model.weight, -1)
    assert Checkpoints(environment_of(tmp_path), {"model": model}).resume() == 3
    assert model.weight.unique().tolist() == [3]
    mirrored = JobEnvironment.from_environment(
        {"CHECKPOINT_DIRECTORY": str(tmp_path / "b"), "CHECKPOINT_URL": f"file://{tmp_path}"}
    )
    assert Checkpoints(mirrored, {"model": model}).resume() == 3


def dies_at(environment: JobEnvironment, event: int) -> int:
    """Save twice and die at one of the second save's moves of files; return the number of moves."""
    moves, counting, replace = 0, False, os.replace
    os.rename = refusing(os.rename)

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal moves
        moves += counting
        if counting and moves == event:
            os._exit(9)
        replace(*arguments, **named)

    os.replace = counted
    model = nn.Linear(2, 2)
    with Checkpoints(environment, {"model": model}, keep_last=1) as made:
        for step in (1, 2):
            nn.init.constant_(model.weight, step)
            made.save(step)
            assert made.wait()
            counting = True
    return moves


def test_killed_where_no_folder_can_be_renamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill it at each move of a file. The next save removes what was left."""
    (moves,) = Ranks(1, dies_at, 0, folder=tmp_path / "0").results()
    found = []
    for event in range(1, moves + 1):
        folder = tmp_path / str(event)
        assert Ranks(1, dies_at, event, folder=folder).wait() == [9]
        model = nn.Linear(2, 2)
        with Checkpoints(environment_of(folder / "checkpoints"), {"model": model}, keep_last=1) as made:
            found.append(made.resume())
            assert model.weight.unique().tolist() == [found[-1]]
            made.save(9)
        assert names(folder / "checkpoints") == ["latest", "step_00000009"]
    assert found == sorted(found)
    assert set(found) == {1, 2}
    assert "manifest.json cannot be read" in capsys.readouterr().err


def test_a_move_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a checkpoint nor its files elsewhere are left, and the status is not 75."""
    model = nn.Linear(2, 2)
    with Checkpoints(environment_of(tmp_path), {"model": model}) as made:
        made.save(1)
        assert made.wait()
        monkeypatch.setattr(os, "rename", refusing(os.rename))
        replace = os.replace

        def full(source: Any, target: Any, **named: Any) -> None:
            if os.fspath(target).endswith("step_00000002/manifest.json"):
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            replace(source, target, **named)

        monkeypatch.setattr(os, "replace", full)
        made.save(2)
        assert not made.wait()
    assert names(tmp_path) == ["latest", "step_00000001"]
