from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runner import Runner, patience

from train import loop
from train.__main__ import main
from train.data import idx
from train.environment import JobEnvironment
from train.tasks import digits as task

PROGRESS = re.compile(r"epoch (\d+)/(\d+): loss \d+\.\d{4}, validation accuracy [01]\.\d{4}, \d+ samples/s")
FINAL = re.compile(r"validation accuracy ([01]\.\d{4}) \((\d+) of 360\), \d+\.\d s, \d+ samples/s")


def check(outputs: Path, checkpoints: Path, stdout: str, epochs: int, world_size: int) -> float:
    """Check the output and files of a finished run; return its validation accuracy."""
    *progress, final = stdout.splitlines()
    assert [PROGRESS.fullmatch(line)[1] for line in progress] == [str(epoch + 1) for epoch in range(epochs)]
    accuracy, right = FINAL.fullmatch(final).groups()
    assert f"{int(right) / 360:.4f}" == accuracy
    records = [json.loads(line) for line in (outputs / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, epochs + 1))
    result = json.loads((outputs / "result.json").read_text())
    metrics = {"train_loss", "validation_loss", "validation_accuracy"}
    assert set(result) == {*metrics, "epochs", "seconds", "samples_per_second", "seed", "world_size"}
    assert (result["epochs"], result["world_size"]) == (epochs, world_size)
    assert result["validation_accuracy"] == records[-1]["validation_accuracy"] == int(right) / 360
    assert sorted(path.name for path in outputs.iterdir()) == ["metrics.jsonl", "result.json"]
    assert [path.name for path in checkpoints.iterdir()] == ["final.pt"]
    model = task.network(8, 8)
    model.load_state_dict(torch.load(checkpoints / "final.pt", weights_only=True))
    return int(right) / 360


def test_one_process(python: Runner, digits: Path) -> None:
    done = python("-m", "train", "--data-dir", digits)
    assert (done.returncode, done.stderr) == (0, "")
    assert check(python.outputs, python.checkpoints, done.stdout, epochs=task.Config.epochs, world_size=1) >= 0.97


def test_four_ranks_of_torchrun(python: Runner, digits: Path) -> None:
    done = python.torchrun(4, "-m", "train", "--data-dir", digits, "--epochs", "8")
    assert (done.returncode, done.stderr) == (0, "")
    assert check(python.outputs, python.checkpoints, done.stdout, epochs=8, world_size=4) >= 0.95


def test_two_tasks_of_srun_twice(python: Runner, digits: Path) -> None:
    """Without a launcher's variables: only what srun sets, and MASTER_ADDR and MASTER_PORT."""
    weights = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "2"}
        step.update(SLURM_NODEID="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        flags = ("-m", "train", "--data-dir", digits, "--epochs", "2", "--seed", "1")
        tasks = [python.start(*flags, SLURM_PROCID=rank, SLURM_LOCALID=rank, **step) for rank in "01"]
        (stdout, stderr), other = (process.communicate(timeout=patience(60)) for process in tasks)
        assert [process.returncode for process in tasks] == [0, 0], stderr
        assert (stderr, other) == ("", ("", ""))
        check(python.outputs, python.checkpoints, stdout, epochs=2, world_size=2)
        weights.append((python.checkpoints / "final.pt").read_bytes())
        (python.outputs / "metrics.jsonl").unlink()
    assert weights[0] == weights[1]


def test_missing_data_is_said_once(python: Runner) -> None:
    done = python.torchrun(2, "-m", "train", "--data-dir", python.work / "no data")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "no data" in line]
    folder = python.work / "no data"
    command = f"python -m train.prepare digits '{folder}'"
    assert said == [f"python -m train: no train-images-idx3-ubyte in {folder}; to make it: {command}"]
    assert not python.checkpoints.exists()


def test_what_ends_a_single_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in digits.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes()[:-1])
    for arguments, message in (
        (["--data-dir", damaged], "train-images-idx3-ubyte: byte 91983: the file ends here"),
        (["--data-dir", digits, "--learning-rate", "1e30"], "in epoch 1: try a --learning-rate below 1e+30"),
    ):
        assert main([str(argument) for argument in arguments]) == 1
        said = capsys.readouterr().err
        assert said.startswith("python -m train: ")
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("labels", [[], [0, 10]])
def test_labels_that_are_no_digits(tmp_path: Path, labels: list[int]) -> None:
    idx.write(tmp_path / "train-images-idx3-ubyte", torch.zeros(len(labels), 8, 8, dtype=torch.uint8))
    idx.write(tmp_path / "train-labels-idx1-ubyte", torch.tensor(labels, dtype=torch.uint8))
    with pytest.raises(idx.IdxError, match="labels must be some, and from 0 to 9"):
        task.load(tmp_path, "train", torch.device("cpu"))


def test_the_same_seed_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Path) -> None:
    monkeypatch.chdir(tmp_path)
    environment = JobEnvironment.from_environment({})
    weights = []
    for seed in (3, 3, 4):
        loop.run(task.Task, task.Config(epochs=1, seed=seed, data_dir=digits), environment, torch.device("cpu"))
        weights.append((tmp_path / "checkpoints" / "final.pt").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_each_epoch_has_an_order_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders: list[list[int]] = []

    class Recorder(loop.ResumableSampler):
        def __iter__(self) -> Iterator[int]:
            orders.append(list(super().__iter__()))
            return iter(orders[-1])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "ResumableSampler", Recorder)
    config = task.Config(epochs=2, data_dir=digits)
    assert loop.run(task.Task, config, JobEnvironment.from_environment({}), torch.device("cpu")) == 0
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1437))
    check(tmp_path / "outputs", tmp_path / "checkpoints", capsys.readouterr().out, epochs=2, world_size=1)


def test_losses_of_steps_are_told_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step has a loss, and their mean is the epoch's."""
    monkeypatch.chdir(tmp_path)
    config = task.Config(epochs=1, log_every=1, data_dir=digits)
    assert loop.run(task.Task, config, JobEnvironment.from_environment({}), torch.device("cpu")) == 0
    told = re.findall(r"^step (\d+) of 23: loss (\d\.\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert [int(step) for step, _ in told] == list(range(1, 24))
    sizes = [64] * 22 + [1437 - 22 * 64]
    mean = sum(float(loss) * size for (_, loss), size in zip(told, sizes)) / 1437
    assert mean == pytest.approx(json.loads((tmp_path / "outputs/metrics.jsonl").read_text())["train_loss"])
