from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ranks import Ranks

from train.environment import JobEnvironment
from train.metrics import Metrics, MetricsTracker, TimestampedTimer


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
    metrics.log({"epoch": 2})  # Lost: the checkpoint is older.
    for folder in ("out", "another machine"):
        again = Metrics(JobEnvironment.from_environment({"OUTPUT_PATH": str(tmp_path / folder)}))
        again.load_state_dict(state)
        again.log({"epoch": 2})
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_the_timer(capsys: pytest.CaptureFixture[str]) -> None:
    timer = TimestampedTimer(JobEnvironment.from_environment({}), "begun")
    assert 0 <= timer.report("loaded") < 5
    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["begun", "loaded"]
    assert all(line.startswith("[20") and "s in all" in line for line in lines)
