"""Downloads one file over HTTP. It continues where an earlier attempt ended, and the file appears atomically."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO

TRIES = 4
TIMEOUT_SECONDS = 30.0
"""Limit without a byte from the server."""
PROGRESS_SECONDS = 5.0
PAUSE_SECONDS = 1.0
"""Wait before the second attempt; each further attempt waits one more."""
CHUNK = 1 << 16


class FetchError(RuntimeError):
    """The file cannot be downloaded. The message names it and says what to do."""


def fetch(url: str, path: Path, md5: str | None) -> None:
    """Download `url` to `path` if its MD5 is `md5`. Print the progress on standard error.

    If the connection breaks, the part stays beside `path` for the next attempt or the next call.

    Raises:
        FetchError: the server refuses, does not answer or has another file, or another process downloads the same.
        OSError: `path` cannot be written.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{url} is no http:// or https:// address")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(f"another process is fetching {path}: wait until it has ended") from error
        begun = file.seek(0, os.SEEK_END) > 0
        try:
            found = _fetched(file, url, path, partial)
        except FetchError:
            if partial.stat().st_size == 0:
                partial.unlink()
            raise
        if begun and md5 not in (None, found):  # The earlier part may be of another file.
            file.truncate(0)
            found = _fetched(file, url, path, partial)
        if md5 not in (None, found):
            partial.unlink()
            raise FetchError(f"{url} has the MD5 {found}, not {md5} as published: give another address by --url")
        partial.replace(path)


def md5_of(path: Path) -> str:
    """Return the MD5 of a file in hexadecimal. It detects damage, not manipulation."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _fetched(file: BinaryIO, url: str, path: Path, partial: Path) -> str:
    """Download with retries, and return the MD5 of the whole file."""
    _fetch_to(file, url, path)
    file.flush()
    os.fsync(file.fileno())
    return md5_of(partial)


def _fetch_to(file: BinaryIO, url: str, path: Path) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            _append(file, url, path.name)
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                if error.code < 500 or attempt == TRIES:
                    raise FetchError(f"{url}: {error.code} {error.reason}: give another address by --url") from error
                problem = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt == TRIES:
                raise FetchError(
                    f"{url}: {problem}; what came is kept: call again where there is internet, or give --url"
                ) from error
        else:
            return
        print(f"{path.name}: {problem}, at byte {file.tell()}; once more", file=sys.stderr, flush=True)
        time.sleep(attempt * PAUSE_SECONDS)


def _append(file: BinaryIO, url: str, name: str) -> None:
    """Download the missing part of the file, or all of it if the server does not support ranges."""
    start = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310  (checked)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        file.truncate(0)  # The whole file was there but is not as published, or the server now has another file.
        _append(file, url, name)
        return
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
            file.truncate(0)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        told = time.monotonic()
        done = start
        while chunk := response.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                _tell(name, done, total)
        # A read of a given size may end early without an error.
        if total is not None and done < total:
            raise ConnectionError(f"the connection ended at byte {done} of {total}")
        _tell(name, done, total)


def _tell(name: str, done: int, total: int | None) -> None:
    of_total = f" of {total / 1e6:.1f}" if total is not None else ""
    print(f"{name}: {done / 1e6:.1f}{of_total} MB", file=sys.stderr, flush=True)
