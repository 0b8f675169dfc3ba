"""Ranks that log to W&B: the functions of the processes of test_distributed_wandb.py and test_metrics.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from runner import REPOSITORY

from train import distributed_wandb
from train.distributed import sum_over_ranks
from train.distributed_wandb import DistributedWandb
from train.environment import JobEnvironment
from train.metrics import open_tracking

KEY = "0123456789" * 4


class Server:
    """Start ../wandb_server.py, a stand-in for W&B's server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        program = [sys.executable, str(REPOSITORY / "tests/wandb_server.py"), str(folder)]
        self.process = subprocess.Popen(program, env={**os.environ, "WANDB_API_KEY": KEY})

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a client."""
        while not (self.folder / "url").exists():
            assert self.process.poll() is None
        url = (self.folder / "url").read_text()
        quiet = {"WANDB_ERROR_REPORTING": "false", "WANDB_CONSOLE": "off", "WANDB_SILENT": "true"}
        return {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url, "WANDB_DIR": str(self.folder), **quiet}

    def run(self, name: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.environment["WANDB_BASE_URL"] + "/_state") as answer:
            return json.load(answer)["runs"][name]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def history(run: Mapping[str, Any], name: str) -> list[tuple[int, float]]:
    return [(row["_step"], row[name]) for row in run["history"]]


def kill_client() -> None:
    """Send SIGTERM to W&B's process: Slurm sends it to all processes of a step."""
    children = subprocess.check_output(["ps", "-ww", "-o", "pid,args", "--ppid", str(os.getpid())], text=True)
    core = [line.split()[0] for line in children.splitlines() if "wandb-core" in line]
    assert len(core) == 1, children
    os.kill(int(core[0]), signal.SIGTERM)


def one_run(environment: JobEnvironment, client: dict[str, str]) -> dict[str, Any]:
    """Each rank passes another configuration, and logs."""
    os.environ.update(client)
    wandb = DistributedWandb(environment, project="digits", job_type="test")
    with wandb.init(config={"lr": 0.1 + environment.rank}) as run:
        wandb.config.update({"late": 1})
        image = wandb.Image(torch.zeros(1, 4, 4))
        is_image = isinstance(image, wandb.Image)
        for value in range(3):
            wandb.log({"rank": environment.rank, "value": value, "image": image})
        wandb.summary["best"] = 5
        wandb.watch(torch.nn.Linear(1, 1))
        run.log({"value": 3})
        try:
            wandb.log("no dictionary")
            refused = False
        except (TypeError, ValueError):
            refused = True
        found = {"lr": wandb.config.lr, "reason": wandb.off_reason, "refused": refused}
    return {**found, "id": wandb.run_id, "is_image": is_image, "imported": "wandb" in sys.modules}


def each_its_run(environment: JobEnvironment, client: dict[str, str]) -> str | None:
    os.environ.update(client)
    wandb = DistributedWandb(environment, all_processes=True)
    wandb.init(config={"rank": environment.rank})
    wandb.log({"value": environment.rank})
    wandb.finish()
    return wandb.run_id


def sweep(environment: JobEnvironment, client: dict[str, str], failing: int | None) -> list[Any]:
    """Run a sweep of two trials. In the first, rank `failing` fails while the others wait for it."""
    os.environ.update(client)
    wandb = DistributedWandb(environment, project="swept")
    if wandb.setup():
        from wandb.agents.pyagent import Agent

        Agent.HEARTBEAT_SLEEP_SECONDS = 0.1
    seen: list[Any] = []

    def trial() -> None:
        with wandb.init(config={"depth": 3}):
            if environment.rank == failing and wandb.config.lr == 0.1:
                raise KeyError("a mistake")
            total = sum_over_ranks(torch.tensor(wandb.config.lr)).item()
            wandb.log({"total": total})
            seen.append((wandb.run_id, wandb.config["lr"], wandb.config.depth, round(total, 3)))

    name = wandb.sweep({"method": "grid", "parameters": {"lr": {"values": [0.1, 0.2]}}})
    return [name, wandb.agent(name, trial, count=2), seen]


def train(environment: JobEnvironment, client: dict[str, str], first: int, last: int, kept: int, end: str) -> Any:
    """Log the rows from `first` to `last`, and save the state after `kept` of them. At the `end`: finish, or kill."""
    os.environ.update(client)
    distributed_wandb.INIT_SECONDS = 1.0
    distributed_wandb.FINISH_SECONDS = 2.0
    state = environment.output_directory / "state"
    metrics = open_tracking(environment, {"lr": 0.1, "data_dir": Path("data")}, project="trained", tensorboard=True)
    if first:
        metrics.load_state_dict(json.loads(state.read_text()))
    metrics.start()
    with metrics:
        for row in range(first, last):
            metrics.log({"value": row / 2}, step=10 * row)
            if row == kept - 1:
                state.write_text(json.dumps(metrics.state_dict()))
        if end == "kill":
            kill_client()
            for row in range(3):
                metrics.log({"value": -row}, step=1000 + row)
        if end == "server":
            os.kill(int(client["server"]), signal.SIGKILL)
            metrics.log({"value": -1}, step=1000)
        metrics.result({"best": last})
    return metrics.state_dict()["wandb_run_id"]


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("wandb") / "the server") as running:
        yield running
