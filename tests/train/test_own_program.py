"""The example of train/README.md, before and after: the diff is the real one, and the program can be resumed."""

from __future__ import annotations

import difflib
import importlib
import sys
import types
from pathlib import Path

import pytest
import torch
from runner import REPOSITORY, Runner

from train.environment import JobEnvironment

PROGRAMS = REPOSITORY / "tests/cluster/programs"


def test_the_page_has_the_real_diff() -> None:
    before, after = ((PROGRAMS / f"nano_{when}.py").read_text().splitlines() for when in ("before", "after"))
    start = before.index("import sys")
    lines = difflib.unified_diff(before[start:], after[after.index("import sys") :], n=1, lineterm="")
    diff = "\n".join([line for line in lines if not line.startswith(("---", "+++", "@@"))])
    assert f"```diff\n{diff}\n```" in (REPOSITORY / "train/README.md").read_text()


def test_the_program_ends_as_if_nothing_had_happened(python: Runner, tmp_path: Path) -> None:
    text, stop = REPOSITORY / "LICENSE", tmp_path / "stop"
    whole = python(PROGRAMS / "nano_before.py", text, "30")
    assert whole.returncode == 0, whole.stderr
    weights = torch.load(python.work / "ckpt.pt", weights_only=True)
    (python.work / "ckpt.pt").unlink()
    stop.touch()
    parts = [python(PROGRAMS / "nano_after.py", text, "30", STOP_FILE=str(stop), SPOT_NOTICES="none")]
    stop.unlink()
    parts.append(python(PROGRAMS / "nano_after.py", text, "30", STOP_FILE=str(stop), SPOT_NOTICES="none"))
    assert [part.returncode for part in parts] == [75, 0], [part.stderr for part in parts]
    assert parts[0].stdout
    assert parts[0].stdout + parts[1].stdout == whole.stdout
    again = torch.load(python.work / "ckpt.pt", weights_only=True)
    assert all(torch.equal(again[name], value) for name, value in weights.items())


class Trainer:
    """A stand-in with the parts of Lightning's trainer that the callback uses."""

    is_global_zero = True
    global_step = 0

    @property
    def strategy(self) -> Trainer:
        return self

    def barrier(self) -> None:
        """There is only one rank."""

    def save_checkpoint(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"step {self.global_step}")


def batches_from(survive: object, trainer: Trainer, step: int) -> None:
    for batch in range(1, 1_000_000):
        trainer.global_step = step + batch
        survive.on_train_batch_start(trainer, None, None, batch)


def test_the_callback_of_lightning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use a stand-in, because Lightning is installed in another environment."""
    module = types.ModuleType("lightning.pytorch")
    module.Callback = object
    monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    monkeypatch.delitem(sys.modules, "train.lightning_callback", raising=False)
    survive_class = importlib.import_module("train.lightning_callback").Survive
    folders = {"CHECKPOINT_DIRECTORY": str(tmp_path / "kept"), "STOP_FILE": str(tmp_path / "stop")}
    environment = JobEnvironment.from_environment({**folders, "SPOT_NOTICES": "none"})
    (tmp_path / "stop").touch()
    trainer = Trainer()
    for begun in (0, 1):
        survive = survive_class(environment)
        assert (survive.newest() is None) is (begun == 0)
        survive.on_validation_batch_start(trainer, None, None, 0)  # Lightning's sanity check
        survive.on_train_start(trainer, None)
        beats = survive._interruption._beat
        survive.on_validation_batch_start(trainer, None, None, 0)
        assert survive._interruption._beat == beats + 1
        survive.on_train_batch_start(trainer, None, None, 0)  # no stop before the first step
        with pytest.raises(SystemExit) as ended:
            batches_from(survive, trainer, 100 * begun)
        assert ended.value.code == 75
        [kept] = (tmp_path / "kept").iterdir()
        assert kept.name == f"lightning_{trainer.global_step:08}.ckpt"
        assert survive.newest() == str(kept)
        assert kept.read_text() == f"step {trainer.global_step}"
    monkeypatch.delitem(sys.modules, "train.lightning_callback")
