"""Copies of checkpoints in a bucket, or wherever else an fsspec URL leads (gs://, s3://, file://, memory://).

A copy is seen only when its manifest is there, which goes up last and comes down first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Callable

from fsspec.callbacks import Callback  # type: ignore[import-untyped]
from fsspec.core import url_to_fs  # type: ignore[import-untyped]

from .manifest import MANIFEST, InvalidCheckpointError, Manifest, newest_first


class MirrorError(RuntimeError):
    """The URL cannot be used. Says why."""


class Mirror:
    """One experiment's copies."""

    def __init__(self, url: str, beat: Callable[[], None]) -> None:
        """Find the back-end of `url`. Nothing is asked of it yet. `beat` is called as files are copied.

        Raises:
            MirrorError: there is no such protocol, or its package is not installed.
        """
        self.url = url.rstrip("/")
        try:
            self.files, path = url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise MirrorError(f"CHECKPOINT_URL {url!r}: {error}") from None
        self.root = path.rstrip("/")
        self._beat, self._progress = beat, Callback(hooks={"beat": lambda *_, **__: beat()})

    def names(self) -> list[str]:
        """Copies that may be whole, the newest first.

        Raises:
            OSError: no answer. Back-ends have errors of their own, too.
        """
        self.files.invalidate_cache()
        try:
            entries = self.files.ls(self.root, detail=False)
        except FileNotFoundError:
            return []
        names = newest_first(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return [name for name in names if self.files.exists(f"{self.root}/{name}/{MANIFEST}")]

    def manifest(self, name: str) -> Manifest:
        """The manifest of a copy.

        Raises:
            InvalidCheckpointError: it is not whole.
        """
        try:
            return Manifest.decode(self.files.cat_file(f"{self.root}/{name}/{MANIFEST}"))
        except FileNotFoundError:
            raise InvalidCheckpointError(f"{MANIFEST} is not there") from None

    def upload(self, folder: Path, name: str, names: Iterable[str]) -> None:
        """Copy files of `folder` to the copy called `name`."""
        self.files.makedirs(f"{self.root}/{name}", exist_ok=True)
        for file in names:
            self.files.put_file(str(folder / file), f"{self.root}/{name}/{file}", callback=self._progress)
            self._beat()

    def download(self, folder: Path, name: str, names: Iterable[str]) -> None:
        """Copy files of the copy called `name` to `folder`, unchecked.

        Raises:
            InvalidCheckpointError: one is missing.
        """
        for file in names:
            try:
                self.files.get_file(f"{self.root}/{name}/{file}", str(folder / file), callback=self._progress)
                self._beat()
            except FileNotFoundError:
                raise InvalidCheckpointError(f"{file} is not there") from None

    def remove(self, name: str) -> None:
        """The manifest goes first: what is left of a removal that was cut short is no checkpoint."""
        self.files.rm_file(f"{self.root}/{name}/{MANIFEST}")
        self.files.rm(f"{self.root}/{name}", recursive=True)
