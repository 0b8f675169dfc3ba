"""Every task trains on small data in its real format, and an interrupted run ends like an uninterrupted one."""

from __future__ import annotations

import json
import pkgutil
from pathlib import Path

import pytest
from small_tasks import SMALL, interrupted_at, place, run

import train.tasks
from train.environment import JobEnvironment

TIMES = ("seconds", "samples_per_second", "attempt")


def test_each_task_has_a_small_form() -> None:
    assert sorted(SMALL) == sorted(module.name for module in pkgutil.iter_modules(train.tasks.__path__))


@pytest.mark.parametrize("name", SMALL)
def test_one_process_interrupted_in_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    data, alone = tmp_path / "data", JobEnvironment.from_environment({})
    (data / name).mkdir(parents=True)
    SMALL[name].write(data / name)
    assert run(name, data, place(alone, tmp_path / "whole", name, 0)) == 0
    with interrupted_at(3):
        assert run(name, data, place(alone, tmp_path / "parts", name, 0)) == 75
    assert run(name, data, place(alone, tmp_path / "parts", name, 1)) == 0
    said = capsys.readouterr().out
    assert "interrupted at step 3 of " in said
    assert "resumed at step 3 of " in said
    whole, parts = (results(tmp_path / way / name / "outputs") for way in ("whole", "parts"))
    assert whole == parts
    assert len(whole[1]) >= 2


def results(outputs: Path) -> tuple[dict, list[dict]]:
    """Return everything that a run wrote, except durations."""
    result = json.loads((outputs / "result.json").read_text())
    lines = [json.loads(line) for line in (outputs / "metrics.jsonl").read_text().splitlines()]
    for record in (result, *lines):
        for name in TIMES:
            record.pop(name, None)
    return result, lines
