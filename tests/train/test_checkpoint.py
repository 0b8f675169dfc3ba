"""Checkpoints on disks and buckets that fail: a loaded checkpoint is always complete, and the newest complete one."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest
import torch
from ranks import Ranks
from torch import nn

from train.checkpoint import CheckpointError, Checkpoints
from train.environment import JobEnvironment
from train.interruption import Interruption


def environment_of(folder: Path, **values: object) -> JobEnvironment:
    values = {"CHECKPOINT_DIRECTORY": folder, **values}
    return JobEnvironment.from_environment({name: str(value) for name, value in values.items()})


def filled(value: float, size: int = 8) -> nn.Module:
    module = nn.Linear(size, size)
    nn.init.constant_(module.weight, value)
    return module


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(folder: Path, *steps: int, force: tuple[int, ...] = (), keep_last: int = 2, **values: object) -> None:
    for step in steps:
        with Checkpoints(environment_of(folder, **values), {"model": filled(step)}, keep_last=keep_last) as checkpoints:
            checkpoints.save(step, force_save=step in force)


def resumed(folder: Path, **values: object) -> int:
    """Return the step that is loaded, according to its number and to the weights."""
    model = filled(-1)
    step = Checkpoints(environment_of(folder, **values), {"model": model}).resume()
    assert model.weight.unique().tolist() == [step or -1]
    return step


def truncate(folder: Path) -> None:
    file = next(folder.glob("*.distcp"))
    file.write_bytes(file.read_bytes()[:-1])


def flip(folder: Path, name: str = "*.distcp", place: int = 700) -> None:
    file = next(folder.glob(name))
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "__0_0.distcp has "),
    "a bit flipped": (flip, "__0_0.distcp has changed since it was written"),
    "a bit of the random state flipped": (lambda folder: flip(folder, "rank_0.pt"), "rank_0.pt has changed"),
    "a file missing": (lambda folder: (folder / "common.pt").unlink(), "common.pt cannot be read (No such file"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read (No such"),
    "half a manifest": (lambda folder: os.truncate(folder / "manifest.json", 100), "manifest.json is not whole"),
    "a bit of the manifest flipped": (lambda folder: flip(folder, "manifest.json", 30), "manifest.json "),
    "another step's manifest": (
        lambda folder: shutil.copy(folder.parent / "step_00000001" / "manifest.json", folder),
        " has changed since it was written",
    ),
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "manifest.json cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_valid_one_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    folder = tmp_path / "check points"
    save(folder, 1, 2, 3, keep_last=3)
    harm, message = DAMAGES[damage]
    harm(folder / "step_00000003")
    assert resumed(folder) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"train.checkpoint: skipped {folder}/step_00000003: ")
    assert message in said
    assert said.count("\n") == 1
    # The bad one stays until a good one with more steps exists, and does not block a good one with the same steps.
    model = filled(-1)
    with Checkpoints(environment_of(folder), {"model": model}, keep_last=2) as checkpoints:
        assert checkpoints.resume() == 2
        nn.init.constant_(model.weight, 3)
        checkpoints.save(3)
        assert checkpoints.wait()
    assert names(folder) == ["latest", "step_00000002", "step_00000003_1"]
    capsys.readouterr()
    assert resumed(folder) == 3
    assert capsys.readouterr().err == ""


def test_which_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (tmp_path / "elsewhere").mkdir()
    folder.mkdir()
    (folder / "latest").symlink_to(tmp_path / "gone")  # for example from an earlier system
    (folder / "final.pt").write_bytes(b"the user's")
    save(folder, 1, 2, 3, 4, force=(2,), keep_last=1)
    assert names(folder) == ["final.pt", "latest", "step_00000002", "step_00000004"]
    save(folder, 5, 6, keep_last=2)
    assert names(folder) == ["final.pt", "latest", "step_00000002", "step_00000005", "step_00000006"]
    moved = folder.rename(tmp_path / "elsewhere" / "moved")
    assert (moved / "latest").resolve() == moved / "step_00000006"
    assert resumed(moved) == 6
    with pytest.raises(ValueError, match="keep_last must be at least 1, not 0"):
        Checkpoints(environment_of(folder), {}, keep_last=0)


def test_the_same_step_is_saved_once(tmp_path: Path) -> None:
    with Checkpoints(environment_of(tmp_path), {"model": filled(1)}) as checkpoints:
        assert checkpoints.resume() == 0
        for force in (False, False, True, False):
            checkpoints.save(1, force_save=force)
    assert names(tmp_path) == ["latest", "step_00000001", "step_00000001_1"]
    with Checkpoints(environment_of(tmp_path), {"model": filled(1)}, keep_last=1) as checkpoints:
        assert checkpoints.resume() == 1
        checkpoints.save(1)  # as at a notice right after the start
        checkpoints.save(2)
    assert names(tmp_path) == ["latest", "step_00000001_1", "step_00000002"]


def test_what_changes_after_a_save_is_not_saved(tmp_path: Path) -> None:
    """Not by the optimizer's next step, which waits, and not by the forward pass's buffer, which does not wait."""
    model = nn.Sequential(nn.Linear(2000, 2000), nn.BatchNorm1d(2000), nn.Linear(2000, 2000))
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9)
    model(torch.randn(2, 2000)).sum().backward()
    optimizer.step()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    momentum = [optimizer.state[parameter]["momentum_buffer"].clone() for parameter in model.parameters()]
    checkpoints = Checkpoints(environment_of(tmp_path), {"model": model, "optimizer": optimizer})
    checkpoints.notes["answer"] = 42
    checkpoints.save(7)
    model[1].running_mean.add_(1)
    optimizer.param_groups[0]["lr"] = 5.0
    optimizer.step()
    assert not torch.equal(model.state_dict()["2.weight"], expected["2.weight"])
    checkpoints.close()
    again = nn.Sequential(nn.Linear(2000, 2000), nn.BatchNorm1d(2000), nn.Linear(2000, 2000))
    optimizer = torch.optim.SGD(again.parameters(), 1.0, momentum=0.9)
    checkpoints = Checkpoints(environment_of(tmp_path), {"model": again, "optimizer": optimizer})
    assert (checkpoints.resume(), checkpoints.notes) == (7, {"answer": 42})
    assert all(torch.equal(value, expected[name]) for name, value in again.state_dict().items())
    loaded = [optimizer.state[parameter]["momentum_buffer"] for parameter in again.parameters()]
    assert all(map(torch.equal, loaded, momentum))
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_save_before_the_first_step_leaves_the_optimizer_alone(tmp_path: Path) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = filled(1)
        return model, torch.optim.Adam(model.parameters(), 0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        model(torch.ones(1, 8)).sum().backward()
        optimizer.step()
        return model.weight.detach().clone()

    expected = step(*fresh())
    model, optimizer = fresh()
    with Checkpoints(environment_of(tmp_path), {"model": model, "optimizer": optimizer}) as checkpoints:
        checkpoints.save(1)
        assert not optimizer.state
    assert torch.equal(step(model, optimizer), expected)
    model, optimizer = fresh()
    step(model, optimizer)
    Checkpoints(environment_of(tmp_path), {"model": model, "optimizer": optimizer}).resume()
    model.zero_grad()
    assert torch.equal(step(model, optimizer), expected)


def test_another_program_s_checkpoint_is_refused(tmp_path: Path) -> None:
    model = filled(1)
    schedule = torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD(model.parameters(), 1.0))
    save(tmp_path, 1)
    for items, message in (
        ({"model": model, "schedule": schedule}, "in the program or in the checkpoint, but not in both: schedule"),
        ({"model": filled(1, size=9)}, "does not fit the program: "),
        ({"network": model}, "does not fit the program: "),
    ):
        with pytest.raises(CheckpointError, match=message):
            Checkpoints(environment_of(tmp_path), items).resume()
    with pytest.raises(CheckpointError, match="'answer' has no state_dict"):
        Checkpoints(environment_of(tmp_path), {"answer": 42})


def test_the_run_of_wandb_is_noted(tmp_path: Path) -> None:
    import wandb

    run = wandb.init(mode="disabled")
    save(tmp_path, 1)
    run.finish()
    checkpoints = Checkpoints(environment_of(tmp_path), {"model": filled(0)})
    checkpoints.resume()
    assert checkpoints.notes == {"wandb_run_id": run.id}


# Processes killed at any moment.

SAVER = """
import sys, torch
from torch import nn
from train.checkpoint import Checkpoints
from train.environment import JobEnvironment

def fill(environment, report):
    model = nn.Linear(400, 400)
    with Checkpoints(environment, {"model": model}, keep_last=1) as checkpoints:
        step = checkpoints.resume()
        assert model.weight.unique().tolist() == [float(step)] or not step, (step, model.weight.unique())
        if environment.rank == 0:
            print("resumed", step, file=open(report, "a"), flush=True)
        while True:
            step += 1
            nn.init.constant_(model.weight, step)
            checkpoints.save(step)
            if checkpoints.wait() and environment.rank == 0:
                print("whole", step, file=open(report, "a"), flush=True)
"""


@pytest.fixture
def saver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Return a function for Ranks that saves as often as it can."""
    (tmp_path / "a_saver.py").write_text(SAVER)
    monkeypatch.syspath_prepend(tmp_path)
    import a_saver

    yield a_saver.fill
    del sys.modules["a_saver"]


@pytest.mark.parametrize(("world_size", "kills", "mirrored"), [(1, 10, False), (2, 5, False), (1, 5, True)])
def test_killed_at_random_moments(tmp_path: Path, saver: Callable, world_size: int, kills: int, mirrored: bool) -> None:
    """Kill with SIGKILL and keep_last=1: no complete checkpoint is ever lost, and a loaded one was saved completely.

    Mirrored: each attempt is on a machine with an empty disk, and the kill may interrupt an upload.
    """
    generator = random.Random(5)
    values = {"CHECKPOINT_URL": f"file://{tmp_path}/bucket"} if mirrored else {}
    report = tmp_path / "report"
    whole = 0
    for kill in range(kills + 1):
        folder = tmp_path / (f"machine {kill}" if mirrored else "run")
        report.unlink(missing_ok=True)
        ranks = Ranks(world_size, saver, report, folder=folder, **values)
        limit = time.monotonic() + 60
        told = 1 + generator.randrange(3)  # the start, and up to two complete ones, however slow the machine is
        while not (report.exists() and report.read_text().count("\n") >= told):
            assert time.monotonic() < limit, ranks.errors()
            assert all(process.is_alive() for process in ranks.processes), ranks.errors()
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.3))
        ranks.kill()
        lines = [line.split() for line in report.read_text().splitlines(keepends=True) if line.endswith("\n")]
        assert lines[0][0] == "resumed"
        assert int(lines[0][1]) >= whole, ranks.errors()
        whole = max(whole, *(int(step) for _, step in lines))
    assert whole > kills / 3


def killed_at(environment: JobEnvironment, event: int) -> int:
    """Kill this process at one of the file system calls of the second save, and count these calls."""
    model, count, counting = filled(1), 0, False

    def hook(name: str, _: tuple) -> None:
        nonlocal count
        if counting and name in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.listdir"):
            count += 1
            if count == event:
                os.kill(os.getpid(), signal.SIGKILL)

    with Checkpoints(environment, {"model": model}, keep_last=1) as checkpoints:
        checkpoints.save(1)
        assert checkpoints.wait()
        nn.init.constant_(model.weight, 2)
        sys.addaudithook(hook)
        counting = True
        checkpoints.save(2)
        assert checkpoints.wait()
    return count


def test_killed_at_each_call_of_the_file_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for an upload: the disk and the bucket always show a complete checkpoint."""

    def ranks(event: int) -> Ranks:
        folder = tmp_path / str(event)
        return Ranks(1, killed_at, event, folder=folder, CHECKPOINT_URL=f"file://{folder}/bucket")

    (calls,) = ranks(0).results()
    assert calls > 30
    found = []
    for event in range(1, calls + 1):
        assert ranks(event).wait() == [-signal.SIGKILL]
        folder = tmp_path / str(event)
        found.append(
            (resumed(folder / "checkpoints"), resumed(folder / "empty", CHECKPOINT_URL=f"file://{folder}/bucket"))
        )
        assert "skipped" not in capsys.readouterr().err, event
        assert not list((folder / "checkpoints").glob(".*"))
    assert found == sorted(found)
    assert set(found) == {(1, 1), (2, 1), (2, 2)}


def told_to_stop(environment: JobEnvironment) -> int:
    model = filled(0, size=1500)
    with Interruption(environment) as interruption, Checkpoints(environment, {"model": model}) as checkpoints:
        for step in range(1, 10_000):
            nn.init.constant_(model.weight, step)
            checkpoints.save(step)
            (environment.checkpoint_directory.parent / "begun").touch()
            if interruption.agreed():
                checkpoints.save(step)
                assert checkpoints.wait()
                return step
    raise AssertionError("never told to stop")


def test_signals_during_a_save(tmp_path: Path) -> None:
    """Send signals to one of two ranks while it saves: the last checkpoint is complete."""
    ranks = Ranks(2, told_to_stop, folder=tmp_path)
    limit = time.monotonic() + 40
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < limit
        time.sleep(0.005)
    while ranks.processes[1].is_alive():
        assert time.monotonic() < limit
        os.kill(ranks.processes[1].pid, signal.SIGTERM)
        time.sleep(0.003)
    first, second = ranks.results()
    assert first == second
    model = filled(-1, size=1500)
    assert Checkpoints(environment_of(tmp_path / "checkpoints"), {"model": model}).resume() == first
    assert model.weight.unique().tolist() == [first]
    assert ranks.errors() == ""


def test_half_an_upload_is_never_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"file://{tmp_path}/bucket"
    save(tmp_path / "a", 1, CHECKPOINT_URL=url)
    save(tmp_path / "a", 2, CHECKPOINT_URL=url)
    assert names(tmp_path / "bucket") == ["step_00000001", "step_00000002"]
    newest = tmp_path / "bucket" / "step_00000002"
    truncate(newest)
    assert resumed(tmp_path / "b", CHECKPOINT_URL=url) == 1
    said = capsys.readouterr().err
    assert f"skipped {url}/step_00000002: __0_0.distcp has " in said
    assert f"bringing step_00000001 from {url}" in said
    assert names(tmp_path / "b") == ["latest", "step_00000001"]
    (newest / "manifest.json").unlink()
    assert resumed(tmp_path / "c", CHECKPOINT_URL=url) == 1
    # A local one with the same steps comes first, and an incomplete one is downloaded again.
    truncate(tmp_path / "c" / "step_00000001")
    assert resumed(tmp_path / "c", CHECKPOINT_URL=url) == 1
    assert resumed(tmp_path / "c") == 1


def test_what_the_mirror_keeps(tmp_path: Path) -> None:
    """The mirror is in memory; any back-end of fsspec would behave the same."""
    import fsspec

    url = "memory://a-bucket/of/mine"
    save(tmp_path / "a", 1, 2, 3, 4, force=(2,), keep_last=1, CHECKPOINT_URL=url)
    files = fsspec.filesystem("memory")
    assert sorted(path.rsplit("/")[-1] for path in files.ls("/a-bucket/of/mine", detail=False)) == [
        "step_00000002",
        "step_00000004",
    ]
    assert resumed(tmp_path / "b", CHECKPOINT_URL=url) == 4
    files.rm("/a-bucket", recursive=True)


def test_a_failed_upload_harms_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bucket").write_text("a file in the way")
    with Checkpoints(
        environment_of(tmp_path / "a", CHECKPOINT_URL=f"file://{tmp_path}/bucket/run"), {"model": filled(1)}
    ) as checkpoints:
        checkpoints.save(1)
        assert checkpoints.wait()
    assert "the checkpoint of step 1 is whole, but it was not copied: " in capsys.readouterr().err
    assert resumed(tmp_path / "a") == 1


# Full disks.


def limited(environment: JobEnvironment, limited_rank: int) -> list[bool]:
    """Save three times; a limit on the size of files makes the second save fail on one rank."""
    model = filled(1, size=600)
    with Checkpoints(environment, {"model": model}, keep_last=1) as checkpoints:
        checkpoints.save(1)
        answers = [checkpoints.wait()]
        if environment.rank == limited_rank:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        checkpoints.save(2)
        answers.append(checkpoints.wait())
        held = names(environment.checkpoint_directory)
        if environment.rank == limited_rank:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        checkpoints.save(3)
        answers.append(checkpoints.wait())
    return [*answers, held]


@pytest.mark.parametrize(("world_size", "limited_rank"), [(1, 0), (2, 0), (2, 1)])
def test_a_disk_that_takes_no_more(tmp_path: Path, world_size: int, limited_rank: int) -> None:
    """All ranks learn of one rank's failure, the last checkpoint is unharmed, and the next save works."""
    ranks = Ranks(world_size, limited, limited_rank, folder=tmp_path)
    for answers in ranks.results():
        assert answers == [True, False, True, ["latest", "step_00000001"]]
    said = [line for line in ranks.errors().splitlines() if line.startswith("train.checkpoint")]
    assert len(said) == 1
    assert said[0].startswith("train.checkpoint: the checkpoint of step 2 was not saved: ")
    assert said[0].endswith("; that of step 1 is unharmed")
    assert names(tmp_path / "checkpoints") == ["latest", "step_00000003"]


@pytest.mark.skipif(os.environ.get("CI") != "true" or os.getuid() != 0, reason="mounts a small disk: as root in CI")
def test_a_small_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        with Checkpoints(environment_of(disk / "c"), {"model": filled(1, size=1000)}, keep_last=2) as checkpoints:
            checkpoints.save(1)
            assert checkpoints.wait()
            checkpoints.save(2)
            assert not checkpoints.wait()
        said = capsys.readouterr().err
        assert "the checkpoint of step 2 was not saved: it needs 4.0 MB, and 4." in said
        assert said.endswith("; that of step 1 is unharmed\n")
        assert names(disk / "c") == ["latest", "step_00000001"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_state_that_cannot_be_pickled_on_one_rank_hangs_none(tmp_path: Path) -> None:
    ranks = Ranks(2, unpicklable, folder=tmp_path)
    assert ranks.results() == [False, False]
    assert "the state cannot be collected: RuntimeError: no state on rank 1" in ranks.errors()


class Broken:
    def __init__(self, rank: int) -> None:
        self.rank = rank

    def state_dict(self) -> dict:
        if self.rank == 1:
            raise RuntimeError("no state on rank 1")
        return {}

    def load_state_dict(self, state: dict) -> None:
        raise NotImplementedError


def unpicklable(environment: JobEnvironment) -> bool:
    with Checkpoints(environment, {"model": filled(1), "broken": Broken(environment.rank)}) as checkpoints:
        checkpoints.save(1)
        return checkpoints.wait()


def test_a_program_that_leaves_by_sys_exit_has_saved(tmp_path: Path) -> None:
    def leave(status: int) -> None:
        with Checkpoints(environment_of(tmp_path), {"model": filled(1, 1500)}) as checkpoints:
            checkpoints.save(status)
            sys.exit(status)

    for status in (75, 0):
        with pytest.raises(SystemExit):
            leave(status)
        assert (tmp_path / f"step_{status:08d}").is_dir()


def test_the_manifest_names_every_file(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "step_00000001"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {*manifest["files"], "manifest.json"} == set(names(folder))
    assert (manifest["step"], manifest["world_size"], manifest["milestone"]) == (1, 1, False)
