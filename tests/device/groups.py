"""Checks of collectives, DistributedDataParallel and FSDP2 on one device."""

from __future__ import annotations

import time
import warnings

import torch
import torch.distributed as dist
from kit import GROUP_OF_ONE, TRAIN, TWO_RANKS, Check, Run
from one_rank import OneOfSeveral

from train.distributed import barrier, failed_anywhere, process_group, sum_over_ranks

LOSS_MAY_DIFFER = 0.1
"""Of the first epoch, relative to one process: bfloat16 rounds otherwise, and each rank's norms see its own samples."""


def nccl(check: Check) -> None:
    """Test the group of one rank as train/ makes it, and each collective that DDP, FSDP2 and checkpoints use."""
    if not check.cuda:
        check.row("skipped", "NCCL, one rank", "NCCL needs a GPU")
    warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has newer names, which 2.6 lacks
    environment = OneOfSeveral.from_environment({})
    with process_group(environment, check.device):
        backend = str(dist.get_backend_config())
        check.expect(("nccl" in backend) == check.cuda, "the group's back-end", backend)
        for dtype in (torch.float32, torch.bfloat16):
            value = torch.arange(1024, device=check.device).to(dtype)
            wrong = [name for name, result in collectives(value).items() if not torch.equal(result, value)]
            text = "all-reduce, broadcast, all-gather, reduce-scatter"
            check.expect(not wrong, f"{text}, {dtype}", f"wrong: {', '.join(wrong)}" if wrong else "")
        on_cpu = sum_over_ranks(torch.tensor(3.0)).item() == 3 and not failed_anywhere(None, environment)
        check.expect(on_cpu, "tensors of the CPU beside it, by Gloo")
        barrier(environment)
        value = torch.ones(25_000_000 if check.cuda else 250_000, device=check.device)
        dist.all_reduce(value)
        check.synchronize()
        begun = time.perf_counter()
        for _ in range(20):
            dist.all_reduce(value)
        check.synchronize()
        milliseconds = (time.perf_counter() - begun) / 20 * 1000
        check.expect(True, f"all-reduce of {value.nbytes / 1e6:.0f} MB", f"{milliseconds:.2f} ms")
    check.expect(not dist.is_initialized(), "the group's end")


def collectives(value: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the result of each collective for one rank's `value`: the value itself."""
    results = {name: value.clone() for name in ("all-reduce", "broadcast", "all-gather", "reduce-scatter")}
    dist.all_reduce(results["all-reduce"])
    dist.broadcast(results["broadcast"], 0)
    dist.all_gather_into_tensor(results["all-gather"].zero_(), value)
    dist.reduce_scatter_tensor(results["reduce-scatter"].zero_(), value)
    return results


def ddp(check: Check) -> None:
    alone = of_one_process(check)
    trained(check, "one rank in a group", check.train("ddp", check.flags("--epochs=2"), GROUP_OF_ONE), alone)
    # NCCL refuses two ranks on one GPU; Gloo copies through main memory.
    flags = check.flags("--epochs=2", "--backend=gloo")
    trained(check, "torchrun, two ranks by Gloo on one device", check.train("ddp_two", flags, TWO_RANKS), alone)


def fsdp(check: Check) -> None:
    """Shard units of 1,000 parameters or more, so that the small network has several, too."""
    alone = of_one_process(check)
    flags = check.flags("--epochs=2", "--parallelism=fsdp", "--shard-above=1000")
    trained(check, "one rank in a group", check.train("fsdp", flags, GROUP_OF_ONE), alone)
    flags += ["--gradient-accumulation=2", "--clip-gradients=100"]
    trained(check, "two parts a step, gradients clipped", check.train("fsdp_parts", flags, GROUP_OF_ONE), alone)
    text = "torchrun, two ranks"
    if check.cuda:
        check.row("skipped", text, "two ranks by NCCL need two GPUs")
    else:
        trained(check, text, check.train("fsdp_two", flags[:-2], TWO_RANKS), alone)


def of_one_process(check: Check) -> Run:
    """Return the same training by `python -m train` without a group; it runs once for both checks."""
    flags = check.flags("--epochs=2")
    folder = check.folder / "alone"
    if (folder / "checkpoints/final.pt").exists():
        return Run(0, [], folder)
    run = check.train("alone", flags, TRAIN)
    speed = f"{run.epochs[-1]['samples_per_second']:,.0f} samples/s" if run.status == 0 else f"status {run.status}"
    check.expect(run.status == 0, "python -m train, one process", speed, run)
    return run


def trained(check: Check, what: str, run: Run, alone: Run) -> None:
    """The run must end well, with a loss close to that of one process after one epoch, and lower after two."""
    what = f"bfloat16, {what}"
    if run.status != 0 or len(run.epochs) != 2 or len(alone.epochs) != 2:
        check.expect(False, what, f"status {run.status}, {len(run.epochs)} epochs", run)
        return
    (first, second), reference = (row["train_loss"] for row in run.epochs), alone.epochs[0]["train_loss"]
    near = abs(first / reference - 1) <= LOSS_MAY_DIFFER
    learns = second < first and all(value.isfinite().all() for value in run.weights.values())
    speed = run.epochs[1]["samples_per_second"]
    figures = f"loss {first:.4f} (one process {reference:.4f}), then {second:.4f}; {speed:,.0f} samples/s"
    check.expect(near and learns, what, figures, run)
