"""Logging: rows of metrics in a file, in W&B and in TensorBoard, and the result of the run."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Union

import torch
import torch.distributed as dist

from .distributed import sum_over_ranks
from .distributed_wandb import DistributedWandb
from .environment import JobEnvironment
from .files import replaced


class Metrics:
    """Logs to JSON lines of rank 0 in the output folder of the run, to W&B and to TensorBoard.

    Make it an item of Checkpoints: it saves the rows, so that a resumed run is one history everywhere.
    """

    def __init__(
        self, environment: JobEnvironment, wandb: DistributedWandb | None = None, *, tensorboard: bool = False
    ) -> None:
        """Create the output folder. W&B and TensorBoard start with `start`.

        Args:
            environment: names the output folder.
            wandb: not yet initialized. None: nothing is sent.
            tensorboard: write events to `tensorboard` in the output folder, if the package is installed.

        Raises:
            OSError: the folder cannot be created.
        """
        self.folder: Path | None = None
        self.lines: list[str] = []
        self._steps: list[int] = []  # Step of each line.
        self._wandb = wandb
        self._tensorboard = tensorboard and environment.rank == 0
        self._writer: Any = None
        self._first_step = 0  # First step that W&B does not have yet.
        self._started = self._closed = False
        if environment.rank == 0:
            self.folder = environment.output_directory
            self.folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start or resume the W&B run and the events. All ranks must call it, after the checkpoint was loaded.

        W&B sends rows when it can, and ends at once at a signal. It gets the earlier rows that it does not have
        again.
        """
        if self._started:
            return
        self._started = True
        if self._tensorboard:
            self._writer = self._open_tensorboard()
        if self._wandb is not None:
            run = self._wandb.init() if self._wandb.run_id is None else self._wandb.run  # Or a sweep's.
            # `wandb sync` appends each recording to the earlier ones: a repeated row would appear twice.
            if self._wandb.off_reason is None and not self._wandb.offline:
                self._first_step = run.starting_step
                # The rows are rank 0's. The runs of other ranks have theirs as far as they were sent.
                for line, step in zip(self.lines, self._steps) if self.folder else ():
                    self._send(json.loads(line), step)

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Append `values` to metrics.jsonl as one line of JSON, and send them. All ranks must call it.

        Args:
            values: the values, by name.
            step: such as the optimizer's step; above that of the previous line. Default: the number of lines so far.

        Raises:
            ValueError: a value is infinite or NaN, which JSON cannot represent.
        """
        line = json.dumps(values, allow_nan=False) + "\n"
        if not self._closed:
            self.start()
        if step is None:
            step = max(len(self.lines), self._steps[-1] + 1 if self._steps else 0)
        self.lines.append(line)
        self._steps.append(step)
        if self.folder:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(line)
        if self._writer is not None:
            self._write_events(line, step)
            self._writer.flush()
        self._send(values, step)

    def result(self, values: Mapping[str, float]) -> None:
        """Write `values` to result.json, which exists only if the run has finished, and to W&B's summary.

        Raises:
            ValueError: as for `log`.
        """
        if self.folder:
            with replaced(self.folder / "result.json") as file:
                file.write((json.dumps(values, allow_nan=False) + "\n").encode())
        if self._wandb is not None and self._started and not self._closed:
            self._wandb.summarize(values)

    def close(self, status: int = 0) -> None:
        """End the W&B run, with the program's exit status, and the events. Later rows go to the file only."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._wandb is not None and self._started and not self._closed:
            self._wandb.finish(exit_code=status)
        self._closed = True

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        code = error.code if isinstance(error, SystemExit) else 0 if error is None else 1
        self.close(code if isinstance(code, int) else 0 if code is None else 1)

    def state_dict(self) -> dict[str, Any]:
        # An attempt without W&B keeps the run id of earlier attempts.
        run_id = self._wandb.run_id or self._wandb.resume_id if self._wandb is not None else None
        return {"lines": list(self.lines), "steps": list(self._steps), "wandb_run_id": run_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore metrics.jsonl, because rows of steps that are trained again would appear twice.

        Raises:
            OSError: the file cannot be written.
        """
        self.lines = list(state["lines"])
        self._steps = list(state.get("steps", range(len(self.lines))))
        if self._wandb is not None:
            self._wandb.resume_id = self._wandb.resume_id or state.get("wandb_run_id")
        if self.folder:
            with replaced(self.folder / "metrics.jsonl") as file:
                file.write("".join(self.lines).encode())

    def _send(self, values: Mapping[str, Any], step: int) -> None:
        if self._wandb is not None and not self._closed and step >= self._first_step:
            self._wandb.log(dict(values), step=step)

    def _open_tensorboard(self) -> Any:  # noqa: ANN401
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            print(f"train.metrics: no events for TensorBoard: {error}: pip install tensorboard", file=sys.stderr)
            return None
        folder = Path(self.folder or "") / "tensorboard"
        there = any(folder.glob("events.out.tfevents.*"))
        # TensorBoard ignores events that an earlier attempt wrote after the checkpoint.
        self._writer = SummaryWriter(str(folder), purge_step=self._steps[-1] + 1 if self._steps else 0)
        for line, step in () if there else zip(self.lines, self._steps):
            self._write_events(line, step)
        return self._writer

    def _write_events(self, line: str, step: int) -> None:
        for name, value in json.loads(line).items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, step)


def open_tracking(
    environment: JobEnvironment,
    config: Mapping[str, Any] | None = None,
    *,
    no_wandb: bool = False,
    project: str | None = None,
    group: str | None = None,
    all_processes: bool = False,
    run_id: str | None = None,
    tensorboard: bool | None = None,
    trial: DistributedWandb | None = None,
) -> Metrics:
    """Return the metrics of a training, with W&B if there is a key and TensorBoard if it is installed.

        metrics = open_tracking(environment, vars(config), no_wandb=config.no_wandb)
        checkpoints = Checkpoints(environment, {..., "metrics": metrics})
        step = checkpoints.resume()
        metrics.start()
        with metrics:
            ...

    Args:
        environment: rank of this process, and the output folder.
        config: the hyper-parameters, for W&B.
        no_wandb: send nothing, whatever the environment says.
        project: project in W&B. Default: WANDB_PROJECT.
        group: group of the runs in W&B.
        all_processes: each rank has a run of its own, in one group.
        run_id: run to continue. WANDB_RUN_ID comes first, the run of the checkpoint last.
        tensorboard: write events. Default: if the package is installed.
        trial: started by a sweep; replaces all other settings of W&B.

    Raises:
        OSError: the output folder cannot be created.
    """
    if tensorboard is None:
        tensorboard = importlib.util.find_spec("tensorboard") is not None
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in (config or {}).items()}
    if trial is not None:
        trial.config.update(plain, allow_val_change=True)
        return Metrics(environment, trial, tensorboard=tensorboard)
    options: dict[str, Any] = {"project": project, "group": group, "all_processes": all_processes}
    wandb = DistributedWandb(environment, no_wandb=no_wandb, resume_id=run_id, config=plain, **options)
    return Metrics(environment, wandb, tensorboard=tensorboard)


class MetricsTracker:
    """Means of values over the samples of all ranks; each rank adds its own.

    `update` adds on the device of the values and does not wait; `means` sums over the ranks. A tracker can be saved in
    the middle of an epoch. Each rank has its own sums, and the ranks of a later attempt, more or fewer, have the same
    total.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}  # [weighted sum, weight] of each key

    def update(self, values: Mapping[str, Union[float, torch.Tensor]], weight: float = 1) -> None:  # noqa: UP007
        """Count `values`, each a mean over `weight` samples of this rank.

        Args:
            values: numbers or tensors of shape (), by name. Ranks may have different names.
            weight: number of samples, 0 or more.
        """
        for name, value in values.items():
            tensor = torch.as_tensor(value).detach()
            total = self._sums.get(name)
            if total is None or total.device != tensor.device:
                # MPS has no float64.
                precision = torch.float32 if tensor.device.type == "mps" else torch.float64
                none = torch.zeros(2, dtype=precision, device=tensor.device)
                total = self._sums[name] = none if total is None else none + total.to(none)
            total[0].add_(tensor, alpha=weight)  # In place, without temporary tensors, because every step calls this.
            total[1].add_(weight)

    def means(self) -> dict[str, float]:
        """Return the weighted mean of each name over all ranks, sorted by name. All ranks must call it.

        The sums do not change. Names without samples are omitted.
        """
        names = sorted(self._sums)
        if dist.is_initialized():
            every: list[list[str]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(every, names)
            names = sorted(set().union(*every))
        none = torch.zeros(2, dtype=torch.float64)
        mine = torch.stack([self._sums.get(name, none).cpu().double() for name in names] or [none])
        if dist.is_initialized() and "gloo" not in str(dist.get_backend_config()):
            mine = mine.cuda()  # NCCL has no collectives for CPU tensors.
        return {name: total / weight for name, (total, weight) in zip(names, sum_over_ranks(mine).tolist()) if weight}

    def reset(self) -> None:
        """Set the sums to zero, as at the start of an epoch."""
        self._sums = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of this rank."""
        return {name: total.cpu().clone() for name, total in self._sums.items()}

    def load_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """Load the sums of the former ranks that this rank replaces: one, several, or none."""
        self._sums = {}
        for state in states:
            for name, total in state.items():
                self._sums[name] = self._sums[name] + total if name in self._sums else total.clone()


class TimestampedTimer:
    """Prints on rank 0 (standard error): a time stamp, seconds since the last line, and seconds in total."""

    def __init__(self, environment: JobEnvironment, message: str = "start") -> None:
        self._speaks = environment.rank == 0
        self._start = self._last = time.monotonic()
        self.report(message)

    def report(self, message: str) -> float:
        """Print a line, and return the seconds since the previous one."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if self._speaks:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            total = now - self._start
            print(f"[{stamp}] {passed:9.3f} s, {total:9.3f} s in all: {message}", file=sys.stderr, flush=True)
        return passed
