from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runner import Runner

from train.__main__ import main
from train.config import parse
from train.tasks.digits import Config


def test_flags(tmp_path: Path) -> None:
    assert parse(Config, [], "train") == Config()
    flags = ["--epochs=3", "--batch-size", "8", "--learning-rate", "1e-3", "--seed", "7", "--device", "cpu"]
    expected = Config(epochs=3, batch_size=8, learning_rate=1e-3, seed=7, device="cpu", data_dir=tmp_path / "a b")
    assert parse(Config, [*flags, "--data-dir", str(tmp_path / "a b")], "train") == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--epochs", "-1"], "--epochs must be at least 1, not -1"),
        (["--epochs", "1.5"], "argument --epochs: invalid int value: '1.5'"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0 and finite, not nan"),
        (["--learning-rate", "inf"], "--learning-rate must be above 0 and finite, not inf"),
        (["--learning-rate", "0"], "--learning-rate must be above 0 and finite, not 0.0"),
        (["--learning-rate", "fast"], "argument --learning-rate: invalid float value: 'fast'"),
        (["--seed", "-1"], f"--seed must be from 0 to {2**64 - 1}, not -1"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["--banana"], "unrecognized arguments: --banana"),
        (["digits"], "unrecognized arguments: digits"),
    ],
)
def test_bad_flags(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Config, arguments, "python -m train digits")
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"python -m train digits: {message}")
    assert said.err.endswith("; see python -m train digits --help\n")
    assert said.err.count("\n") == 1


def test_help_has_each_field_s_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Config, ["--help"], "train")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--epochs EPOCHS Passes over the training data. Default: 20." in text
    assert "all ranks together" in text
    assert "{auto,cpu,cuda,mps}" in text


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["cats"], {}, "no task 'cats'; the tasks are: "),
        (["--device", "cuda"], {}, "no CUDA device here"),
        ([], {"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x', not a whole number from 0 to 1: "),
    ],
)
def test_the_program_s_own_errors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    environ: dict[str, str],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == (2 if arguments == ["cats"] else 1)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"python -m train: {message}")
    assert said.err.count("\n") == 1


def test_exit_status_of_the_process(python: Runner) -> None:
    done = python("-m", "train", "--epochs", "0")
    expected = "python -m train digits: --epochs must be at least 1, not 0; see python -m train digits --help\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_file_gives_values_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "my config.yml"
    path.write_text(
        "epochs: 7\nbatch-size: 8\nlearning_rate: 1e-2\nno-wandb: true\ndata_dir: some where\ndevice: cpu\n"
    )
    expected = Config(
        epochs=3, batch_size=8, learning_rate=0.01, no_wandb=True, data_dir=Path("some where"), device="cpu"
    )
    assert parse(Config, ["--config", str(path), "--epochs=3"], "train") == expected
    path.write_text("")
    assert parse(Config, ["--config", str(path)], "train") == Config()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch: 7", "unknown key 'epoch': 'epochs'?"),
        ("banana: 7", "unknown key 'banana'"),
        ("epochs: seven", "epochs must be of type int, not 'seven'"),
        ("epochs: 1.5", "epochs must be of type int, not 1.5"),
        ("epochs: true", "epochs must be of type int, not True"),
        ("no-wandb: 1", "no-wandb must be of type bool, not 1"),
        ("learning-rate: fast", "learning-rate must be of type float, not 'fast'"),
        ("device: tpu", "device must be one of auto, cpu, cuda, mps, not 'tpu'"),
        ("data_dir: 3", "data_dir must be of type Path, not 3"),
        ("- epochs", "a mapping of names to values is needed, not a list"),
        ("epochs: [", "while parsing"),
        ("epochs: 0", "--epochs must be at least 1, not 0"),
    ],
)
def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(content)
    with pytest.raises(SystemExit) as caught:
        parse(Config, ["--config", str(path)], "train")
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    if "--epochs" not in message:
        assert str(path) in said


def test_flags_as_a_sweep_s_agent_writes_them() -> None:
    flags = ["--batch_size=8", "--no_wandb=true", "--dry_run=false", "--wandb_project=my_project"]
    assert parse(Config, flags, "train") == Config(batch_size=8, no_wandb=True, wandb_project="my_project")
    assert parse(Config, ["--no-wandb", "--epochs", "3"], "train") == Config(no_wandb=True, epochs=3)


def test_the_flags_of_the_boilerplate(tmp_path: Path) -> None:
    """All flags of system 003 are known."""
    flags = "--batch-size 64 --test-batch-size 1000 --epochs 14 --dry-run --seed 1 --cpu --backend gloo --no-wandb"
    more = f"--wandb-project p --wandb-group g --wandb-all-processes --sweep --sweep-config {tmp_path}/s.yml"
    config = parse(Config, f"{flags} {more}".split(), "train")
    assert (config.test_batch_size, config.dry_run, config.cpu, config.backend) == (1000, True, True, "gloo")
    assert (config.wandb_group, config.wandb_all_processes, config.sweep) == ("g", True, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sweep"], "--sweep and --sweep-config FILE go together"),
        (["--cpu", "--device", "cuda"], "--cpu and --device cuda contradict each other"),
        (["--clip-gradients=-1"], "--clip-gradients must be at least 0, not -1.0"),
        (["--no-wandb=perhaps"], "neither true nor false: 'perhaps'"),
    ],
)
def test_flags_that_contradict(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    with pytest.raises(SystemExit):
        parse(Config, flags, "train")
    assert message in capsys.readouterr().err
