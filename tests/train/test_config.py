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
        (["--seed", "-1"], "--seed must be from 0 to 4294967295, not -1"),
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
    assert "--epochs EPOCHS Passes over the training images. Default: 20." in text
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
