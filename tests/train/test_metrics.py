from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import Ranks
from wandb_ranks import Server, history, server, started, train

from train.environment import JobEnvironment
from train.metrics import Metrics, MetricsTracker, TimestampedTimer, open_tracking

__all__ = ["server"]


def track(environment: JobEnvironment) -> list[dict[str, float]]:
    """Each rank has other keys, in another order."""
    tracker, rank = MetricsTracker(), environment.rank
    for name in ("loss", "accuracy") if rank else ("accuracy", "loss"):
        tracker.update({name: torch.tensor(float(rank + (10 if name == "loss" else 0)), requires_grad=True)}, rank + 1)
    tracker.update({f"only {rank}": 5.0, "none": 1.0}, 0)
    tracker.update({f"only {rank}": float(rank)}, 2)
    twice = [tracker.means(), tracker.means()]
    state = tracker.state_dict()
    tracker.update({"loss": 1e9})
    tracker.load_state_dicts([state])
    resumed = tracker.means()
    tracker.reset()
    return [*twice, resumed, tracker.means()]


def test_means_over_ranks(tmp_path: Path) -> None:
    expected = {"accuracy": 8 / 6, "loss": 68 / 6, "only 0": 0.0, "only 1": 1.0, "only 2": 2.0}
    for first, second, resumed, empty in Ranks(3, track, folder=tmp_path).results():
        assert first == second == resumed == pytest.approx(expected)
        assert list(first) == sorted(first)
        assert empty == {}


def test_one_process_has_its_names_sorted_too() -> None:
    tracker = MetricsTracker()
    tracker.update({"b": 1.0, "a": torch.tensor(2.0)}, 3)
    assert list(tracker.means().items()) == [("a", 2.0), ("b", 1.0)]


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (3, 2)])
def test_sums_survive_another_number_of_ranks(before: int, after: int) -> None:
    states = []
    for rank in range(before):
        tracker = MetricsTracker()
        tracker.update({"loss": rank}, rank + 1)
        states.append(tracker.state_dict())
    total = torch.zeros(2, dtype=torch.float64)
    for rank in range(after):
        tracker = MetricsTracker()
        tracker.load_state_dicts(states[rank::after])
        tracker.update({"loss": 0.5}, 0)
        total += tracker.state_dict()["loss"]
    assert total.tolist() == [sum(r * (r + 1) for r in range(before)), sum(r + 1 for r in range(before))]


def test_a_resumed_run_s_lines_are_those_of_one_run(tmp_path: Path) -> None:
    environment = JobEnvironment.from_environment({"OUTPUT_PATH": str(tmp_path / "out")})
    metrics = Metrics(environment)
    metrics.log({"epoch": 1})
    state = metrics.state_dict()
    metrics.log({"epoch": 2})  # lost, because the checkpoint is older
    for folder in ("out", "another machine"):
        again = Metrics(JobEnvironment.from_environment({"OUTPUT_PATH": str(tmp_path / folder)}))
        again.load_state_dict(state)
        again.log({"epoch": 2})
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_steps_are_those_given_or_the_lines(tmp_path: Path) -> None:
    metrics = Metrics(JobEnvironment.from_environment({"OUTPUT_PATH": str(tmp_path)}))
    for step in (None, 5, None, None):
        metrics.log({"a": 1.0}, step=step)
    assert metrics.state_dict()["steps"] == [0, 5, 6, 7]
    with pytest.raises(ValueError, match="JSON"):
        metrics.log({"a": float("nan")})
    assert len(metrics.lines) == 4
    # From a checkpoint without steps.
    metrics.load_state_dict({"lines": metrics.lines[:2]})
    assert metrics.state_dict()["steps"] == [0, 1]


def test_after_the_end_and_without_wandb_the_rows_and_the_run_are_kept(tmp_path: Path) -> None:
    environment = JobEnvironment.from_environment({"OUTPUT_PATH": str(tmp_path)})
    metrics = open_tracking(environment, no_wandb=True, run_id="before", tensorboard=True)
    metrics.log({"value": 0.5})
    with pytest.raises(SystemExit), metrics:
        sys.exit(75)
    metrics.log({"value": 1.5})
    metrics.close()
    assert metrics.state_dict()["wandb_run_id"] == "before"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert events(tmp_path) == [(0, 0.5)]


def events(folder: Path) -> list[tuple[int, float]]:
    """Read them with TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars("value")]


def test_a_killed_run_goes_on_as_one_history_at_the_stand_in(tmp_path: Path, server: Server) -> None:
    """Rows that W&B had not sent, and rows after the checkpoint, which are trained again."""
    folder = tmp_path / "run"
    (first,) = Ranks(1, train, server.environment, 0, 5, 3, "kill", folder=folder).results()
    assert "W&B is lost, and the training goes on without it: " in (folder / "stderr_0").read_text()
    assert len(server.run(first)["history"]) < 5
    assert len((folder / "outputs/metrics.jsonl").read_text().splitlines()) == 5 + 3
    assert json.loads((folder / "outputs/result.json").read_text()) == {"best": 5}
    (second,) = Ranks(1, train, server.environment, 3, 7, 7, "finish", folder=folder).results()
    assert second == first
    run = server.run(first)
    assert history(run, "value") == [(10 * row, row / 2) for row in range(7)]
    assert (run["summary"]["best"], run["state"], run["config"]["data_dir"]["value"]) == (7, "finished", "data")
    assert events(folder / "outputs") == history(run, "value")
    assert len((folder / "outputs/metrics.jsonl").read_text().splitlines()) == 7

    # On another machine, with only the checkpoint, and with rows that W&B already has.
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "outputs").mkdir(parents=True)
    (elsewhere / "outputs/state").write_bytes((folder / "outputs/state").read_bytes())
    (third,) = Ranks(1, train, server.environment, 7, 8, 8, "finish", folder=elsewhere).results()
    assert third == first
    assert history(server.run(first), "value") == [(10 * row, row / 2) for row in range(8)]
    assert events(elsewhere / "outputs") == history(server.run(first), "value")


def test_recordings_of_a_run_offline_become_one_history_at_the_stand_in(tmp_path: Path, server: Server) -> None:
    client = {**server.environment, "WANDB_DIR": str(tmp_path)}
    offline = {**client, "WANDB_MODE": "offline", "WANDB_API_KEY": ""}
    (first,) = Ranks(1, train, offline, 0, 3, 3, "finish", folder=tmp_path).results()
    (second,) = Ranks(1, train, offline, 3, 5, 5, "finish", folder=tmp_path).results()
    assert first == second
    recordings = sorted(map(str, (tmp_path / "wandb").glob("offline-run-*")))
    assert len(recordings) == 2
    subprocess.run([sys.executable, "-m", "wandb", "sync", *recordings], env={**os.environ, **client}, check=True)
    assert history(server.run(first), "value") == [(10 * row, row / 2) for row in range(5)]


def test_without_a_server_the_training_goes_on_and_records(tmp_path: Path) -> None:
    with started(tmp_path / "server") as leaving:
        client = {**leaving.environment, "server": str(leaving.process.pid)}
        ranks = Ranks(1, train, client, 0, 3, 3, "server", folder=tmp_path / "lost")
        ranks.results()
    assert len((tmp_path / "lost/outputs/metrics.jsonl").read_text().splitlines()) == 4
    ranks = Ranks(1, train, client, 0, 3, 3, "finish", folder=tmp_path / "none")
    (name,) = ranks.results(120)
    assert "W&B is not reached, and records on the disk: " in ranks.errors()
    assert len(list((tmp_path / "server/wandb").glob(f"offline-run-*-{name}/*.wandb"))) == 1
    assert [step for step, _ in events(tmp_path / "none/outputs")] == [0, 10, 20]


def test_the_timer(capsys: pytest.CaptureFixture[str]) -> None:
    timer = TimestampedTimer(JobEnvironment.from_environment({}), "begun")
    assert 0 <= timer.report("loaded") < 5
    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["begun", "loaded"]
    assert all(line.startswith("[20") and "s in all" in line for line in lines)
