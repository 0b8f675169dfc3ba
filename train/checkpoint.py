"""Checkpoints that are whole or not there: saved beside the training, and the newest valid one loaded.

    checkpoints = Checkpoints(environment, {"model": model, "optimizer": optimizer, "scheduler": scheduler,
                                            "sampler": sampler, "metrics": tracker})
    step = checkpoints.resume()
    ...
    checkpoints.save(step)

A checkpoint is a folder, step_00000120, of files of torch.distributed.checkpoint and a manifest of their sizes
and SHA-256, which alone makes it whole. It is written as .step_00000120.partial, synced, and renamed when the
manifest is in it; where no folder can be renamed, as in mounted buckets, its files are, the manifest last.
`latest` is a relative link, for people. With CHECKPOINT_URL each checkpoint is also copied to a bucket.

The stall of the training: parameters and optimizer states are copied by another thread while the next
forward and backward pass read them, and the optimizer's next step waits until that is done (a hook of torch,
so the program need not). Writing, hashing and uploading go on while the training does.
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
"""For all ranks to have written, or uploaded, their parts."""

QUIET_SECONDS = 600.0
"""How long a save or a load may be without a sign of progress, as in a file's sync, before it counts as hung."""

_LINK = ".step_latest"

Result = TypeVar("Result")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be loaded by this program, or the place for checkpoints cannot be used."""


class _FailedError(Exception):
    """A rank failed, said on all of them."""


class Checkpoints:
    """An experiment's checkpoints. All ranks make it, inside the process group, and call its methods alike.

    The folder is environment.checkpoint_directory, which all ranks must share.
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
        """Prepare; nothing is read or written yet.

        Args:
            environment: this rank's place, and the folder and URL for checkpoints.
            items: what has a state, by name: modules, optimizers, and whatever has state_dict() and
                load_state_dict(), alike on all ranks; or load_state_dicts() in its place, if they differ.
            keep_last: whole checkpoints to keep, besides those saved by `force_save`.
            asynchronous: False to wait for each save.
            frozen: False to leave out parameters that need no gradient, which the program then has to make alike.

        Raises:
            CheckpointError: an item has no state, or CHECKPOINT_URL needs a package that is not there.
            ValueError: keep_last is below 1.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, not {keep_last}")
        self.notes: dict[str, Any] = {}
        """Saved and restored with the rest: small values of the program's own. `wandb_run_id` is put in by itself."""
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
        # A group of its own, of CPU tensors, for what the saving threads say to each other while the
        # training's collectives go on.
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if environment.several else None
        # What torch says of a run that has one process.
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized", UserWarning)
        self._thread: threading.Thread | None = None
        self._staged = threading.Event()
        self._staged.set()
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._wait_for_stage())
            for optimizer in self._state.optimizers.values()
        ]
        self._step: int | None = None  # Of the newest that is known to be whole.
        self._milestone = False
        self._progress = False  # Whether a checkpoint was saved since the start.
        self._bad: set[str] = set()  # Found invalid at the start. Removed when there is a new one.
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
        """Wait for what is being saved, and let go of the optimizers."""
        self.wait()
        for hook in self._hooks:
            hook.remove()
        self._group = None

    def wait(self) -> bool:
        """Wait until the last save has ended, and say whether its checkpoint is whole: the same on all ranks."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._saved

    _saved = True

    def is_saving(self) -> bool:
        """Whether the last save goes on. Ranks may see its end at different times."""
        return self._thread is not None and self._thread.is_alive()

    def progress_is_kept(self) -> bool:
        """Wait as `wait`, and say whether a restart would go on from what this attempt has done: alike on all ranks.

        Either the last save succeeded, or an earlier one of this attempt, or nothing was to be saved since `resume`.
        """
        return (self.wait() and self._step is not None) or self._progress

    def save(self, step: int, *, force_save: bool = False) -> None:
        """Save the state as it is after `step` steps, in the background; waits for the previous save first.

        Until the optimizer's next step nobody may change parameters by other means than that. A failure is
        said on standard error and harms no earlier checkpoint; `wait` tells it.

        Args:
            step: steps done, the same on all ranks. The same step twice is saved once.
            force_save: a milestone, which is kept for good.
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
        """Load the newest valid checkpoint, of the folder or the mirror, and return its steps: 0 if there is none.

        One that is not whole is skipped, with a warning.

        Raises:
            CheckpointError: the checkpoint is whole, but of another program; or the mirror does not answer.
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
        """Names, and whether they are the mirror's: the newest first, of equals the folder's."""
        if self.environment.rank != 0:
            return []
        local = set()
        if self.folder.is_dir():
            for entry in self.folder.iterdir():
                # What an earlier attempt was writing or removing when it ended.
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
        """Each rank brings some of the files from the mirror."""
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

        # A local one of this name, which was not whole, has gone before.
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
        """The name of the checkpoint, when it is whole."""
        rank = self.environment.rank
        try:
            copied = self._copy(snapshot, problem)
            size = sum(self._together(lambda: self._size(snapshot, copied())))
            name = self._together(lambda: self._prepare(step, size) if rank == 0 else "")[0]
            self._write(step, milestone, name, snapshot, copied())
            self._step, self._milestone, self._saved, self._progress = step, milestone, True, True
            return name
        except (Exception, CheckpointException) as error:  # noqa: BLE001  (nothing here may end the training)
            last = "there is none before it" if self._step is None else f"that of step {self._step} is unharmed"
            self._say(f"the checkpoint of step {step} was not saved: {_cause(error)}; {last}")
            self._remove_partial()
            return None
        finally:
            self._staged.set()

    def _copy(self, snapshot: Snapshot | None, problem: str | None) -> Callable[[], dict[str, Any]]:
        """The snapshot's tensors in main memory, or on asking the problem: the other ranks must hear of it."""
        copied: dict[str, Any] = {}
        if snapshot is not None:
            try:
                if self._device.type == "cuda":
                    torch.cuda.set_device(self._device)
                copied = self._stage.copy(snapshot.tensors)
            except RuntimeError as error:  # Memory, mostly.
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
        """An empty folder to write to, if there is space; the name that it will have."""
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
        """Of the names that torch.distributed.checkpoint gives to files of a rank, and of those given here."""
        rank = self.environment.rank
        return file.startswith(f"__{rank}_") or file == own_file(rank) or (rank == 0 and file in (COMMON, ".metadata"))

    def _complete(self, partial: Path, name: str, described: Manifest) -> str:
        """The manifest, and then the name: from here on it is a checkpoint."""
        with replaced(partial / MANIFEST) as file:
            file.write(described.encode())
        _move(partial, self.folder / name, [*described.files, MANIFEST])
        _sync(self.folder)
        link = self.folder / _LINK
        with contextlib.suppress(OSError):  # A file system without links has none.
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            link.replace(self.folder / "latest")
        return name

    def _prune(self, name: str) -> None:
        del name
        self._together(lambda: self._remove_old() if self.environment.rank == 0 else None)

    def _remove_old(self) -> None:
        """The oldest whole ones beyond keep_last, and those that the start found not to be whole."""
        whole: list[tuple[str, bool]] = []
        for name in manifest.newest_first(path.name for path in self.folder.iterdir()):
            if name not in self._bad:
                with contextlib.suppress(InvalidCheckpointError):  # Not ours to judge: it may be unreadable just now.
                    whole.append((name, manifest.read(self.folder / name).milestone))
        for name in [*self._bad, *(name for name, milestone in whole[self.keep_last :] if not milestone)]:
            # Renamed first, or without a manifest: what is left of a removal that was cut short is no checkpoint.
            going = self.folder / f".{name}.removed"
            try:
                (self.folder / name).rename(going)
            except OSError:
                going = self.folder / name
                (going / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(going, ignore_errors=True)
        self._bad.clear()

    def _upload(self, name: str) -> None:
        """Each rank its own files, then rank 0 the manifest; then what is too old goes."""
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
        """Each rank's result of its own call, or on all ranks the failure of any.

        With `keep` only this rank's result travels nowhere, and stands at its place.

        Raises:
            _FailedError: a call failed. Of several the first rank's.
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
        """What a failed save or download has left, before any rank goes on."""

        def remove() -> None:
            for entry in self.folder.glob(".step_*.partial"):
                shutil.rmtree(entry, ignore_errors=True)

        with contextlib.suppress(_FailedError, RuntimeError):  # The failure itself is said already.
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
    """In one line, without the name of this module's own errors."""
    return str(error) if isinstance(error, _FailedError) else first_cause(error)


def _move(folder: Path, target: Path, files: list[str]) -> None:
    """Give `folder` its final name; where the file system renames no folders, move its `files` in their order."""
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
