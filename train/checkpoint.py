"""Atomic checkpoints: saved in the background of the training; the newest valid one is loaded.

    checkpoints = Checkpoints(environment, {"model": model, "optimizer": optimizer, "scheduler": scheduler,
                                            "sampler": sampler, "metrics": tracker})
    step = checkpoints.resume()
    ...
    checkpoints.save(step)

A checkpoint is a folder, step_00000120, with files of torch.distributed.checkpoint and a manifest of their sizes and
SHA-256. It is complete only with the manifest. It is written as .step_00000120.partial, synced, and renamed once it
has the manifest. Where folders cannot be renamed, as in mounted buckets, its files are renamed, the manifest last.
`latest` is a relative link, for people. With CHECKPOINT_URL each checkpoint is also copied to a bucket.

How long training pauses for a save: another thread copies parameters and optimizer states while the next forward and
backward pass read them. The next optimizer step waits until the copy is done (through a hook of torch, so the program
does nothing). Writing, hashing and uploading run in parallel with the training.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from . import manifest
from .environment import JobEnvironment
from .files import replaced
from .heartbeat import Heartbeat
from .interruption import NOT_FINISHED, in_order
from .manifest import MANIFEST, InvalidCheckpointError, Manifest
from .mirror import Mirror, MirrorError
from .state import COMMON, Snapshot, Stage, State, StateError, bytes_of, first_cause, own_file, write

TIMEOUT = timedelta(hours=2)
"""Limit until all ranks have written, or uploaded, their parts."""

QUIET_SECONDS = 600.0
"""How long a save or a load may show no progress, as during the sync of a file, before it counts as hung."""

_LINK = ".step_latest"

Result = TypeVar("Result")


class CheckpointError(RuntimeError):
    """This program cannot load a checkpoint, or cannot use the place for checkpoints."""


class _FailedError(Exception):
    """A rank failed; raised on all ranks."""


class Checkpoints:
    """The checkpoints of an experiment. All ranks create it inside the process group, and call the same methods.

    They are in environment.checkpoint_directory, which all ranks must share.
    """

    def __init__(
        self,
        environment: JobEnvironment,
        items: Mapping[str, Any],
        *,
        keep_last: int = 2,
        asynchronous: bool = True,
        frozen: bool = True,
    ) -> None:
        """Prepare. Nothing is read or written yet.

        Args:
            environment: rank of this process, and the folder and URL for checkpoints.
            items: objects with a state, by name: modules, optimizers, and objects that have state_dict() and
                load_state_dict() if their state is the same on all ranks, or load_state_dicts() if it differs.
            keep_last: number of complete checkpoints to keep, besides those saved with `force_save`.
            asynchronous: False waits for each save.
            frozen: False omits parameters that need no gradient; the program must then create the same ones again.

        Raises:
            CheckpointError: an item has no state, or CHECKPOINT_URL needs a package that is not installed.
            ValueError: keep_last is below 1.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, not {keep_last}")
        self.notes: dict[str, Any] = {}
        """Small values of the program, saved and restored with the rest. `wandb_run_id` is added automatically."""
        self.environment, self.keep_last, self.asynchronous = environment, keep_last, asynchronous
        self.folder = environment.checkpoint_directory
        self._heartbeat = Heartbeat(environment, begins=False)
        url = environment.checkpoint_url
        try:
            self._state = State(items, frozen=frozen)
            self._mirror = Mirror(url, self._heartbeat.beat) if url else None
        except (StateError, MirrorError) as error:
            raise CheckpointError(str(error)) from None
        parameters = (parameter for module in self._state.modules.values() for parameter in module.parameters())
        device = next((parameter.device for parameter in parameters), torch.device("cpu"))
        self._device, self._stage = device, Stage(device)
        # The saving threads communicate in a group of their own, with CPU tensors, while the training runs its
        # collectives.
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if environment.several else None
        # torch warns of this in a run of one process.
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized", UserWarning)
        self._thread: threading.Thread | None = None
        self._staged = threading.Event()
        self._staged.set()
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._wait_for_stage())
            for optimizer in self._state.optimizers.values()
        ]
        self._step: int | None = None  # Step of the newest checkpoint that is known to be complete.
        self._saved = True  # Whether the last save succeeded; also if there was none.
        self._milestone = False  # Whether the checkpoint of `_step` is one.
        self._progress = False  # Whether a checkpoint was saved since the start.
        self._bad: set[str] = set()  # Found invalid at the start. Removed once there is a new checkpoint.
        self._kept: dict[str, bool] = {}  # Whether a copy in the mirror is a milestone.

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if in_order(error):
            self.close()
            if isinstance(error, SystemExit) and error.code == NOT_FINISHED and not self.progress_is_kept():
                self._say(f"nothing is saved that a restart could go on from: ended with 1 in place of {NOT_FINISHED}")
                raise SystemExit(1) from None

    def close(self) -> None:
        """Wait for the save in progress, and remove the hooks of the optimizers."""
        self.wait()
        for hook in self._hooks:
            hook.remove()
        self._group = None

    def wait(self) -> bool:
        """Wait until the last save has ended. Return whether its checkpoint is complete, the same on all ranks."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._saved

    def is_saving(self) -> bool:
        """Whether the last save is still running. Ranks may see its end at different times."""
        return self._thread is not None and self._thread.is_alive()

    def progress_is_kept(self) -> bool:
        """Wait as `wait` does. Return whether a restart would keep progress of this attempt, the same on all ranks.

        This is so if the last save or an earlier one of this attempt succeeded, or if nothing was new since `resume`.
        """
        return (self.wait() and self._step is not None) or self._progress

    def save(self, step: int, *, force_save: bool = False) -> None:
        """Save the state after `step` steps, in the background. Wait for the previous save first.

        Until the next optimizer step, nothing else may change parameters. A failure is printed on standard error and
        does not harm earlier checkpoints; `wait` returns it.

        Args:
            step: steps done, the same on all ranks. A step that was saved already is not saved again.
            force_save: save a milestone, which is never removed.
        """
        self.wait()
        if self._saved and step == self._step and (self._milestone or not force_save):
            return
        snapshot: Snapshot | None = None
        problem: str | None = None
        try:
            snapshot = self._state.collect(step, self.notes, self.environment.rank)
        except StateError as error:
            problem = str(error)
        self._saved = False
        self._stage.order()
        self._staged.clear()
        self._thread = threading.Thread(
            target=self._run, args=(step, force_save, snapshot, problem), name="checkpoint", daemon=True
        )
        self._thread.start()
        if not self._hooks:
            self._wait_for_stage()
        if not self.asynchronous:
            self.wait()

    def resume(self) -> int:
        """Load the newest valid checkpoint of the folder or the mirror. Return its step, or 0 if there is none.

        An incomplete checkpoint is skipped with a warning.

        Raises:
            CheckpointError: the checkpoint belongs to another program, or the mirror does not answer.
        """
        with self._heartbeat.patience(QUIET_SECONDS):
            return self._resume()

    # The start.

    def _resume(self) -> int:
        try:
            candidates = self._together(self._candidates)[0]
            for name, in_mirror in candidates:
                try:
                    found = self._fetch(name) if in_mirror else self._verify(name)
                except _FailedError as error:
                    self._remove_partial()
                    if not in_mirror:
                        self._bad.add(name)
                    where = self.environment.checkpoint_url if in_mirror else self.folder
                    self._say(f"skipped {where}/{name}: {error}")
                    continue
                self._load(name, found)
                return found.step
        except _FailedError as error:
            raise CheckpointError(str(error)) from None
        return 0

    def _candidates(self) -> list[tuple[str, bool]]:
        """Names, and whether they are in the mirror: the newest first, of equals that of the folder first."""
        if self.environment.rank != 0:
            return []
        local = set()
        if self.folder.is_dir():
            for entry in self.folder.iterdir():
                # Leftovers of an earlier attempt that was writing or removing when it ended.
                if entry.name == _LINK:
                    entry.unlink()
                elif entry.name.startswith(".step_"):
                    shutil.rmtree(entry, ignore_errors=True)
            local = {path.name for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink()}
        mirrored = set()
        if self._mirror:
            try:
                mirrored = set(self._mirror.names())
            except Exception as error:  # Each back-end has its own.
                raise CheckpointError(f"CHECKPOINT_URL {self._mirror.url}: no answer: {error}") from error
        return [
            (name, where)
            for name in manifest.newest_first(local | mirrored)
            for where, there in ((False, local), (True, mirrored))
            if name in there
        ]

    def _verify(self, name: str) -> Manifest:
        """Each rank checks some of the files."""
        folder = self.folder / name
        found = self._together(lambda: manifest.read(folder))[0]
        self._together(lambda: found.check(folder, self._share(found), self._heartbeat.beat))
        return found

    def _fetch(self, name: str) -> Manifest:
        """Each rank downloads some of the files from the mirror."""
        assert self._mirror is not None  # noqa: S101  (for mypy)
        mirror, rank = self._mirror, self.environment.rank
        partial = self.folder / f".{name}.partial"
        found = self._together(lambda: mirror.manifest(name) if rank == 0 else None)[0]
        assert found is not None  # noqa: S101
        share = self._share(found)
        if rank == 0:
            self._say(f"bringing {name} from {mirror.url}")
        self._together(lambda: self._make_empty(partial) if rank == 0 else None)
        self._together(lambda: mirror.download(partial, name, share))
        self._together(lambda: found.check(partial, share, self._heartbeat.beat))

        def finish() -> str:
            for file in found.files:
                _sync(partial / file)
            return self._complete(partial, name, found)

        # First remove an incomplete local checkpoint of this name.
        self._together(lambda: shutil.rmtree(self.folder / name, ignore_errors=True) if rank == 0 else None)
        self._together(lambda: finish() if rank == 0 else "")
        self._bad.discard(name)
        return found

    def _load(self, name: str, found: Manifest) -> None:
        place = (self.environment.rank, self.environment.world_size)

        def load() -> dict[str, Any]:
            return self._state.restore(self.folder / name, found.world_size, *place, self._group, self._heartbeat.beat)

        self.notes = self._together(load, keep=True)[self.environment.rank]["notes"]
        self._step, self._milestone = found.step, found.milestone

    # The saving thread.

    def _run(self, step: int, milestone: bool, snapshot: Snapshot | None, problem: str | None) -> None:
        with self._heartbeat.patience(QUIET_SECONDS):
            name = self._save(step, milestone, snapshot, problem)
            if name is None:
                return
            for what, function in (("older ones were not removed", self._prune), ("it was not copied", self._upload)):
                try:
                    function(name)
                except Exception as error:  # noqa: BLE001  (each back-end has its own)
                    self._say(f"the checkpoint of step {step} is whole, but {what}: {_cause(error)}")

    def _save(self, step: int, milestone: bool, snapshot: Snapshot | None, problem: str | None) -> str | None:
        """Save, and return the name of the complete checkpoint, or None after a failure."""
        rank = self.environment.rank
        try:
            copied = self._copy(snapshot, problem)
            size = sum(self._together(lambda: self._size(snapshot, copied())))
            name = self._together(lambda: self._prepare(step, size) if rank == 0 else "")[0]
            self._write(step, milestone, name, snapshot, copied())
            self._step, self._milestone, self._saved, self._progress = step, milestone, True, True
            return name
        except (Exception, CheckpointException) as error:  # noqa: BLE001  (no failure here may end the training)
            last = "there is none before it" if self._step is None else f"that of step {self._step} is unharmed"
            self._say(f"the checkpoint of step {step} was not saved: {_cause(error)}; {last}")
            self._remove_partial()
            return None
        finally:
            self._staged.set()

    def _copy(self, snapshot: Snapshot | None, problem: str | None) -> Callable[[], dict[str, Any]]:
        """Copy the tensors to main memory. The function that is returned raises a problem, for all ranks to see."""
        copied: dict[str, Any] = {}
        if snapshot is not None:
            try:
                if self._device.type == "cuda":
                    torch.cuda.set_device(self._device)
                copied = self._stage.copy(snapshot.tensors)
            except RuntimeError as error:  # Usually lack of memory.
                problem = f"{type(error).__name__}: {error}"
        self._staged.set()

        def get() -> dict[str, Any]:
            if problem is not None:
                raise CheckpointError(problem)
            return copied

        return get

    def _size(self, snapshot: Snapshot | None, copied: dict[str, Any]) -> int:
        assert snapshot is not None  # noqa: S101
        return bytes_of(copied, self.environment.rank) + len(snapshot.common) + len(snapshot.own)

    def _prepare(self, step: int, size: int) -> str:
        """Create an empty folder to write to, if there is space. Return its final name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file_system = os.statvfs(self.folder)
        free = file_system.f_bavail * file_system.f_frsize
        if file_system.f_blocks and free < 1.05 * size + 1e6:
            raise CheckpointError(f"it needs {size / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free in {self.folder}")
        serial = 0
        while (self.folder / manifest.name_of(step, serial)).exists():
            serial += 1
        name = manifest.name_of(step, serial)
        self._make_empty(self.folder / f".{name}.partial")
        return name

    def _write(self, step: int, milestone: bool, name: str, snapshot: Snapshot | None, copied: dict[str, Any]) -> None:
        assert snapshot is not None  # noqa: S101
        rank = self.environment.rank
        partial = self.folder / f".{name}.partial"
        write(copied, partial, self._group, self._heartbeat.beat)

        def write_own() -> dict[str, tuple[int, str]]:
            with replaced(partial / own_file(rank)) as file:
                file.write(snapshot.own)
            if rank == 0:
                with replaced(partial / COMMON) as file:
                    file.write(snapshot.common)
            mine = [path for path in partial.iterdir() if self._is_mine(path.name)]
            return {path.name: manifest.fingerprint(path, self._heartbeat.beat) for path in mine}

        files = {name: entry for part in self._together(write_own) for name, entry in part.items()}
        described = Manifest(
            step=step, world_size=self.environment.world_size, milestone=milestone, files=dict(sorted(files.items()))
        )
        self._together(lambda: self._complete(partial, name, described) if rank == 0 else "")

    def _is_mine(self, file: str) -> bool:
        """Whether this rank wrote `file`, by the names of torch.distributed.checkpoint and of this module."""
        rank = self.environment.rank
        return file.startswith(f"__{rank}_") or file == own_file(rank) or (rank == 0 and file in (COMMON, ".metadata"))

    def _complete(self, partial: Path, name: str, described: Manifest) -> str:
        """Write the manifest, then rename the folder: from then on it is a checkpoint."""
        with replaced(partial / MANIFEST) as file:
            file.write(described.encode())
        _move(partial, self.folder / name, [*described.files, MANIFEST])
        _sync(self.folder)
        link = self.folder / _LINK
        with contextlib.suppress(OSError):  # Some file systems have no links.
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            link.replace(self.folder / "latest")
        return name

    def _prune(self, name: str) -> None:
        del name
        self._together(lambda: self._remove_old() if self.environment.rank == 0 else None)

    def _remove_old(self) -> None:
        """Remove the oldest complete checkpoints beyond keep_last, and those found incomplete at the start."""
        whole: list[tuple[str, bool]] = []
        for name in manifest.newest_first(path.name for path in self.folder.iterdir()):
            if name not in self._bad:
                with contextlib.suppress(InvalidCheckpointError):  # Keep it: it may be unreadable only now.
                    whole.append((name, manifest.read(self.folder / name).milestone))
        for name in [*self._bad, *(name for name, milestone in whole[self.keep_last :] if not milestone)]:
            # Rename it, or remove the manifest, first: the rest of an interrupted removal is then no checkpoint.
            going = self.folder / f".{name}.removed"
            try:
                (self.folder / name).rename(going)
            except OSError:
                going = self.folder / name
                (going / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(going, ignore_errors=True)
        self._bad.clear()

    def _upload(self, name: str) -> None:
        """Each rank uploads its own files, then rank 0 the manifest. Then old checkpoints are removed."""
        if self._mirror is None:
            return
        mirror = self._mirror
        folder, rank = self.folder / name, self.environment.rank
        described = self._together(lambda: manifest.read(folder))[0]
        mine = [file for file in described.files if self._is_mine(file)]
        self._together(lambda: mirror.upload(folder, name, mine))

        def finish() -> None:
            mirror.upload(folder, name, [MANIFEST])
            self._kept[name] = described.milestone
            for old in mirror.names()[self.keep_last :]:
                if old not in self._kept:
                    self._kept[old] = mirror.manifest(old).milestone
                if not self._kept[old]:
                    mirror.remove(old)

        self._together(lambda: finish() if rank == 0 else None)

    # Between the ranks.

    def _together(self, function: Callable[[], Result], keep: bool = False) -> list[Result]:
        """Call `function` on each rank. Return the results of all ranks, or fail on all ranks if one failed.

        With `keep`, results are not sent: the list then has only this rank's result, at its index.

        Raises:
            _FailedError: a call failed; of several failures, that of the lowest rank.
        """
        result: Any = None
        problem: str | None = None
        try:
            result = function()
        except Exception as error:  # noqa: BLE001  (the other ranks wait for an answer, whatever it is)
            problem = str(error) or type(error).__name__
        if self._group is None:
            if problem is not None:
                raise _FailedError(problem)
            return [result]
        answers: list[Any] = [None] * self.environment.world_size
        dist.all_gather_object(answers, (problem, None if keep else result), group=self._group)
        for failure, _ in answers:
            if failure is not None:
                raise _FailedError(failure)
        results = [answer for _, answer in answers]
        if keep:
            results[self.environment.rank] = result
        return results

    def _remove_partial(self) -> None:
        """Remove what a failed save or download has left, before any rank continues."""

        def remove() -> None:
            for entry in self.folder.glob(".step_*.partial"):
                shutil.rmtree(entry, ignore_errors=True)

        with contextlib.suppress(_FailedError, RuntimeError):  # The failure itself is printed already.
            self._together(lambda: remove() if self.environment.rank == 0 else None)

    def _wait_for_stage(self) -> None:
        self._staged.wait()

    def _share(self, found: Manifest) -> list[str]:
        return sorted(found.files)[self.environment.rank :: self.environment.world_size]

    def _make_empty(self, folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)

    def _say(self, text: str) -> None:
        if self.environment.rank == 0:
            print(f"train.checkpoint: {text}", file=sys.stderr, flush=True)


def _cause(error: BaseException) -> str:
    """The message in one line, without the name of this module's own errors."""
    return str(error) if isinstance(error, _FailedError) else first_cause(error)


def _move(folder: Path, target: Path, files: list[str]) -> None:
    """Give `folder` its final name. If the file system cannot rename folders, move its `files` in order."""
    try:
        folder.rename(target)
    except OSError:
        target.mkdir()
        try:
            for file in files:
                (folder / file).replace(target / file)
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            raise
        _sync(target)
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
