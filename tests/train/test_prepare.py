from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from runner import Runner

from train.data import idx


def test_the_files(digits: Path) -> None:
    assert sorted(path.name for path in digits.iterdir()) == [
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]
    train_images, train_labels = idx.read_split(digits, "train")
    test_images, test_labels = idx.read_split(digits, "t10k")
    assert train_images.shape == (1437, 8, 8)
    assert test_images.shape == (360, 8, 8)
    shares = test_labels.bincount(minlength=10) / (train_labels.bincount() + test_labels.bincount())
    assert shares.min() > 0.19
    assert shares.max() < 0.21


def test_the_pixels_are_uci_s(digits: Path, scikit_learn: Path) -> None:
    rows = gzip_rows(scikit_learn / "sklearn/datasets/data/digits.csv.gz")
    images, labels = (
        torch.cat(parts) for parts in zip(idx.read_split(digits, "train"), idx.read_split(digits, "t10k"))
    )
    levels = (images.view(-1, 64).float() * 16 / 255).round().int()
    assert sorted(torch.cat([levels, labels.int().unsqueeze(1)], 1).tolist()) == sorted(rows)


def gzip_rows(path: Path) -> list[list[int]]:
    import gzip

    return [
        [int(value) for value in line.split(",")] for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]


def test_again_without_scikit_learn_and_repair(
    python: Runner, digits: Path, scikit_learn: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "a copy"
    shutil.copytree(digits, copy)
    times = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    again = python("-S", "-m", "train.prepare", "digits", copy)  # -S: no installed packages
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{copy}\n", "digits: already there\n")
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == times

    damaged = copy / "t10k-labels-idx1-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    missing = python("-S", "-m", "train.prepare", "digits", copy)
    assert missing.returncode == 1
    assert missing.stdout == ""
    assert "pip install --no-deps --target FOLDER scikit-learn" in missing.stderr
    assert missing.stderr.count("\n") == 1
    path = os.pathsep.join((python.environment["PYTHONPATH"], str(scikit_learn)))
    repaired = python("-S", "-m", "train.prepare", "digits", copy, PYTHONPATH=path)
    assert (repaired.returncode, repaired.stdout, repaired.stderr) == (0, f"{copy}\n", "digits: written\n")
    assert damaged.read_bytes() == (digits / damaged.name).read_bytes()


def test_default_destination(python: Runner, scikit_learn: Path) -> None:
    path = os.pathsep.join((python.environment["PYTHONPATH"], str(scikit_learn)))
    scratch = python.work / "scratch of mine"
    done = python("-m", "train.prepare", "digits", PYTHONPATH=path, SCRATCH=str(scratch))
    assert done.stdout == f"{scratch}/some body's project/datasets/digits\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["cats"], 2, "invalid choice: 'cats'"),
        ([], 2, "required: dataset"),
        (["digits", "/dev/null/x"], 1, "Not a directory"),
    ],
)
def test_bad_arguments(python: Runner, scikit_learn: Path, arguments: list[str], status: int, message: str) -> None:
    path = os.pathsep.join((python.environment["PYTHONPATH"], str(scikit_learn)))
    done = python("-m", "train.prepare", *arguments, PYTHONPATH=path)
    assert done.returncode == status
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
