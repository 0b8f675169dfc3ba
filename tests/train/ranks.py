"""Runs a function as several ranks of one run: processes that are forked from a server that has imported torch."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import time
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Callable

from runner import patience

from train.environment import JobEnvironment

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        *("torch._dynamo", "torch.distributed.fsdp", "torch.distributed.checkpoint", "fsspec", "numpy"),
        *("pytest", "train.join", "train.loop"),
    ]
)


class Ranks:
    """The processes of one run. `folder` gets their output and results."""

    def __init__(
        self,
        world_size: int,
        function: Callable[..., Any],
        *arguments: object,
        folder: Path,
        **environment: object,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        common = {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1"}
        common.update(MASTER_PORT=port, CHECKPOINT_DIRECTORY=folder / "checkpoints", SPOT_NOTICES="none")
        common.update(OUTPUT_PATH=folder / "outputs", **environment)
        self.processes: list[BaseProcess] = []
        for rank in range(world_size):
            (folder / f"result_{rank}").unlink(missing_ok=True)
            environ = {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
            process = context.Process(target=_main, args=(folder, environ, function, arguments), daemon=True)
            process.start()
            self.processes.append(process)

    def wait(self, seconds: float = 60) -> list[int]:
        """Return the exit statuses. Kill the ranks after the time-out, which is longer on a busy machine."""
        started = time.monotonic()
        for process in self.processes:
            while process.is_alive() and time.monotonic() - started < patience(seconds):
                process.join(1)
        self.kill()
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def errors(self) -> str:
        return "".join((self.folder / f"stderr_{rank}").read_text() for rank in range(len(self.processes)))

    def results(self, seconds: float = 60) -> list[Any]:
        """Return the result of each rank; every rank must have one."""
        statuses = self.wait(seconds)
        assert statuses == [0] * len(statuses), self.errors()
        return [pickle.loads((self.folder / f"result_{rank}").read_bytes()) for rank in range(len(self.processes))]


def _main(folder: Path, environ: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    from train.distributed import process_group

    # The ranks are daemons, so that they end with the tests; a loader's workers must still be their children.
    multiprocessing.current_process()._config["daemon"] = False
    rank = environ["RANK"]
    os.dup2(os.open(folder / f"stderr_{rank}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    environment = JobEnvironment.from_environment(environ)
    status = 1
    try:
        with process_group(environment, torch.device("cpu")):
            result = function(environment, *arguments)
        (folder / f"result_{rank}").write_bytes(pickle.dumps(result))
        status = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)
