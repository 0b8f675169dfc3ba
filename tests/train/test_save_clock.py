"""Checkpoints by the clock: when they are due, that all ranks save at the same step, and what it costs."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import loop_toy
import pytest
from ranks import Ranks

from train import save_clock
from train.distributed import sum_over_ranks
from train.environment import JobEnvironment
from train.save_clock import SaveClock


def steps(environment: JobEnvironment, minutes: float, seconds: list[float], weighed: bool = False) -> dict[str, list]:
    """Return the steps at which a save is due and at which the ranks communicate, for steps of this duration.

    The clock of every other rank is wrong.
    """
    now, spoken = [0.0], []
    save_clock.time = SimpleNamespace(monotonic=lambda: now[0] * (1 + environment.rank))

    def counted(values: object) -> object:
        spoken.append(step)
        return sum_over_ranks(values)

    save_clock.sum_over_ranks = counted
    clock, due = SaveClock(minutes, environment), []
    for step, passed in enumerate(seconds, 1):
        now[0] += passed
        if weighed:
            assert clock.sum(step, 1.0, environment.rank) == [2.0, 1.0]
        if clock.due(step):
            due.append(step)
            clock.saved()
    return {"due": due, "spoken": spoken}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> JobEnvironment:
    """Restore what `steps` changes in a rank."""
    monkeypatch.setattr(save_clock, "time", save_clock.time)
    monkeypatch.setattr(save_clock, "sum_over_ranks", sum_over_ranks)
    return JobEnvironment.from_environment({})


def test_a_save_every_so_many_minutes(alone: JobEnvironment) -> None:
    done = steps(alone, 15, [0.1] * 30_000)
    assert len(done["due"]) == 3
    for number, step in enumerate(done["due"], 1):
        assert 9000 * number <= step <= 9000 * number + number * 100  # ten seconds late at most
    assert len(done["spoken"]) < 3000 / save_clock.LOOK_SECONDS + 10


def test_none_by_the_clock(alone: JobEnvironment) -> None:
    assert steps(alone, 0, [3600.0] * 50) == {"due": [], "spoken": []}


def test_steps_that_become_slow(alone: JobEnvironment) -> None:
    """The next check was planned for fast steps. From then on each step checks."""
    done = steps(alone, 1, [0.1] * 500 + [30.0] * 200)
    *_, before, last = done["due"]
    assert done["due"][0] <= 700
    assert last - before == 2
    assert last >= 699


def test_not_while_one_is_being_saved(alone: JobEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    now, busy = [0.0], [True]
    monkeypatch.setattr(save_clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = SaveClock(1, alone, lambda: busy[0])
    assert not clock.due(1)
    now[0] = 100.0
    assert not clock.due(2)
    busy[0] = False
    now[0] = 200.0
    assert clock.due(3)


@pytest.mark.parametrize("weighed", [False, True])
def test_all_ranks_save_at_the_same_steps(tmp_path: Path, weighed: bool) -> None:
    """Rank 0's clock decides; if the ranks sum something in each step, this needs no further communication."""
    seconds = [2.0 + step % 3 for step in range(200)]
    first, second = Ranks(2, steps, 1, seconds, weighed, folder=tmp_path).results()
    assert first == second
    assert len(first["due"]) in range(7, 10)
    if weighed:
        assert first["spoken"] == list(range(1, 201))
    else:
        assert len(first["spoken"]) < 100


@pytest.mark.parametrize(("minutes", "kept"), [(15.0, False), (0.0, False), (1e-9, True)])
def test_a_training_is_saved_by_the_clock(tmp_path: Path, minutes: float, kept: bool) -> None:
    """The default is every 15 minutes, so not in a run of seconds."""
    assert loop_toy.Config().save_minutes == 15
    settings = {"save_minutes": minutes}
    assert Ranks(2, loop_toy.train, settings, folder=tmp_path).results()[0]["status"] == 0
    assert any((tmp_path / "checkpoints").glob("step_*")) == kept
    again = Ranks(2, loop_toy.train, {**settings, "epochs": 3}, folder=tmp_path, ATTEMPT=1).results()[0]
    assert again["said"].startswith("resumed at step") == kept


def test_asking_costs_little() -> None:
    clock = SaveClock(15, JobEnvironment.from_environment({}))
    started = time.perf_counter()
    for step in range(1, 10_001):
        clock.due(step)
    assert (time.perf_counter() - started) / 10_000 < 50e-6  # a tenth of a percent of 50 ms
