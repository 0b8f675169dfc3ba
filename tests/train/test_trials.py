"""A sweep within one job, with the real client of W&B and tests/wandb_server.py, a stand-in for its server."""

from __future__ import annotations

import json
from pathlib import Path

from runner import Runner
from wandb_ranks import Server, server

__all__ = ["server"]

SWEEP = """
method: grid
metric: {name: validation_accuracy, goal: maximize}
parameters:
  learning-rate: {values: [0.002, 0.005]}
  epochs: {value: 1}
"""


def test_each_trial_on_two_ranks_with_a_run_and_folders_of_its_own(
    python: Runner, digits: Path, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "my sweep.yml"
    path.write_text(SWEEP)
    python.environment.update(server.environment, WANDB_MODE="online", HOME=str(tmp_path))
    flags = ["--data-dir", digits, "--sweep", "--sweep-config", path, "--wandb-project", "p"]
    done = python.torchrun(2, "-m", "train", "digits", *flags)
    assert done.returncode == 0, done.stderr
    assert "2 trials, 0 of them not finished" in done.stdout
    rates = []
    for outputs in sorted(python.outputs.iterdir()):
        run = server.run(outputs.name)
        (line,) = (outputs / "metrics.jsonl").read_text().splitlines()
        row = {name: value for name, value in run["history"][-1].items() if not name.startswith("_")}
        assert row == json.loads(line)
        rates.append(run["config"]["learning_rate"]["value"])
        assert (python.checkpoints / outputs.name / "final.pt").exists()
    assert sorted(rates) == [0.002, 0.005]


def test_a_sweep_that_does_not_fit_the_task(python: Runner, digits: Path, tmp_path: Path) -> None:
    for content, message in (
        ("method: grid\nparameters: {epoch: {value: 1}}", "unknown key 'epoch': 'epochs'?"),
        ("method: grid", "no sweep"),
        (SWEEP, "a sweep needs W&B, which is off"),
    ):
        path = tmp_path / "sweep.yml"
        path.write_text(content)
        done = python("-m", "train", "--data-dir", digits, "--sweep", "--sweep-config", path, "--no-wandb")
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
