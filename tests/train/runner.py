"""Runs Python programs as a user would: in their own process, in a folder with a difficult name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCHER_VARIABLES = (
    *("SLURM_", "TORCHELASTIC_", "MASTER_", "GROUP_", "ROLE_", "LOCAL_", "RANK", "WORLD_SIZE", "N_PROC", "NNODES"),
    *("NODE_RANK", "ATTEMPT", "SCRATCH", "scratch_dir", "source_dir", "project_name", "exp_name", "RUN_DIRECTORY"),
    *("CHECKPOINT_", "OUTPUT_PATH", "STOP_FILE", "HEARTBEAT_FILE", "SPOT_NOTICES"),
)


def patience(seconds: float) -> float:
    """Return a time-out: three times as long, because cores may be slow or shared; with N processes a core, N times.

    It is at most 8 times as long.
    """
    load, _, _, running, _ = Path("/proc/loadavg").read_text().split()  # of the last minute, and now
    busy = max(float(load), int(running.partition("/")[0])) // (os.cpu_count() or 1)
    return seconds * min(max(busy, 3), 8)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until `condition` is true, at most `patience(seconds)`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < patience(seconds)
        time.sleep(0.01)


class Runner:
    """Runs Python in `project`; `work` is the test's own folder for outputs."""

    def __init__(self, project: Path, work: Path) -> None:
        self.work = work
        self.outputs, self.checkpoints = work / "the outputs", work / "the checkpoints"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_VARIABLES)},
            "OUTPUT_PATH": str(self.outputs),
            "CHECKPOINT_DIRECTORY": str(self.checkpoints),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(project),
        }

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.work,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        try:
            stdout, stderr = process.communicate(timeout=patience(80))
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def torchrun(self, ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *arguments)
