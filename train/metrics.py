"""What a run leaves for people and tools: a line per epoch and the result. Written by rank 0 alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from train.environment import JobEnvironment
from train.files import replaced


class Metrics:
    """Writes to the run's output folder on rank 0, and nothing on the others."""

    def __init__(self, environment: JobEnvironment) -> None:
        """Make the output folder.

        Raises:
            OSError: it cannot be made.
        """
        self.folder: Path | None = None
        if environment.rank == 0:
            self.folder = environment.output_directory
            self.folder.mkdir(parents=True, exist_ok=True)

    def log(self, values: Mapping[str, float]) -> None:
        """Append `values` to metrics.jsonl, as one line of JSON.

        Raises:
            ValueError: a value is infinite or not a number, which JSON does not know.
        """
        if self.folder:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(values, allow_nan=False) + "\n")

    def result(self, values: Mapping[str, float]) -> None:
        """Write `values` to result.json, which is there only when the run has finished.

        Raises:
            ValueError: as for `log`.
        """
        if self.folder:
            with replaced(self.folder / "result.json") as file:
                file.write((json.dumps(values, allow_nan=False) + "\n").encode())
