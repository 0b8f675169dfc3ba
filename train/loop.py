"""The training loop of all tasks. It can be interrupted at each step and resumes with the same weights.

A run that is interrupted at any step, or at any batch of an evaluation, and started again ends with the weights of an
uninterrupted run. On a CPU, with the same number of ranks and one thread each, they are bit-identical. The loss of a
step is the mean over the samples (or tokens) of all ranks and all parts of an accumulated batch. One process, DDP and
FSDP therefore give the same results on the same batch.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
import multiprocessing
import shlex
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset

from . import random_state
from .checkpoint import CheckpointError, Checkpoints
from .distributed import failed_anywhere, shard, sum_over_ranks
from .distributed_wandb import DistributedWandb
from .environment import JobEnvironment
from .files import replaced
from .heartbeat import Heartbeat
from .interruption import NOT_FINISHED, Interruption
from .metrics import MetricsTracker, open_tracking
from .parallel import Parallelism, ParallelismError, gradients_kept, take_over_buffers, whole_state
from .sampler import ResumableSampler
from .save_clock import SaveClock
from .task import ConfigType, Task
from .torch_private import PrivateNameError

COMPILE_SECONDS = 3600.0
"""How long a step or an evaluation that compiles the model may take before it counts as hung."""
WRITE_SECONDS = 1800.0
"""The same limit for writing the results at the end."""


def run(
    task_class: type[Task[ConfigType]],
    config: ConfigType,
    environment: JobEnvironment,
    device: torch.device,
    initial: Mapping[str, torch.Tensor] | None = None,
    *,
    save_last: bool = False,
    trial: DistributedWandb | None = None,
) -> int:
    """Create the task on this rank and train it, starting from the newest checkpoint. All ranks must call it.

    Args:
        task_class: class of the task.
        config: settings of the task.
        environment: rank and folders of this process.
        device: device of this rank.
        initial: as for `fit`.
        save_last: as for `fit`.
        trial: as for `fit`.

    Returns:
        The exit status, the same on every rank: 0; 75 after an interruption whose checkpoint was saved; 1 if it could
        not be saved, the data is missing or invalid, a library is missing, the checkpoints belong to another program,
        or the training diverges.
    """
    problem, task = None, None
    try:
        task = task_class(config, environment, device)
    except FileNotFoundError as error:
        folder = config.data_dir or environment.dataset_directory(task_class.name)
        problem = f"{error}; to make it: python -m {__package__}.prepare {task_class.name} {shlex.quote(str(folder))}"
    except (OSError, ValueError, ImportError) as error:
        problem = str(error)
    if failed_anywhere(problem, environment) or task is None:
        return 1
    return fit(task, environment, device, initial, save_last=save_last, trial=trial)


def fit(
    task: Task[Any],
    environment: JobEnvironment,
    device: torch.device,
    initial: Mapping[str, torch.Tensor] | None = None,
    *,
    save_last: bool = False,
    trial: DistributedWandb | None = None,
) -> int:
    """Train and evaluate `task`. Rank 0 prints a line per epoch and writes the results.

    Args:
        task: the task; all ranks create the same one.
        environment: rank and folders of this process.
        device: device of this rank.
        initial: initial values of some parameters, by name; the others come from the seed.
        save_last: also save a checkpoint after the last step, so that a restart does not train again.
        trial: the W&B run that a sweep has started.

    Returns:
        As `run`.
    """
    problem, training = None, None
    try:
        training = _Training(task, environment, device, initial, save_last, trial)
        training.resume()
    except (OSError, CheckpointError, ParallelismError, PrivateNameError) as error:
        problem = str(error)
    if failed_anywhere(problem, environment) or training is None:
        return 1
    return training.run()


class _Training:
    """The objects of a training, and its steps."""

    def __init__(
        self,
        task: Task[Any],
        environment: JobEnvironment,
        device: torch.device,
        initial: Mapping[str, torch.Tensor] | None,
        save_last: bool,
        trial: DistributedWandb | None,
    ) -> None:
        config = task.config
        self.save_last = save_last
        self.task, self.config, self.environment, self.device = task, config, environment, device
        self.metrics = open_tracking(
            environment,
            dataclasses.asdict(config),
            no_wandb=config.no_wandb,
            project=config.wandb_project,
            group=config.wandb_group,
            all_processes=config.wandb_all_processes,
            tensorboard=config.tensorboard,
            trial=trial,
        )
        self.parallelism = Parallelism.of(config)
        seed = random_state.folded(config.seed)
        torch.manual_seed(seed)
        model = task.model()
        if initial is not None:
            model.load_state_dict(initial, strict=False)
        self.model = self.parallelism.apply(model, environment, device)
        torch.manual_seed(seed + 1 + environment.rank)  # For dropout and similar layers.
        self.generator = torch.Generator(device)

        self.sampler = ResumableSampler(len(task.train_data), environment, seed=seed, first_epoch=1)  # type: ignore[arg-type]
        share = math.ceil(config.batch_size / environment.world_size)
        self.part = math.ceil(share / config.gradient_accumulation)
        steps_per_epoch = math.ceil(len(self.sampler) / (self.part * config.gradient_accumulation))
        self.steps = config.epochs * steps_per_epoch
        self.optimizer = task.optimizer(self.model)
        self.schedule = task.schedule(self.optimizer, self.steps, steps_per_epoch)
        self.tracker = MetricsTracker()
        self.step = 0
        items = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "sampler": self.sampler}
        self.checkpoints = Checkpoints(
            environment, {**items, "tracker": self.tracker, "metrics": self.metrics}, frozen=task.saves_frozen
        )
        self.clock = SaveClock(config.save_minutes, environment, self.checkpoints.is_saving)
        self.compiled: set[Any] = set()

    def resume(self) -> None:
        self.step = self.checkpoints.resume()
        if self.step:
            self.say(f"resumed at step {self.step} of {self.steps}, in epoch {self.sampler.epoch}")
        elif self.environment.attempt > 0:
            # The earlier attempt left no checkpoint: training starts from the beginning.
            self.metrics.load_state_dict({"lines": [], "steps": []})

    def run(self) -> int:
        status = 1
        try:
            self.metrics.start()
            gc.freeze()  # Imported objects stay: exclude them from collection.
            gc.enable()
            status = self._run()
        finally:
            self.metrics.close(status)
        return status

    def _run(self) -> int:
        task, config = self.task, self.config
        self.started = time.monotonic() - self.checkpoints.notes.get("seconds", 0.0)
        metrics: dict[str, float] = {}
        totals: dict[str, torch.Tensor] = {}
        with Interruption(self.environment) as interruption, self.checkpoints:
            for epoch in range(self.sampler.epoch, config.epochs + 1):
                epoch_started, step_before = time.monotonic(), self.step
                with self.sampler.in_epoch(epoch):
                    samples = 0
                    for count in self._steps(epoch, interruption.heartbeat):
                        samples += count
                        if self._boundary(interruption):
                            return self._stop(interruption)
                        if config.dry_run:
                            break
                    if self.device.type == "cuda":
                        torch.cuda.synchronize(self.device)  # Wait for the last steps, for a correct speed.
                    speed = self.environment.world_size * samples / (time.monotonic() - epoch_started)
                    # Evaluate inside the epoch: a restart then continues at its end, with the evaluation.
                    evaluated = self._evaluate(interruption)
                    if evaluated is None:
                        return self._stop(interruption)
                totals = evaluated
                train_loss = self.tracker.means()["train_loss"]
                self.tracker.reset()
                metrics = {"train_loss": train_loss, **task.summarize(totals)}
                if failed_anywhere(self._divergence(metrics, epoch), self.environment):
                    return 1
                attempt = {"attempt": self.environment.attempt, "epoch": epoch}
                self.metrics.log({**attempt, **metrics, "samples_per_second": speed}, self.step)
                headline = f"{task.headline.replace('_', ' ')} {metrics[task.headline]:.4f}"
                self.say(f"epoch {epoch}/{config.epochs}: loss {train_loss:.4f}, {headline}, {speed:.0f} samples/s")
                if config.dry_run:
                    self.say(f"dry run: one step and one batch of the evaluation done, of step {step_before + 1}")
                    return 0
        with Heartbeat(self.environment).patience(WRITE_SECONDS):
            self._finish(totals, metrics)
        return 0

    def _steps(self, epoch: int, heartbeat: Heartbeat) -> Iterator[int]:
        """Take a step for each remaining batch of this rank in the epoch, and yield the number of its samples."""
        self.model.train()
        if hasattr(self.task.train_data, "epoch"):
            self.task.train_data.epoch = epoch
        batches = BatchSampler(self.sampler, self.part, drop_last=False)
        parts = iter(loader(self.task.train_data, batches, self.config.workers, self.device))
        accumulation = self.config.gradient_accumulation
        # No batch is left after an interruption at the last step of the epoch.
        while step_parts := list(itertools.islice(parts, accumulation)):
            count = min(len(self.sampler), self.part * accumulation)
            with self._compiling(count, heartbeat):
                self._train(step_parts)
            self.sampler.advance(count)
            self.step += 1
            yield count

    def _train(self, parts: list[Any]) -> None:
        weights = [self.task.weight(batch) for batch in parts]
        # Divide by the mean weight of the ranks in this step, because DDP and FSDP average the ranks' gradients.
        weight: float = sum(weights)
        if not self.task.weighs_samples:
            (total,) = self.clock.sum(self.step + 1, weight)
            weight = max(total, 1) / self.environment.world_size
        loss_sum: torch.Tensor | None = None
        for batch in parts[:-1]:
            with gradients_kept(self.model):
                loss_sum = _added(loss_sum, self._backward(batch, weight))
        loss_sum = _added(loss_sum, self._backward(parts[-1], weight))
        if self.config.clip_gradients:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradients)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self._loss, self._weight = loss_sum, sum(weights)
        self.tracker.update({"train_loss": loss_sum / max(1, self._weight)}, self._weight)

    def _backward(self, batch: Any, weight: float) -> torch.Tensor:  # noqa: ANN401
        """Run the forward and backward pass of one part, and return its summed loss."""
        batch = moved(batch, self.device)
        if type(self.task).augment is not Task.augment:
            place = (self.config.seed, self.step, self.environment.rank)
            self.generator.manual_seed(random_state.seed_of("augment", *place))
            batch = self.task.augment(batch, self.generator)
        with self.parallelism.autocast(self.device):
            loss = self.task.loss(self.model, batch)
        # The gradient of loss / weight, without dividing the loss and multiplying it again.
        loss.backward(torch.full_like(loss, 1 / weight))
        return loss.detach()

    def _boundary(self, interruption: Interruption) -> bool:
        """Log and save if due after a step. Return True to stop here, after a notice."""
        config = self.config
        if config.log_every and self.step % config.log_every == 0:
            loss_sum, count = self.clock.sum(self.step, self._loss.item(), self._weight)
            self.say(f"step {self.step} of {self.steps}: loss {loss_sum / count:.9g}")
        stop = interruption.agreed()
        if stop or config.dry_run:
            return stop and not config.dry_run
        due = bool(config.save_every) and self.step % config.save_every == 0
        if due or self.clock.due(self.step) or (self.save_last and self.step == self.steps):
            self._save()
        return False

    def _evaluate(self, interruption: Interruption) -> dict[str, torch.Tensor] | None:
        """Call `evaluate`. Return None to stop after a notice; the random generators are then as before."""
        random_numbers = random_state.capture()
        with self._compiling("evaluation", interruption.heartbeat):
            totals = evaluate(self.task, self.model, self.parallelism, interruption)
        if totals is None:
            random_state.restore(random_numbers)
        return totals

    def _compiling(self, what: object, heartbeat: Heartbeat) -> AbstractContextManager[None]:
        """A context for a computation that compiles the model if it is the first of its kind or size."""
        if not self.config.compile or what in self.compiled:
            return nullcontext()
        self.compiled.add(what)
        return heartbeat.patience(COMPILE_SECONDS)

    def _save(self) -> None:
        self.checkpoints.notes["seconds"] = time.monotonic() - self.started
        self.checkpoints.save(self.step)
        self.clock.saved()

    def _stop(self, interruption: Interruption) -> int:
        """Save, and return the exit status. A restart must find new progress, or it would repeat for ever."""
        self._save()
        saved = "saved" if self.checkpoints.wait() else "NOT saved"
        self.say(f"interrupted at step {self.step} of {self.steps} by {interruption.reason}: {saved}")
        problem = None
        if not self.checkpoints.progress_is_kept():
            problem = f"nothing that this attempt has done could be saved: it ends with 1 in place of {NOT_FINISHED}"
        return 1 if failed_anywhere(problem, self.environment) else NOT_FINISHED

    def _divergence(self, metrics: dict[str, float], epoch: int) -> str | None:
        if all(map(math.isfinite, metrics.values())):
            return None
        diverged = ", ".join(f"{name} {value}" for name, value in metrics.items() if not math.isfinite(value))
        return f"{diverged} in epoch {epoch}: try a --learning-rate below {self.config.learning_rate}"

    def _finish(self, totals: dict[str, torch.Tensor], metrics: dict[str, float]) -> None:
        state = whole_state(self.model, frozen=self.task.saves_frozen)
        if self.environment.rank == 0:
            with replaced(self.environment.checkpoint_directory / "final.pt") as file:
                torch.save(state, file)
            self.task.write(state)
        seconds = time.monotonic() - self.started
        speed = self.config.epochs * len(self.task.train_data) / seconds  # type: ignore[arg-type]
        result = {**metrics, "epochs": self.config.epochs, "seconds": seconds, "samples_per_second": speed}
        cost = ""
        if self.config.rate_per_hour:
            result["cost"] = self.config.rate_per_hour * seconds / 3600
            cost = f", cost {result['cost']:.4f}"
        self.say(f"{self.task.final(totals, metrics)}, {seconds:.1f} s, {speed:.0f} samples/s{cost}")
        self.metrics.result({**result, "seed": self.config.seed, "world_size": self.environment.world_size})

    def say(self, line: str) -> None:
        if self.environment.rank == 0:
            print(line, flush=True)


def loader(data: Dataset[Any], batches: Iterable[list[int]], workers: int, device: torch.device) -> Iterable[Any]:
    """Return an iterable of the `batches` of `data`, made by its own `collate` if it has one."""
    tensors, fetch, collate = (getattr(data, name, None) for name in ("tensors", "__getitems__", "collate"))
    # Copies from pinned memory overlap with the computation. Tensors on the device are not pinned.
    pinned = device.type == "cuda" and (tensors is None or not tensors[0].is_cuda)
    if fetch and collate and not workers and not pinned:
        # This process fetches whole batches: a DataLoader would double the time.
        return (collate(fetch(batch)) for batch in batches)
    context = None
    if workers:
        # A fork of this process would inherit its threads and CUDA. The fork server has neither. It imports what all
        # workers need; "torch" too, because Python 3.11 does not find this module if only sys.path leads to it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", __name__])
    return DataLoader(
        data,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context=context,
        worker_init_fn=_outlive_a_notice if workers else None,
        collate_fn=collate,
        pin_memory=pinned,
        # A loader draws a random number each time that iteration starts, so once more after a resume.
        generator=torch.Generator(),
    )


def _outlive_a_notice(worker: int) -> None:
    """Ignore SIGTERM in workers: Slurm signals all processes of a step, and the training must still save."""
    del worker
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@torch.no_grad()
def evaluate(
    task: Task[Any], model: nn.Module, parallelism: Parallelism, interruption: Interruption | None = None
) -> dict[str, torch.Tensor] | None:
    """Return the sums of `task.evaluate` over the test data. Exactly one rank counts each sample.

    All ranks must call it. All take the same number of forward passes, because with FSDP each pass is a collective.
    Return None if `interruption` asked to stop between two passes.
    """
    config, environment = task.config, task.environment
    model.eval()
    take_over_buffers(model)
    size = len(task.test_data)  # type: ignore[arg-type]
    mine = list(shard(size, environment))
    count = math.ceil(math.ceil(size / environment.world_size) / config.test_batch_size)
    batches = [mine[at : at + config.test_batch_size] for at in range(0, len(mine), config.test_batch_size)]
    counted = len(batches)
    batches += [[0]] * (count - counted)  # A rank with one batch fewer runs a sample that is not counted.
    if config.dry_run:
        batches = batches[:1]
    totals: dict[str, torch.Tensor] = {}
    # MPS has no float64.
    precision = torch.float32 if task.device.type == "mps" else torch.float64
    for number, batch in enumerate(loader(task.test_data, batches, config.workers, task.device)):
        if interruption is not None and interruption.agreed() and not config.dry_run:
            return None
        with parallelism.autocast(task.device):
            sums = task.evaluate(model, moved(batch, task.device))
        for name, value in sums.items():
            counts = value if number < counted else torch.zeros_like(value)
            totals[name] = totals.get(name, 0) + counts.to(task.device, precision)
    return {name: sum_over_ranks(totals[name].double().cpu()) for name in sorted(totals)}


def moved(batch: Any, device: torch.device) -> Any:  # noqa: ANN401
    """Return `batch`, a tensor or a nested tuple, list or mapping of tensors, on `device`."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [moved(value, device) for value in batch]
    return batch


def _added(total: torch.Tensor | None, value: torch.Tensor) -> torch.Tensor:
    return value if total is None else total + value
