from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from runner import REPOSITORY

from train.environment import JobEnvironment, JobEnvironmentError

PLACE = ("rank", "local_rank", "world_size", "local_world_size", "node_rank", "node_count")
MASTER = {"MASTER_ADDR": "node1", "MASTER_PORT": "20001"}

TORCHRUN = {  # as `torchrun --nnodes 2 --nproc-per-node 2` sets them for its last worker
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "ROLE_RANK": "3",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
    **MASTER,
}
# What a batch script, or a shell of salloc, sees for `--nodes 2 --ntasks-per-node 2 --gpus-per-node a100:4`.
BATCH = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_NPROCS": "4",
    "SLURM_NNODES": "2",
    "SLURM_TASKS_PER_NODE": "2(x2)",
    "SLURM_GPUS_PER_NODE": "a100:4",
    "SLURM_JOB_GPUS": "0,1",
}
SRUN = {  # a task of `srun --ntasks 5` on nodes with 2, 2 and 1 tasks
    **BATCH,
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    **MASTER,
}
# What processes that LightningEnvironment starts see.
LIGHTNING = {"NODE_RANK": "0", "LOCAL_RANK": "1", "WORLD_SIZE": "2", **MASTER}
KIT = {"NNODES": "2", "NODE_RANK": "1", "N_PROC": "2", "ATTEMPT": "3"}
ALONE = (0, 0, 1, 1, 0, 1)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, ALONE, id="plain python"),
        pytest.param(BATCH, ALONE, id="plain python in a batch script"),
        pytest.param(
            {**BATCH, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"},
            ALONE,
            id="plain python in a shell that salloc starts by srun",
        ),
        pytest.param({**BATCH, **MASTER, **KIT}, ALONE, id="plain python in a batch script of hpc/"),
        pytest.param({"WORLD_SIZE": "1"}, ALONE, id="world size 1 without a rank"),
        pytest.param({"RANK": "", "WORLD_SIZE": "", "SLURM_STEP_NUM_TASKS": ""}, ALONE, id="empty is unset"),
        pytest.param(TORCHRUN, (3, 1, 4, 2, 1, 2), id="torchrun"),
        pytest.param({**TORCHRUN, **SRUN}, (3, 1, 4, 2, 1, 2), id="torchrun in a step of several tasks"),
        pytest.param(
            {**TORCHRUN, **KIT, "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"},
            (0, 0, 4, 2, 0, 2),
            id="torchrun in hpc/ that numbers the nodes otherwise than Slurm",
        ),
        pytest.param(
            {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", **MASTER},
            ALONE,
            id="torchrun with one worker",
        ),
        pytest.param(
            {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **MASTER},
            (1, 1, 2, 2, 0, 1),
            id="a launcher that does not count nodes, on one",
        ),
        pytest.param(
            {**SRUN, **KIT, "RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}, (2, 0, 4, 2, 1, 2), id="hpc/ with srun"
        ),
        pytest.param(SRUN, (3, 1, 5, 2, 1, 3), id="srun"),
        pytest.param(
            {**SRUN, "SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"},
            (4, 0, 5, 1, 2, 3),
            id="srun, last",
        ),
        pytest.param(
            {**SRUN, "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "4",
             "SLURM_LOCALID": "3", "SLURM_NODEID": "0"},
            (3, 3, 4, 4, 0, 1),
            id="srun on one node",
        ),
        pytest.param(
            {**SRUN, "SLURM_GPUS_PER_NODE": "gpu:a100:4", "SLURM_GPUS": "a100:8", "SLURM_GPUS_ON_NODE": "gpu:a100:4"},
            (3, 1, 5, 2, 1, 3),
            id="srun with GPUs of a kind",
        ),
        pytest.param(LIGHTNING, (1, 1, 2, 2, 0, 1), id="Lightning"),
        pytest.param({**BATCH, **LIGHTNING}, (1, 1, 2, 2, 0, 1), id="Lightning in a batch script"),
        pytest.param(
            {**LIGHTNING, "NNODES": "2", "NODE_RANK": "1", "WORLD_SIZE": "4"},
            (3, 1, 4, 2, 1, 2),
            id="Lightning, two nodes",
        ),
        pytest.param({**LIGHTNING, "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, ALONE, id="Lightning with one device"),
        pytest.param({**SRUN, "WORLD_SIZE": "5"}, (3, 1, 5, 2, 1, 3), id="srun with the world size stated"),
    ],
)  # fmt: skip
def test_place(environ: dict[str, str], expected: tuple[int, ...]) -> None:
    environment = JobEnvironment.from_environment(environ)
    assert tuple(getattr(environment, name) for name in PLACE) == expected
    several = expected != ALONE
    assert environment.master_address == ("node1" if several else None)
    assert environment.master_port == (20001 if several else None)


def without(environ: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({**TORCHRUN, "RANK": "x"}, "RANK is 'x', not a whole number from 0 to 3: start the processes by torchrun"),
        ({**TORCHRUN, "RANK": "4"}, "RANK is '4', not a whole number from 0 to 3: start"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK is '-1', not"),
        ({**TORCHRUN, "RANK": "1_0"}, "RANK is '1_0', not"),
        ({**TORCHRUN, "RANK": "\u0663"}, "RANK is '\u0663', not"),
        ({**TORCHRUN, "WORLD_SIZE": "0"}, "WORLD_SIZE is '0', not a whole number from 1"),
        ({**TORCHRUN, "LOCAL_RANK": "2"}, "LOCAL_RANK is '2', not a whole number from 0 to 1"),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "8"}, "LOCAL_WORLD_SIZE is '8', not a whole number from 1 to 4"),
        ({**TORCHRUN, "GROUP_RANK": "2"}, "GROUP_RANK is '2', not a whole number from 0 to 1"),
        ({**TORCHRUN, "GROUP_WORLD_SIZE": "1"}, "GROUP_WORLD_SIZE is '1', not a whole number from 2 to 4"),
        ({**TORCHRUN, "MASTER_PORT": "http"}, "MASTER_PORT is 'http', not a whole number from 1 to 65535: export"),
        (without(TORCHRUN, "WORLD_SIZE"), "WORLD_SIZE is not set: start the processes by torchrun or srun, or unset"),
        (without(TORCHRUN, "LOCAL_RANK"), "LOCAL_RANK is not set"),
        (without(TORCHRUN, "LOCAL_WORLD_SIZE"), "LOCAL_WORLD_SIZE or N_PROC is not set"),
        (without(TORCHRUN, "MASTER_ADDR"), "MASTER_ADDR is not set: export the name of one node"),
        (without(TORCHRUN, "MASTER_PORT"), "MASTER_PORT is not set: export a free TCP port"),
        (without(SRUN, "MASTER_ADDR"), "MASTER_ADDR is not set: export"),
        (without(TORCHRUN, "RANK"), "RANK is not set but WORLD_SIZE='4': start"),
        ({**SRUN, "WORLD_SIZE": "4"}, "RANK is not set but WORLD_SIZE='4': start"),
        ({**LIGHTNING, "NODE_RANK": "1"}, "NODE_RANK is '1', not 0: export NNODES"),
        ({**LIGHTNING, "LOCAL_RANK": "2"}, "LOCAL_RANK is '2', not a whole number from 0 to 1"),
        ({**LIGHTNING, "NNODES": "2", "WORLD_SIZE": "3"}, "WORLD_SIZE is 3, which 2 nodes do not share equally"),
        ({**SRUN, "SLURM_PROCID": "5"}, "SLURM_PROCID is '5', not a whole number from 0 to 4"),
        ({**SRUN, "SLURM_NODEID": "2"}, "SLURM_LOCALID is '1', not 0"),
        ({**SRUN, "SLURM_STEP_NUM_NODES": "2"}, "SLURM_STEP_NUM_NODES is '2', not 3"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "2(x2"}, "SLURM_STEP_TASKS_PER_NODE is '2(x2', not of the form 2(x3),1"),
        (without(SRUN, "SLURM_NODEID"), "SLURM_NODEID is not set"),
        ({"SPOT_NOTICES": "gcp,oracle"}, "SPOT_NOTICES is 'gcp,oracle': none, or some of gcp,aws,azure"),
        ({"ATTEMPT": "first"}, "ATTEMPT is 'first', not a whole number from 0"),
    ],
)
def test_contradictions(environ: dict[str, str], message: str) -> None:
    with pytest.raises(JobEnvironmentError, match=re.escape(message)) as caught:
        JobEnvironment.from_environment(environ)
    assert "\n" not in str(caught.value)


def test_folders_without_the_kit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    environment = JobEnvironment.from_environment({})
    assert environment.source_dir == REPOSITORY
    assert environment.project_name == REPOSITORY.name
    assert environment.exp_name == "local"
    assert environment.output_directory == Path("outputs")
    assert environment.checkpoint_directory == Path("checkpoints")
    assert environment.dataset_directory("digits") == tmp_path / "datasets" / "digits"
    assert environment.attempt == 0
    assert environment.run_directory is environment.stop_file is environment.node_local_directory is None
    assert environment.checkpoint_url is environment.heartbeat_file is environment.spot_notices is None
    assert JobEnvironment.from_environment({"SPOT_NOTICES": "none"}).spot_notices == ()
    scratch = JobEnvironment.from_environment({"SCRATCH": "/scratch/me"})
    assert scratch.dataset_directory("digits") == Path("/scratch/me") / REPOSITORY.name / "datasets" / "digits"


def test_folders_of_the_kit() -> None:
    environment = JobEnvironment.from_environment(
        {
            "source_dir": "/runs/a b/source",
            "project_name": "vision",
            "scratch_dir": "/scratch/me/vision",
            "SCRATCH": "/elsewhere",
            "exp_name": "baseline",
            "RUN_DIRECTORY": "/runs/a b",
            "CHECKPOINT_DIRECTORY": "/checkpoints",
            "CHECKPOINT_ARTIFACT_PATH": "/checkpoints",
            "OUTPUT_PATH": "/runs/a b/output",
            "STOP_FILE": "/runs/a b/stop",
            "ATTEMPT": "2",
            "SLURM_TMPDIR": "/localscratch/me.7.0",
            "CHECKPOINT_URL": "gs://bucket/baseline",
            "HEARTBEAT_FILE": "/tmp/beat 3",
            "SPOT_NOTICES": "gcp,aws",
        }
    )
    assert environment.dataset_directory("digits") == Path("/scratch/me/vision/datasets/digits")
    assert {name: str(value) for name, value in vars(environment).items() if name not in PLACE} == {
        "master_address": "None",
        "master_port": "None",
        "source_dir": "/runs/a b/source",
        "project_name": "vision",
        "scratch_dir": "/scratch/me/vision",
        "exp_name": "baseline",
        "run_directory": "/runs/a b",
        "checkpoint_directory": "/checkpoints",
        "output_directory": "/runs/a b/output",
        "stop_file": "/runs/a b/stop",
        "attempt": "2",
        "node_local_directory": "/localscratch/me.7.0",
        "checkpoint_url": "gs://bucket/baseline",
        "heartbeat_file": "/tmp/beat 3",
        "spot_notices": "('gcp', 'aws')",
    }


def test_frozen_and_keyword_only() -> None:
    environment = JobEnvironment.from_environment({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        environment.rank = 1  # type: ignore[misc]
    if sys.version_info >= (3, 10):
        with pytest.raises(TypeError):
            JobEnvironment(*vars(environment).values())


def test_one_reader_of_the_environment_and_no_torch() -> None:
    readers = [
        path
        for path in (REPOSITORY / "train").rglob("*.py")
        if re.search(r"\benviron\b(?!\[\"\w+\"\] = )|getenv", path.read_text())
    ]
    assert [path.name for path in readers] == ["environment.py"]
    program = "import sys, train.environment, train.prepare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=dict(os.environ), check=True)
