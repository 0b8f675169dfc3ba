"""The README's example of a program of one's own, before and after: the diff is the real one, and it survives."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from runner import REPOSITORY, Runner

PROGRAMS = REPOSITORY / "tests/cluster/programs"


def test_the_readme_has_the_real_diff() -> None:
    before, after = ((PROGRAMS / f"nano_{when}.py").read_text().splitlines() for when in ("before", "after"))
    start = before.index("import sys")
    lines = difflib.unified_diff(before[start:], after[after.index("import sys") :], n=1, lineterm="")
    diff = "\n".join([line for line in lines if not line.startswith(("---", "+++", "@@"))])
    assert f"```diff\n{diff}\n```" in (REPOSITORY / "README.md").read_text()


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
