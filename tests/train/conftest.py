"""Fixtures: a copy of the project in a folder with a difficult name, the digits, and ways to run `python -m train`
there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing import forkserver
from pathlib import Path

import pytest
import ranks  # noqa: F401  (a fixture that loads the server of ranks)
import torch
from runner import LAUNCHER_VARIABLES, REPOSITORY, Runner


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Limit torch to one thread: on a busy machine several threads spin, a hundred times slower at a load of 20."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_key() -> Iterator[None]:
    """Keep the user's W&B settings away from the tests. The server from which ranks are forked is started here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("NETRC", "/nonexistent")
        forkserver.ensure_running()
        yield


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the launchers' variables, because the tests may run inside a job."""
    for name in [name for name in os.environ if name.startswith(LAUNCHER_VARIABLES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(scope="session")
def scikit_learn() -> Path:
    """Return the folder of scikit-learn's package, which tests/run.sh installs without its dependencies."""
    spec = find_spec("sklearn")
    installed = [Path(folder).parent for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in [*installed, Path(os.environ.get("SCIKIT_LEARN_DIRECTORY", "/nonexistent"))]:
        if (folder / "sklearn/datasets/data/digits.csv.gz").is_file():
            return folder
    pytest.fail(
        "no scikit-learn: pip install --no-deps --target FOLDER scikit-learn, then SCIKIT_LEARN_DIRECTORY=FOLDER pytest"
    )


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session") / "some body's project"
    shutil.copytree(REPOSITORY / "train", folder / "train", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def python(project: Path, tmp_path: Path) -> Runner:
    work = tmp_path / "a folder with spaces"
    work.mkdir()
    return Runner(project, work)


@pytest.fixture(scope="session")
def digits(project: Path, scikit_learn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the digits as `python -m train.prepare` makes them."""
    work = tmp_path_factory.mktemp("the data")
    destination = work / "data sets" / "digits"
    path = os.pathsep.join((str(project), str(scikit_learn)))
    done = Runner(project, work)("-m", "train.prepare", "digits", destination, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    return destination
