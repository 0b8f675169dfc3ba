"""Submits the job of the benchmark with submitit, as its README shows it, and prints the seconds of submit()."""

import sys
import time

import submitit

executor = submitit.AutoExecutor(folder=sys.argv[1])
executor.update_parameters(
    name="benchmark",
    nodes=2,
    tasks_per_node=1,
    cpus_per_task=4,
    gpus_per_node=2,
    mem_gb=20,
    timeout_min=60,
    slurm_additional_parameters={"begin": "now+1hour"},
)
begun = time.perf_counter()
executor.submit(print, "hello")
print(time.perf_counter() - begun)
