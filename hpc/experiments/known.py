"""A cache of the table's rows for runs that have ended: they are many, have many small files, and do not change.

The cache is OUTPUTS/.table_UID. An entry is valid while its files have the same time and size, and the kit is the same.
If the cache cannot be written, or is another user's, all files are read each time.
"""

import json
import os
import time

SETTLED_SECONDS = 5  # a file changed later than that may have changed while it was read


def _stamp(path):
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_mtime_ns, found.st_size


def _stamps(run, files):
    """Return tuples of whole numbers: these have the same hash in every process."""
    return tuple([_stamp(f"{run.folder}/{file}") for file in files])


def _version():
    """Return the stamps of the code that reads the runs."""
    folder = os.path.dirname(os.path.abspath(__file__))
    return [_stamp(os.path.join(folder, name)) for name in sorted(os.listdir(folder)) if name.endswith(".py")]


def _files(run):
    """Return the files from which the run's entry is read, relative to its folder."""
    found = ["facts", "job_id"]
    for task in run.tasks:
        own = f"task_{task.number}"
        found += [own, f"{own}/state", f"{own}/output"]
        found += [f"{own}/attempt_{attempt.number}" for attempt in task.attempts]
        found += [f"{own}/output/{name}" for name in task.metric_files]
        if task.noted != "completed":
            found.append(f"{own}/log.txt")
    return found


class Known:
    """The entries of the cache. For a few runs it does not pay: the cache file has all runs."""

    def __init__(self, outputs, is_worth_it):
        self._is_worth_it = is_worth_it
        self._path = os.path.join(outputs, f".table_{os.getuid()}")
        self._version = [list(stamp) for stamp in _version()]
        self._entries, self._is_new = {}, False
        if not is_worth_it:
            return
        try:
            with open(self._path, encoding="ascii") as file:
                kept = json.load(file) if os.fstat(file.fileno()).st_uid == os.getuid() else {}
            if kept.get("version") == self._version:
                self._entries = kept["entries"]
        except (OSError, ValueError, AttributeError, KeyError):
            pass  # no cache, or one of a kit with another format

    def get(self, run):
        """Return the entry of the run; None if the run must be read."""
        kept = self._entries.get(os.path.basename(run.folder))
        if not kept or kept[1] != hash(_stamps(run, kept[0])):
            return None
        return dict(kept[2], output_path=run.folder)

    def add(self, run, account):
        if not self._is_worth_it or not run.recorded:
            return
        if not all(task.noted in ("completed", "failed") for task in run.tasks):
            return
        files = _files(run)
        stamps = _stamps(run, files)
        if max(stamps)[0] < (time.time() - SETTLED_SECONDS) * 1e9:
            self._entries[os.path.basename(run.folder)] = [files, hash(stamps), account]
            self._is_new = True

    def save(self, folders):
        """Save the entries of these runs, and forget all others."""
        if not self._is_new:
            return
        there = {os.path.basename(folder) for folder in folders}
        entries = {name: kept for name, kept in self._entries.items() if name in there}
        partial = f"{self._path}.{os.getpid()}"
        try:
            with open(partial, "w", encoding="ascii") as file:
                file.write(json.dumps({"version": self._version, "entries": entries}, separators=(",", ":")))
            os.replace(partial, self._path)
        except OSError:
            pass  # somebody else's folder, or a full disk
