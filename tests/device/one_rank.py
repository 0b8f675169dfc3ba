"""Runs `python -m train TASK FLAGS...` as the only rank of a process group, with deterministic kernels.

    [PROCESS_GROUP=0] [DETERMINISTIC=1] python one_rank.py TASK FLAGS...

A run of one process needs no group, and train/ makes none. Here the process says that it is one of several, so that a
machine with one GPU tests NCCL, DistributedDataParallel, FSDP2 and sharded checkpoints with the code that several ranks
run.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from collections.abc import Mapping

if os.environ.get("DETERMINISTIC"):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts

import torch

import train.__main__ as program
from train.environment import JobEnvironment


class OneOfSeveral(JobEnvironment):
    """Return the environment of rank 0 of 1, with a process group."""

    several = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> JobEnvironment:
        alone = JobEnvironment.from_environment(environ)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        values = {field.name: getattr(alone, field.name) for field in dataclasses.fields(alone)}
        return cls(**{**values, "master_address": "127.0.0.1", "master_port": port})


def main() -> int:
    if os.environ.get("DETERMINISTIC"):
        # In ResNet9 only the pooling of whole images has no deterministic kernel; each of its outputs adds one value.
        torch.use_deterministic_algorithms(True, warn_only=True)
    if os.environ.get("PROCESS_GROUP") != "0":
        vars(program)["JobEnvironment"] = OneOfSeveral
    return program.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
