"""For programs with Lightning's own trainer: stop at a notice, and continue from the checkpoint.

    survive = Survive()
    trainer = lightning.Trainer(callbacks=[survive], …)
    trainer.fit(model, data, ckpt_path=survive.newest())

Lightning decides what a checkpoint contains and what happens to the rest of an epoch. A data loader that has a state
(`state_dict`, as torchdata's StatefulDataLoader) continues where it was. Another one restarts the order of the epoch.
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
    """Saves after the batch at which all ranks know of a notice, and exits with 75.

    Checkpoints are CHECKPOINT_DIRECTORY/lightning_STEP.ckpt. The newest one is loaded. Older ones are removed once a
    new one is complete.
    """

    def __init__(self, environment: JobEnvironment | None = None) -> None:
        self.environment = environment or JobEnvironment.from_environment()
        self.folder = self.environment.checkpoint_directory
        self._interruption: Interruption | None = None
        self._first = True

    def newest(self) -> str | None:
        """Return the checkpoint to continue from, for `ckpt_path`, or None to start from the beginning."""
        found = max(self.folder.glob("lightning_*.ckpt"), default=None)
        return None if found is None else str(found)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002
        """Start watching: from here on there is a process group."""
        self._interruption = Interruption(self.environment)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401, ARG002
        """Stop after the previous batch, which Lightning has counted only now."""
        first, self._first = self._first, False
        # Each attempt takes at least one step. Otherwise a job that is stopped often would never end.
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
        """Count a validation batch as progress."""
        if self._interruption is not None:
            self._interruption.alive()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002
        if self._interruption is not None:
            self._interruption.close()


def _remove(path: Path) -> None:
    """Remove a checkpoint: a file, or a folder with strategies that shard the model."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
