"""The real client of W&B with tests/wandb_server.py, a stand-in that cannot show what W&B's own server answers."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
from ranks import Ranks
from wandb_ranks import Server, each_its_run, history, one_run, server, sweep

from train.distributed_wandb import DistributedWandb, DistributedWandbError, Nothing
from train.environment import JobEnvironment, WandbEnvironment

__all__ = ["server"]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Remove the user's W&B key."""
    for name in ("API_KEY", "MODE", "DISABLED", "IDENTITY_TOKEN_FILE", "RUN_ID", "PROJECT", "RUN_GROUP", "BASE_URL"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    return tmp_path


ALONE = JobEnvironment.from_environment({})
SECOND = dataclasses.replace(ALONE, rank=1, world_size=2)


@pytest.mark.parametrize(
    ("environment", "options", "variables", "reason"),
    [
        (ALONE, {"no_wandb": True}, {"WANDB_API_KEY": "k" * 40}, "switched off"),
        (ALONE, {}, {"WANDB_MODE": "disabled", "WANDB_API_KEY": "k" * 40}, "WANDB_MODE"),
        (ALONE, {}, {"WANDB_DISABLED": "true", "WANDB_API_KEY": "k" * 40}, "WANDB_DISABLED"),
        (ALONE, {}, {}, "no key"),
        (SECOND, {}, {"WANDB_API_KEY": "k" * 40}, "rank 0"),
    ],
)
def test_off_is_a_no_op(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: JobEnvironment,
    options: dict[str, bool],
    variables: dict[str, str],
    reason: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    wandb = DistributedWandb(environment, project="p", **options)
    assert not wandb.setup()
    assert reason in wandb.off_reason
    with wandb.init(config={"lr": 0.1, "depth": 2}, tags=["a"]) as run:
        assert wandb.config["lr"] == wandb.config.lr == run.config.get("lr") == wandb.run.config.lr == 0.1
        wandb.config.update({"depth": 3}, allow_val_change=True)
        wandb.config.update(argparse.Namespace(width=4))
        wandb.config.setdefaults({"lr": 9, "more": 5})
        wandb.config.last = 6
        expected = {"lr": 0.1, "depth": 3, "width": 4, "more": 5, "last": 6}
        assert dict(wandb.config) == wandb.config.as_dict() == dict(**wandb.config) == expected
        assert list(wandb.config) == list(expected)
        for missing in (lambda: wandb.config.none, lambda: wandb.config["none"]):
            with pytest.raises((AttributeError, KeyError)):
                missing()
        wandb.summary["best"] = 1
        wandb.run.summary.update({"last": 2})
        run.name = "a name"
        wandb.log({"image": wandb.Image([[0]], caption="c"), "histogram": wandb.Histogram([1]), "loss": 0.1}, step=3)
        table = wandb.Table(columns=["a", "b"])
        table.add_data(1, 2)
        assert len(table.data) == 0
        assert not isinstance(0, wandb.Image)
        assert isinstance(wandb.Image([[0]]), wandb.Image)
        for name in ("Video", "Audio", "Html", "Object3D", "Molecule", "Settings", "Api", "Artifact", "AlertLevel"):
            assert getattr(wandb, name)(1, a=2).anything[0].more() is not None
        for name in ("define_metric", "alert", "save", "restore", "login", "log_artifact", "use_artifact", "unwatch"):
            getattr(wandb, name)("x", y=1)
        wandb.watch(object(), log="all")
        wandb.plot.line(table, "a", "b", title="t")
        wandb.run.log_code(".")
        assert [artifact.name for artifact in wandb.Api().runs("e/p")] == []
        assert float(wandb.run.step) == int(wandb.run.step) == len(wandb.run.tags) == 0
        assert not wandb.run
        assert "tag" not in wandb.run.tags
        artifact = wandb.Artifact("a", type="model")
        with artifact.new_file("f") as file:
            file.write("x")
        artifact.metadata["x"] = 1
        del artifact.metadata["x"]
        wandb.anything_else = 1
        try:
            raise OSError
        except (wandb.CommError, wandb.errors.UsageError):
            raise AssertionError from None
        except OSError:
            pass
        assert isinstance(pickle.loads(pickle.dumps(copy.deepcopy(artifact))), Nothing)
    with pytest.raises(KeyError), wandb.init():
        raise KeyError
    wandb.finish(exit_code=0)
    assert wandb.run_id is None
    if environment.rank == 0:
        for use in (lambda: wandb.sweep({}), lambda: wandb.agent("s", lambda: None)):
            with pytest.raises(DistributedWandbError, match=f"a sweep needs W&B, which is off: .*{reason}"):
                use()
    # Printed once where it may be a mistake.
    assert capsys.readouterr().err.count("\n") == (reason == "no key")


@pytest.mark.parametrize(
    ("variables", "netrc", "on"),
    [
        ({"WANDB_API_KEY": "k" * 40}, "", True),
        ({"WANDB_IDENTITY_TOKEN_FILE": "/somewhere"}, "", True),
        ({"WANDB_MODE": "offline"}, "", True),
        ({"WANDB_MODE": "dryrun"}, "", True),
        ({}, "machine api.wandb.ai login user password " + "k" * 40, True),
        (
            {"WANDB_BASE_URL": "https://here.example:8080"},
            "machine here.example:8080 login user password " + "k" * 40,
            True,
        ),
        ({"WANDB_BASE_URL": "https://here.example"}, "machine api.wandb.ai login user password " + "k" * 40, False),
        ({}, "machine api.wandb.ai", False),
        ({"WANDB_BASE_URL": "https://here.example"}, "", False),
    ],
)
def test_where_a_key_is_found(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    home: Path,
    variables: dict[str, str],
    netrc: str,
    on: bool,
) -> None:
    import wandb as module

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (home / ".netrc").write_text(netrc)
    module.teardown()  # the client reads the environment only once
    wandb = DistributedWandb(ALONE)
    assert wandb.setup() is on
    assert (wandb.Image is module.Image) is on
    assert "k" * 40 not in "".join(capfd.readouterr())
    module.teardown()


def test_what_the_environment_says_of_wandb() -> None:
    found = WandbEnvironment.from_environment({"WANDB_API_KEY": "secret", "WANDB_RUN_ID": "r", "NETRC": "/n"})
    assert (found.mode, found.has_key, found.run_id, found.netrc) == ("online", True, "r", Path("/n"))
    assert "secret" not in repr(found)


def test_one_run_of_two_ranks_at_the_stand_in(tmp_path: Path, server: Server) -> None:
    first, second = Ranks(2, one_run, server.environment, folder=tmp_path).results()
    assert first.pop("imported")
    assert not second.pop("imported")
    assert first == {"lr": 0.1, "reason": None, "refused": True, "id": first["id"], "is_image": True}
    assert second == {**first, "reason": second["reason"], "refused": False}
    run = server.run(first["id"])
    assert [row.get("rank") for row in run["history"]] == [0, 0, 0, None]
    assert history(run, "value") == [(step, step) for step in range(4)]
    values = {name: part["value"] for name, part in run["config"].items() if name != "_wandb"}
    assert (run["project"], run["state"], run["summary"]["best"], values) == (
        *("digits", "finished", 5),
        {"lr": 0.1, "late": 1},
    )


def test_each_rank_its_run_at_the_stand_in(tmp_path: Path, server: Server) -> None:
    client = {**server.environment, "WANDB_RUN_ID": "base"}
    assert Ranks(2, each_its_run, client, folder=tmp_path, exp_name="one").results() == ["base", "base-rank1"]
    for rank, name in enumerate(("base", "base-rank1")):
        run = server.run(name)
        assert (run["group"], run["config"]["rank"]["value"]) == ("one", rank)
        assert history(run, "value") == [(0, rank)]


def test_a_sweep_of_two_ranks_at_the_stand_in(tmp_path: Path, server: Server) -> None:
    first, second = Ranks(2, sweep, server.environment, None, folder=tmp_path).results()
    assert first == second
    name, count, seen = first
    assert (count, seen) == (2, [(f"{name}r0", 0.1, 3, 0.2), (f"{name}r1", 0.2, 3, 0.4)])
    assert server.run(f"{name}r1")["state"] == "finished"


@pytest.mark.parametrize("failing", [0, 1])
def test_a_trial_that_fails_ends_all_ranks(tmp_path: Path, server: Server, failing: int) -> None:
    ranks = Ranks(2, sweep, server.environment, failing, folder=tmp_path)
    assert ranks.wait(30) == [1, 1], ranks.errors()
    assert "a mistake" in (tmp_path / f"stderr_{failing}").read_text()


def test_a_trial_that_fails_alone_is_told_at_the_end(tmp_path: Path, server: Server) -> None:
    ranks = Ranks(1, sweep, server.environment, 0, folder=tmp_path)
    assert ranks.wait(30) == [1]
    assert "1 of 2 trials failed, the first: KeyError('a mistake')" in ranks.errors()
