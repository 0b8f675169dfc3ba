"""The only module that reads the environment: rank and folders of this process.

torchrun, `srun python -m train` and plain `python -m train` all give the same `JobEnvironment`. torch is not imported,
so that programs that must start fast can use this too.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_ALONE = {"rank": 0, "local_rank": 0, "world_size": 1, "local_world_size": 1, "node_rank": 0, "node_count": 1}
_FIXES = {
    "ATTEMPT": "unset it, or give the number of earlier starts",
    "MASTER_ADDR": "export the name of one node, the same for all processes",
    "SPOT_NOTICES": "none, or some of gcp,aws,azure; unset it to poll the cloud whose machine this is",
    "NODE_RANK": "export NNODES, the number of nodes, as Lightning does not",
    "MASTER_PORT": "export a free TCP port of the node MASTER_ADDR, the same for all processes",
}
_LAUNCH = "start the processes by torchrun or srun, or unset RANK and WORLD_SIZE for a single one"

# Keyword-only fields are enforced from Python 3.10 on; in 3.9 they are only a convention.
KEYWORD_ONLY = {"kw_only": True} if sys.version_info >= (3, 10) else {}


class JobEnvironmentError(ValueError):
    """The environment is incomplete or contradictory. The message names the variable, its value and the fix."""


@dataclass(frozen=True, **KEYWORD_ONLY)
class JobEnvironment:
    """The place of one process in the run, and the folders of the run."""

    rank: int
    """Rank of this process in the run: 0 to world_size - 1."""
    local_rank: int
    """Rank of this process on its node: 0 to local_world_size - 1."""
    world_size: int
    """Processes in the run."""
    local_world_size: int
    """Processes on this node."""
    node_rank: int
    """Number of this node, as the launcher counts: 0 to node_count - 1."""
    node_count: int
    """Nodes in the run."""
    master_address: str | None
    """Host name or IP address of the rendezvous. None for a single process."""
    master_port: int | None
    """TCP port of the rendezvous. None for a single process."""
    source_dir: Path
    """Folder of the project's files as they were at submission. Default: the parent of train/."""
    project_name: str
    """Name of the project. Default: the name of source_dir."""
    scratch_dir: Path
    """Folder of the project that all nodes share. Default: ${SCRATCH}/project_name, else the working directory."""
    exp_name: str
    """Name of the experiment. Default: local."""
    run_directory: Path | None
    """Folder with the record of the run. None without hpc/."""
    checkpoint_directory: Path
    """Folder of checkpoints, shared by all ranks and attempts. Default: ./checkpoints."""
    output_directory: Path
    """Folder of results, shared by all ranks and attempts. Default: ./outputs."""
    stop_file: Path | None
    """The run must stop when this file exists. None without hpc/."""
    attempt: int
    """Number of restarts so far."""
    node_local_directory: Path | None
    """Fast folder of the job on this node (SLURM_TMPDIR). None if there is none."""
    checkpoint_url: str | None
    """URL (fsspec: gs://, s3://) of the bucket or folder to which the experiment's checkpoints are copied."""
    heartbeat_file: Path | None
    """File to touch while this rank makes progress. None: nobody watches."""
    spot_notices: tuple[str, ...] | None
    """Clouds to poll for notices of a machine's end: gcp, aws, azure. None: detect the cloud of this machine."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> JobEnvironment:
        """Read `environ`, by default that of the process. An empty value counts as unset.

        If RANK is set, RANK and WORLD_SIZE decide; torchrun and hpc/ set both. Otherwise NODE_RANK and LOCAL_RANK
        decide, which Lightning sets. Otherwise a Slurm step of several tasks is one run with that many ranks.
        Otherwise this is rank 0 of 1. SLURM_PROCID and SLURM_NTASKS do not show a step, because batch scripts and
        salloc shells have them too. SLURM_STEP_NUM_TASKS does: only srun sets it, to 1 in a shell that salloc or a
        user starts with srun.

        Raises:
            JobEnvironmentError: a variable is missing, malformed, or contradicts another.
        """
        values = _Values(os.environ if environ is None else environ)
        if values.text("RANK"):
            place = _place_from_launcher(values)
        elif all(values.text(name) for name in ("NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")):
            place = _place_from_lightning(values)
        else:
            place = _place_from_step(values)
        several = place["world_size"] > 1
        source_dir = values.path("source_dir") or Path(__file__).resolve().parent.parent
        project_name = values.text("project_name") or source_dir.name
        scratch = values.path("SCRATCH")
        return cls(
            **place,
            master_address=values.required("MASTER_ADDR") if several else None,
            master_port=values.integer("MASTER_PORT", low=1, high=65535) if several else None,
            source_dir=source_dir,
            project_name=project_name,
            scratch_dir=values.path("scratch_dir") or (scratch / project_name if scratch else Path.cwd()),
            exp_name=values.text("exp_name") or "local",
            run_directory=values.path("RUN_DIRECTORY"),
            checkpoint_directory=values.path("CHECKPOINT_DIRECTORY", "CHECKPOINT_ARTIFACT_PATH") or Path("checkpoints"),
            output_directory=values.path("OUTPUT_PATH") or Path("outputs"),
            stop_file=values.path("STOP_FILE"),
            attempt=values.integer("ATTEMPT", low=0, default=0),
            node_local_directory=values.path("SLURM_TMPDIR"),
            checkpoint_url=values.text("CHECKPOINT_URL"),
            heartbeat_file=values.path("HEARTBEAT_FILE"),
            spot_notices=_spot_notices(values),
        )

    @property
    def several(self) -> bool:
        """Whether there is more than one rank, so that they need a process group."""
        return self.world_size > 1

    def dataset_directory(self, name: str) -> Path:
        """Return the default folder of the data set `name`."""
        return self.scratch_dir / "datasets" / name


@dataclass(frozen=True, **KEYWORD_ONLY)
class WandbEnvironment:
    """The environment's settings of Weights & Biases. The key itself is not read; the client reads it."""

    mode: str
    """WANDB_MODE: online (the default), offline, shared or disabled. WANDB_DISABLED also disables it."""
    has_key: bool
    """Whether a variable has a key or names a file with a token. A key may still be in netrc."""
    netrc: Path
    """The file that may contain the key, as the client finds it."""
    run_id: str | None
    """Id of the run to start or resume."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> WandbEnvironment:
        """Read `environ`, by default that of the process. An empty value counts as unset."""
        values = _Values(os.environ if environ is None else environ)
        mode = (values.text("WANDB_MODE") or "online").lower()
        if (values.text("WANDB_DISABLED") or "").lower() in ("1", "true", "yes", "on"):
            mode = "disabled"
        beside = [Path(name).expanduser() for name in ("~/.netrc", "~/_netrc")]
        return cls(
            mode={"dryrun": "offline", "run": "online"}.get(mode, mode),
            has_key=values.first_set("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE") is not None,
            netrc=(values.path("NETRC") or next(filter(Path.exists, beside), beside[0])).expanduser(),
            run_id=values.text("WANDB_RUN_ID"),
        )


def _spot_notices(values: _Values) -> tuple[str, ...] | None:
    text = values.text("SPOT_NOTICES")
    if text is None or text == "none":
        return None if text is None else ()
    clouds = tuple(text.split(","))
    if not {"gcp", "aws", "azure"}.issuperset(clouds):
        _fail("SPOT_NOTICES", f"is {text!r}")
    return clouds


def _place_from_launcher(values: _Values) -> dict[str, int]:
    """Prefer torchrun's own variables: its rendezvous may number the nodes differently than Slurm and hpc/."""
    world_size = values.integer("WORLD_SIZE", low=1)
    rank = values.integer("RANK", high=world_size - 1)
    if world_size == 1:
        return _ALONE
    local_world_size = values.integer("LOCAL_WORLD_SIZE", "N_PROC", low=1, high=world_size)
    several_nodes = local_world_size < world_size
    node_count = values.integer("GROUP_WORLD_SIZE", "NNODES", low=2, high=world_size) if several_nodes else 1
    return {
        "rank": rank,
        "local_rank": values.integer("LOCAL_RANK", high=local_world_size - 1),
        "world_size": world_size,
        "local_world_size": local_world_size,
        "node_rank": values.integer("GROUP_RANK", "NODE_RANK", high=node_count - 1) if several_nodes else 0,
        "node_count": node_count,
    }


def _place_from_lightning(values: _Values) -> dict[str, int]:
    """The place of a process that LightningEnvironment started. The number of nodes is NNODES, or one."""
    world_size = values.integer("WORLD_SIZE", low=1)
    node_count = values.integer("NNODES", low=1, high=world_size, default=1)
    node_rank = values.integer("NODE_RANK", high=node_count - 1)
    local_world_size = world_size // node_count
    if local_world_size * node_count != world_size:
        _fail("WORLD_SIZE", f"is {world_size}, which {node_count} nodes do not share equally")
    if world_size == 1:
        return _ALONE
    local_rank = values.integer("LOCAL_RANK", high=local_world_size - 1)
    return {
        "rank": node_rank * local_world_size + local_rank,
        "local_rank": local_rank,
        "world_size": world_size,
        "local_world_size": local_world_size,
        "node_rank": node_rank,
        "node_count": node_count,
    }


def _place_from_step(values: _Values) -> dict[str, int]:
    """The place of a task of `srun python -m train`, or of a single process."""
    world_size = values.integer("SLURM_STEP_NUM_TASKS", low=1, default=1)
    if values.integer("WORLD_SIZE", low=1, default=world_size) != world_size:
        _fail("RANK", f"is not set but WORLD_SIZE={values.required('WORLD_SIZE')!r}")
    if world_size == 1:
        return _ALONE
    tasks_per_node = _expand(values.required("SLURM_STEP_TASKS_PER_NODE"))
    node_count = values.integer("SLURM_STEP_NUM_NODES", low=len(tasks_per_node), high=len(tasks_per_node))
    node_rank = values.integer("SLURM_NODEID", high=node_count - 1)
    return {
        "rank": values.integer("SLURM_PROCID", high=world_size - 1),
        "local_rank": values.integer("SLURM_LOCALID", high=tasks_per_node[node_rank] - 1),
        "world_size": world_size,
        "local_world_size": tasks_per_node[node_rank],
        "node_rank": node_rank,
        "node_count": node_count,
    }


def _expand(tasks_per_node: str) -> list[int]:
    """Expand Slurm's short form: "2(x3),1" is [2, 2, 2, 1]."""
    tasks: list[int] = []
    for part in tasks_per_node.split(","):
        match = re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", part)
        if match is None:
            _fail("SLURM_STEP_TASKS_PER_NODE", f"is {tasks_per_node!r}, not of the form 2(x3),1")
        tasks += [int(match[1])] * int(match[2] or 1)
    return tasks


class _Values:
    """Typed access to environment variables. If several names are given, the first one that is set counts."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def first_set(self, *names: str) -> str | None:
        return next((name for name in names if self.environ.get(name)), None)

    def text(self, *names: str) -> str | None:
        name = self.first_set(*names)
        return self.environ[name] if name else None

    def path(self, *names: str) -> Path | None:
        text = self.text(*names)
        return Path(text) if text else None

    def required(self, *names: str) -> str:
        text = self.text(*names)
        return text if text else _fail(" or ".join(names), "is not set")

    def integer(self, *names: str, low: int = 0, high: int = 10**9 - 1, default: int | None = None) -> int:
        name = self.first_set(*names)
        if name is None and default is not None:
            return default
        text = self.required(*names)
        if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
            expected = f"{low}" if low == high else f"a whole number from {low} to {high}"
            _fail(name or "", f"is {text!r}, not {expected}")
        return int(text)


def _fail(name: str, problem: str) -> NoReturn:
    raise JobEnvironmentError(f"{name} {problem}: {_FIXES.get(name, _LAUNCH)}")
