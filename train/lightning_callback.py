"""For programs with Lightning's own trainer: stop at a notice, and go on from the checkpoint.

    survive = Survive()
    trainer = lightning.Trainer(callbacks=[survive], …)
    trainer.fit(model, data, ckpt_path=survive.newest())

What is in a checkpoint, and what becomes of the rest of an epoch, is Lightning's: a data loader that has a state
(`state_dict`, as torchdata's StatefulDataLoader) goes on where it was; another one begins the epoch's order anew.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback  # type: ignore[import-not-found, unused-ignore]

from .environment import JobEnvironment
from .interruption import NOT_FINISHED, Interruption


class Survive(Callback):  # type: ignore[misc, unused-ignore]
    """Saves after the batch at which all ranks have heard of a notice, and ends the program with status 75.

    Checkpoints are CHECKPOINT_DIRECTORY/lightning_STEP.ckpt. Of several the newest is loaded, and the older ones go
    when a new one is whole.
    """

    def __init__(self, environment: JobEnvironment | None = None) -> None:
        self.environment = environment or JobEnvironment.from_environment()
        self.folder = self.environment.checkpoint_directory
        self._interruption: Interruption | None = None
        self._first = True

    def newest(self) -> str | None:
        """The checkpoint to go on from, for `ckpt_path`: None for a beginning."""
        found = max(self.folder.glob("lightning_*.ckpt"), default=None)
        return None if found is None else str(found)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002
        """The ranks know each other from here on."""
        self._interruption = Interruption(self.environment)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401, ARG002
        """The end of the batch before: only now Lightning has counted it."""
        first, self._first = self._first, False
        # Each attempt takes a step at least, or a job that is stopped often would never end.
        if first or self._interruption is None or not self._interruption.agreed():
            return
        name = f"lightning_{trainer.global_step:08}"
        partial = self.folder / f".{name}.partial"
        trainer.save_checkpoint(partial)  # All ranks write, or wait.
        if trainer.is_global_zero:
            whole = partial.replace(self.folder / f"{name}.ckpt")
            for old in set(self.folder.glob("lightning_*.ckpt")) - {whole}:
                _remove(old)
        trainer.strategy.barrier()
        print(f"interrupted at step {trainer.global_step} by {self._interruption.reason}: saved", flush=True)
        sys.exit(NOT_FINISHED)

    def on_validation_batch_start(self, *_: Any) -> None:  # noqa: ANN401
        """A validation is progress."""
        if self._interruption is not None:
            self._interruption.alive()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002
        if self._interruption is not None:
            self._interruption.close()


def _remove(path: Path) -> None:
    """With strategies that share the model out a checkpoint is a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
