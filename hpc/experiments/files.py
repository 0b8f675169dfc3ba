"""Small files, read in as few calls of the system as may be: a table of runs reads thousands. For runs.py."""

import os


def read(path, limit=1 << 20):
    """The file's first bytes as text; None when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(descriptor, limit).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def tail(path, limit=4096):
    """The file's last bytes as text."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, limit, max(0, size - limit)).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def changed(path):
    """When the file was written last; None when it is not there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
