"""Check of hpc/job/usage.py, the sampler of a node: what it records of this process and its GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import torch
from kit import Check
from runner import REPOSITORY

SAMPLER = REPOSITORY / "hpc/job/usage.py"


def usage(check: Check) -> None:
    """Multiply matrices for half of the seconds, then compare the lines with those of node.sh's sampler."""
    file, seconds = check.folder / "usage.tsv", 6.0 if check.cuda else 3.0
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}
    held = 8 << 30 if check.cuda else 200 << 20
    # The job's processes are the descendants of this one's parent; the sampler ends with this process.
    command = [sys.executable, "-I", "-S", str(SAMPLER), str(file), str(os.getpid()), str(os.getppid()), "0", "1"]
    sampler = subprocess.Popen(command, env=environment)
    try:
        ballast = torch.ones(held // 4, device=check.device)
        matrix = torch.randn(*(2 * [8192 if check.cuda else 256]), device=check.device)
        begun, spent = time.monotonic(), time.process_time()
        while time.monotonic() < begun + seconds:
            matrix = torch.nn.functional.normalize(matrix @ matrix)
            check.synchronize()
        spent = time.process_time() - spent
        time.sleep(1.5)  # for a sample at the end
    finally:
        sampler.terminate()
        sampler.wait()
    assert len(ballast)
    names, *rows = (line.split("\t") for line in file.read_text().splitlines())
    lines = [dict(zip(names, row)) for row in rows]
    cpu, memory = float(lines[-1]["cpu_seconds"]), max(float(line["memory_bytes"]) for line in lines)
    what = "CPU and memory of the job's processes"
    figures = f"{cpu:.1f} s of CPU, {memory / 2**30:.2f} GiB, {len(lines)} lines"
    check.expect(cpu >= 0.8 * spent and memory > 0, what, figures)
    what = "use and memory of the GPU, by nvidia-smi"
    if not check.cuda:
        check.row("skipped", what, "there is no GPU")
        return
    if shutil.which("nvidia-smi") is None:
        check.row("skipped", what, "there is no nvidia-smi")
        return
    known = [line for line in lines if line["gpu_percent"]]
    busiest = max((float(line["gpu_percent"]) for line in known), default=0.0)
    most = max((int(line["gpu_memory_mib"]) for line in known), default=0)
    sound = busiest >= 50 and most * 2**20 >= held
    check.expect(sound, what, f"up to {busiest:.0f} %, {most:,} MiB in {len(known)} lines; held {held >> 20:,} MiB")
