"""Small files, read in as few calls of the system as may be: a table of runs reads thousands."""

import os
import re

FACT = re.compile(r"^fact\[(\w+)\]=(.*)$", re.MULTILINE)
ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
SMALL = 1 << 16
ESCAPED = dict(zip(b"ntrabeEfv", b"\n\t\r\a\b\x1b\x1b\f\v"))


def read(path, limit=1 << 31):
    """The file's first bytes as text; empty when it is not there."""
    return _text(path, limit, 0)


def tail(path, limit=4096):
    """The file's last bytes as text."""
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
    """When the file was written last; None when it is not there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def names_in(folder):
    """What lies there, sorted; nothing where there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def has_line(path, pattern):
    """Whether a line of the file, however long that is, matches the pattern of bytes."""
    try:
        with open(path, "rb") as lines:
            return any(re.search(pattern, line) for line in lines)
    except OSError:
        return False


def facts_of(folder):
    """A run's request, as lib/run_directory.sh has written it; nothing where it has not."""
    found = FACT.findall(read(os.path.join(folder, "facts")))
    return {name: unquoted(value) if "\\" in value else value[1:-1] for name, value in found}


def unquoted(text):
    """What bash's ${value@Q} was of. Where LANG is C, bash writes each byte of ü in octal."""
    if text.startswith("$'"):
        return ESCAPE.sub(_unescaped, text[2:-1].encode()).decode("utf-8", "surrogateescape")
    return text[1:-1].replace("'\\''", "'")


def _unescaped(match):
    code = match[1]
    return bytes([int(code, 8) & 255 if code[:1] in b"01234567" else ESCAPED.get(code[0], code[0])])
