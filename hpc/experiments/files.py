"""Reads small files with few system calls, because a table of runs reads thousands of them."""

import os
import re

FACT = re.compile(r"^fact\[(\w+)\]=(.*)$", re.MULTILINE)
ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
SMALL = 1 << 16
ESCAPED = dict(zip(b"ntrabeEfv", b"\n\t\r\a\b\x1b\x1b\f\v"))


def read(path, limit=1 << 31):
    """Return the file's first bytes as text; empty if it does not exist."""
    return _text(path, limit, 0)


def tail(path, limit=4096):
    """Return the file's last bytes as text."""
    return _text(path, limit, limit)


def _text(path, limit, from_end):
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        begin = max(0, os.fstat(descriptor).st_size - from_end) if from_end else 0
        found = os.pread(descriptor, min(limit, SMALL), begin)  # a large buffer costs more than a small file
        if len(found) == SMALL < limit:
            found += os.pread(descriptor, min(limit, os.fstat(descriptor).st_size) - SMALL, begin + SMALL)
        return found.decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def changed(path):
    """Return when the file was last written; None if it does not exist."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def names_in(folder):
    """Return the sorted names in the folder; none if it does not exist."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def has_line(path, pattern):
    """Whether a line of the file matches the pattern of bytes; the file may be large."""
    try:
        with open(path, "rb") as lines:
            return any(re.search(pattern, line) for line in lines)
    except OSError:
        return False


def facts_of(folder):
    """Return a run's request as lib/run_directory.sh wrote it; empty if it did not."""
    found = FACT.findall(read(f"{folder}/facts"))
    return {name: unquoted(value) if "\\" in value else value[1:-1] for name, value in found}


def unquoted(text):
    """Undo bash's ${value@Q}. If LANG is C, bash writes each byte of ü in octal."""
    if text.startswith("$'"):
        return ESCAPE.sub(_unescaped, text[2:-1].encode()).decode("utf-8", "surrogateescape")
    return text[1:-1].replace("'\\''", "'")


def _unescaped(match):
    code = match[1]
    return bytes([int(code, 8) & 255 if code[:1] in b"01234567" else ESCAPED.get(code[0], code[0])])
