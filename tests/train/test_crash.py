"""A crash of one rank ends all ranks with a failure within 30 s, not after the time-out of a collective, 10 minutes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from crashing import crash
from ranks import Ranks
from runner import Runner, patience

HERE = Path(__file__).parent


def seconds_since(errors: str) -> float:
    found = re.search(r"crashed at ([0-9.]+)", errors)
    assert found, errors
    return time.time() - float(found[1])


def test_under_torchrun(python: Runner) -> None:
    done = python.torchrun(2, HERE / "crashing.py", "join")
    assert seconds_since(done.stderr) < patience(30)
    assert done.returncode == 1, done.stderr
    assert "KeyError: 'a mistake'" in done.stderr


@pytest.mark.parametrize("kind", ["ddp", "join", "fsdp", "killed"])
def test_where_nobody_ends_the_others(tmp_path: Path, kind: str) -> None:
    """As under srun without --kill-on-bad-exit."""
    ranks = Ranks(2, crash, kind, folder=tmp_path)
    assert ranks.wait(80) == [1, -9 if kind == "killed" else 1], ranks.errors()
    assert seconds_since(ranks.errors()) < patience(30)
    assert ("KeyError: 'a mistake'" in (tmp_path / "stderr_1").read_text()) is (kind != "killed")
