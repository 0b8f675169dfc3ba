"""Copies of checkpoints in a bucket, or at any other fsspec URL (gs://, s3://, file://, memory://).

A copy is visible only with its manifest, which is uploaded last and downloaded first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Callable

from fsspec.callbacks import Callback  # type: ignore[import-untyped]
from fsspec.core import url_to_fs  # type: ignore[import-untyped]

from .manifest import MANIFEST, InvalidCheckpointError, Manifest, newest_first


class MirrorError(RuntimeError):
    """The URL cannot be used. The message says why."""


class Mirror:
    """The copies of one experiment."""

    def __init__(self, url: str, beat: Callable[[], None]) -> None:
        """Find the back-end of `url`, without a request yet. `beat` is called while files are copied.

        Raises:
            MirrorError: the protocol is unknown, or its package is not installed.
        """
        self.url = url.rstrip("/")
        try:
            self.files, path = url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise MirrorError(f"CHECKPOINT_URL {url!r}: {error}") from None
        self.root = path.rstrip("/")
        self._beat, self._progress = beat, Callback(hooks={"beat": lambda *_, **__: beat()})

    def names(self) -> list[str]:
        """Return the names of copies that have a manifest, the newest first.

        Raises:
            OSError: no answer. Back-ends also raise errors of their own.
        """
        self.files.invalidate_cache()
        try:
            entries = self.files.ls(self.root, detail=False)
        except FileNotFoundError:
            return []
        names = newest_first(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return [name for name in names if self.files.exists(f"{self.root}/{name}/{MANIFEST}")]

    def manifest(self, name: str) -> Manifest:
        """Read the manifest of a copy.

        Raises:
            InvalidCheckpointError: it is missing or damaged.
        """
        try:
            return Manifest.decode(self.files.cat_file(f"{self.root}/{name}/{MANIFEST}"))
        except FileNotFoundError:
            raise InvalidCheckpointError(f"{MANIFEST} is not there") from None

    def upload(self, folder: Path, name: str, names: Iterable[str]) -> None:
        """Upload files of `folder` to the copy called `name`."""
        self.files.makedirs(f"{self.root}/{name}", exist_ok=True)
        for file in names:
            self.files.put_file(str(folder / file), f"{self.root}/{name}/{file}", callback=self._progress)
            self._beat()

    def download(self, folder: Path, name: str, names: Iterable[str]) -> None:
        """Download files of the copy called `name` to `folder`, without checking them.

        Raises:
            InvalidCheckpointError: a file is missing.
        """
        for file in names:
            try:
                self.files.get_file(f"{self.root}/{name}/{file}", str(folder / file), callback=self._progress)
                self._beat()
            except FileNotFoundError:
                raise InvalidCheckpointError(f"{file} is not there") from None

    def remove(self, name: str) -> None:
        """Remove a copy, the manifest first: the rest of an interrupted removal is then no checkpoint."""
        self.files.rm_file(f"{self.root}/{name}/{MANIFEST}")
        self.files.rm(f"{self.root}/{name}", recursive=True)
