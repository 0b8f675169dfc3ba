"""The manifest of a checkpoint: size and SHA-256 of each file. It is written last, and makes the folder valid."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

from .environment import KEYWORD_ONLY

MANIFEST = "manifest.json"
FORMAT = 1


class InvalidCheckpointError(ValueError):
    """A checkpoint is incomplete. The message names the file and what is wrong with it."""


@dataclass(frozen=True, **KEYWORD_ONLY)
class Manifest:
    """The manifest of one checkpoint."""

    step: int
    """Steps done."""
    world_size: int
    """Number of ranks that wrote it."""
    milestone: bool
    """Whether the kit never removes it."""
    files: dict[str, tuple[int, str]]
    """Bytes and SHA-256 of each file, except the manifest."""

    def encode(self) -> bytes:
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps({**content, "checksum": _checksum(content)}, indent=1).encode()

    @classmethod
    def decode(cls, text: bytes) -> Manifest:
        """Return the manifest whose `encode` is `text`.

        Raises:
            InvalidCheckpointError: `text` is truncated or has changed.
        """
        try:
            content = json.loads(text)
            checksum = content.pop("checksum")
        except (ValueError, KeyError, AttributeError) as error:
            raise InvalidCheckpointError(f"{MANIFEST} is not whole ({error})") from None
        if checksum != _checksum(content):
            raise InvalidCheckpointError(f"{MANIFEST} has changed since it was written")
        if content.pop("format") != FORMAT:
            raise InvalidCheckpointError(f"{MANIFEST} is of another format than {FORMAT}")
        content["files"] = {name: (size, digest) for name, (size, digest) in content["files"].items()}
        return cls(**content)

    def check(self, folder: Path, names: Iterable[str], beat: Callable[[], None]) -> None:
        """Compare the files `names` of `folder` with the manifest. Call `beat` regularly.

        Raises:
            InvalidCheckpointError: a file is missing or has changed.
        """
        for name in names:
            size, digest = self.files[name]
            try:
                there = (folder / name).stat().st_size
                if there != size:
                    raise InvalidCheckpointError(f"{name} has {there} bytes in place of {size}")
                if fingerprint(folder / name, beat) != (size, digest):
                    raise InvalidCheckpointError(f"{name} has changed since it was written")
            except OSError as error:
                raise InvalidCheckpointError(f"{name} cannot be read ({error.strerror})") from None


def read(folder: Path) -> Manifest:
    """Read the manifest of `folder`.

    Raises:
        InvalidCheckpointError: there is none, or it is damaged.
    """
    try:
        return Manifest.decode((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise InvalidCheckpointError(f"{MANIFEST} cannot be read ({error.strerror})") from None


def fingerprint(path: Path, beat: Callable[[], None]) -> tuple[int, str]:
    """Return bytes and SHA-256 of a file. Call `beat` for each part of it."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
            beat()
    return size, digest.hexdigest()


def name_of(step: int, serial: int = 0) -> str:
    """Return the folder name of a checkpoint; with a `serial` if there is another one of that step."""
    return f"step_{step:08d}" + (f"_{serial}" if serial else "")


def order_of(name: str) -> tuple[int, int] | None:
    """Return step and serial from a folder name (larger is newer), or None for any other name."""
    match = re.fullmatch(r"step_(\d{8,})(?:_(\d+))?", name)
    return (int(match[1]), int(match[2] or 0)) if match else None


def newest_first(names: Iterable[str]) -> list[str]:
    """Return those of `names` that belong to checkpoints, the newest first."""
    ordered = [(order, name) for name in names if (order := order_of(name)) is not None]
    return [name for _, name in sorted(ordered, reverse=True)]


def _checksum(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
