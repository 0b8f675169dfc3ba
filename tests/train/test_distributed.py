from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
from runner import Runner

from train import distributed
from train.distributed import DeviceError, choose_device, failed_anywhere, process_group, shard, sum_over_ranks
from train.environment import JobEnvironment

HERE = Path(__file__).parent


def environment(rank: int = 0, world_size: int = 1) -> JobEnvironment:
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    master = {"MASTER_ADDR": "localhost", "MASTER_PORT": "20001"}
    return JobEnvironment.from_environment({**{name: str(value) for name, value in values.items()}, **master})


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 360, 361])
def test_shards_hold_each_sample_once(world_size: int, count: int) -> None:
    shards = [list(shard(count, environment(rank, world_size))) for rank in range(world_size)]
    assert sorted(chain(*shards)) == list(range(count))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def fake_devices(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "rank", "world_size", "expected"),
    [
        ("auto", 0, False, 1, 4, "cpu"),
        ("auto", 4, False, 3, 4, "cuda:3"),
        ("auto", 1, False, 3, 4, "cuda:0"),  # Slurm shows each task only its own GPU
        ("auto", 0, True, 0, 1, "mps"),
        ("auto", 0, True, 0, 2, "cpu"),
        ("cpu", 4, True, 1, 4, "cpu"),
        ("cuda", 2, False, 1, 2, "cuda:1"),
        ("mps", 0, True, 0, 1, "mps"),
        ("cuda", 0, False, 0, 1, "no CUDA device here"),
        ("mps", 0, False, 0, 1, "no MPS device here"),
        ("mps", 0, True, 0, 2, "MPS serves one process only"),
    ],
)
def test_device(
    monkeypatch: pytest.MonkeyPatch, name: str, cuda: int, mps: bool, rank: int, world_size: int, expected: str
) -> None:
    fake_devices(monkeypatch, cuda, mps)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # as on the pocket cluster, which has no CUDA
    if " " in expected:
        with pytest.raises(DeviceError, match=expected):
            choose_device(name, environment(rank, world_size))
    else:
        assert str(choose_device(name, environment(rank, world_size))) == expected


def test_one_process_needs_no_group(capsys: pytest.CaptureFixture[str]) -> None:
    alone = environment()
    with process_group(alone, torch.device("cpu")):
        assert not torch.distributed.is_initialized()
        assert sum_over_ranks(torch.tensor(3)).item() == 3
        assert not failed_anywhere(None, alone)
        assert failed_anywhere("no data", alone)
    assert capsys.readouterr().err == "python -m train: no data\n"


@pytest.mark.parametrize(
    ("address", "device", "url", "backend"),
    [
        ("node1", "cpu", "tcp://node1:20001", "gloo"),
        ("fd00::1", "cpu", "tcp://[fd00::1]:20001", "gloo"),
        ("10.0.0.1", "cuda:1", "tcp://10.0.0.1:20001", "cpu:gloo,cuda:nccl"),
    ],
)
def test_how_the_group_starts_and_ends(
    monkeypatch: pytest.MonkeyPatch, address: str, device: str, url: str, backend: str
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(str(device)))
    monkeypatch.setattr(
        distributed.dist,
        "init_process_group",
        lambda backend, **values: calls.append((backend, values["init_method"], values["rank"], values["world_size"])),
    )
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: calls.append("destroyed"))
    several = JobEnvironment(**{**vars(environment(1, 2)), "master_address": address})
    with process_group(several, torch.device(device)):
        calls.append("in")
    expected = [(backend, url, 1, 2), "in", "destroyed"]
    assert calls == ([device, *expected] if "cuda" in device else expected)
    calls.clear()
    with pytest.raises(KeyError), process_group(several, torch.device("cpu")):
        raise KeyError
    assert "destroyed" not in calls


def test_collectives_of_three_ranks(python: Runner) -> None:
    done = python.torchrun(3, HERE / "collectives.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    of_a_call = [f"[rank {rank}] {text}" for rank in range(3) for text in ("line {}", "and " + "more" * 20)]
    expected = [line.format(number) for line in of_a_call for number in range(200)]
    assert sorted(line.rstrip() for line in lines if line.startswith("[")) == sorted(expected)
    for above, line in zip(lines, lines[1:]):
        assert "and more" not in line or above.startswith(line.split()[0] + " " + line.split()[1])
    ends = sorted(line for line in lines if not line.startswith("["))
    assert ends == [f"rank {rank}: [[2.0, 2.0]] [3.0, 3.0] True []" for rank in range(3)]
    assert done.stderr.count("once\n") == 1
    printed = [line for line in done.stderr.splitlines() if line.startswith("python -m train")]
    assert printed == ["python -m train: rank 1 has no data", "python -m train: nobody has data"]


CRASHING_TASK = """
import atexit, sys, time, torch
from train.config import TrainingConfig as Config
from train.distributed import sum_over_ranks

def run(config, environment, device):
    sum_over_ranks(torch.ones(1))
    if environment.rank == 1:
        # Python may take long to leave. The peers must not fail before it has, or they are blamed.
        atexit.register(time.sleep, 1)
        sys.exit(3)
    while True:
        sum_over_ranks(torch.ones(1))
"""


def test_a_crash_ends_the_run_and_is_blamed_on_its_rank(python: Runner, project: Path) -> None:
    (project / "train/tasks/crashing.py").write_text(CRASHING_TASK)
    done = python.torchrun(2, "-m", "train", "crashing", "--cpu")
    assert done.returncode == 1
    assert re.search(r"Root Cause.*rank +: 1 \(local_rank: 1\)\s+exitcode +: 3 ", done.stderr, re.DOTALL), done.stderr


def test_several_processes_without_numpy(python: Runner, tmp_path: Path) -> None:
    """They print one sentence before they connect to each other; a single process prints none."""
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError('No module named numpy')")
    path = f"{tmp_path}{os.pathsep}{python.environment['PYTHONPATH']}"
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    flags = ("-W", "ignore", "-m", "train", "--data-dir", tmp_path / "none")
    done = python(*flags, PYTHONPATH=path, MASTER_PORT="9", **place)
    sentence = "several processes need numpy, which torch does not find here: pip install numpy"
    assert (done.returncode, done.stderr) == (1, f"python -m train: {sentence}\n")
    assert "no train-images-idx3-ubyte in" in python(*flags, PYTHONPATH=path).stderr
    program = (
        "from train.distributed import *\nwith process_group(JobEnvironment.from_environment(), torch.device('cpu')): 0"
    )
    done = python("-W", "ignore", "-c", program, PYTHONPATH=path, MASTER_PORT="9", **place)
    assert done.stderr.endswith(f"DeviceError: {sentence}\n")
