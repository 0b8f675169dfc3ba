#!/usr/bin/env python3
"""Reads the experiments of a configuration file (experiments_file.sh). Standard library only.

experiments_file.py FILE PROGRAM   PROGRAM is whom messages come from

Prints the number of words of each experiment, with spaces between, and all the words; behind each of these a NUL. Exit
status 2, and one line that says why, when FILE is wrong. All is bytes, whatever the user's locale.
"""

import os
import re
import sys

COMMON = rb"""
    (?P<quote>")
    | (?P<variable>\$\{[A-Za-z_]\w*\})
    | (?P<dollar>\$)
    | (?<!\$)\{(?P<place>nodes|gpus|seed)\}  # behind a quoted dollar they are text
"""
OUTSIDE_PARTS = rb"""
    | (?P<blank>[ \t]+)
    | (?P<end>\r?\n)
    | (?P<continued>\\\r?\n)                 # as in the shell: the word goes on, too
    | \\(?P<escaped>.)
    | '(?P<single>[^']*)'
    | (?P<open>')
    | (?P<text>[^ \t\r\n\\'"${]+|[\r{])
"""
INSIDE_PARTS = rb"""
    | (?P<continued>\\\n)
    | \\(?P<escaped>[$`"\\])
    | (?P<text>[^\\"${]+|[\\{])
"""
OUTSIDE, INSIDE = (re.compile(COMMON + parts, re.VERBOSE | re.DOTALL) for parts in (OUTSIDE_PARTS, INSIDE_PARTS))
NAME = re.compile(rb"[A-Za-z_]\w*")
PLACES = {b"nodes": b"${NNODES}", b"gpus": b"${N_PROC}", b"seed": b"${SEED}"}  # of system 004, and of --repeat
OPERATORS = (b"&&", b"||", b"|", b";", b"&", b"<", b">", b">>")


def experiments(data, complain):
    """The words of each line that has any, as argv files have them (lib/command.sh)."""
    words, word, opened, at = [], None, None, 0
    while at < len(data):
        if word is None and data.startswith(b"#", at):
            at = data.index(b"\n", at)
        found = (INSIDE if opened else OUTSIDE).match(data, at)
        at, kind = found.end(), found.lastgroup
        if kind in ("blank", "end"):
            if word in OPERATORS:
                complain(found, b"%s is passed to the program as it stands: no shell reads the command" % word)
            if word is not None:
                words.append(word)
            word = None
            if kind == "end" and words:
                yield words
                words = []
        elif kind == "quote":
            word, opened = word or b"", None if opened else found
        elif kind == "open":
            complain(found, b"a quote (') that is never closed", 2)
        elif kind == "continued":
            if at == len(data) and not opened:
                complain(found, b"a backslash at the end of the file", 2)
        else:
            name = NAME.match(data, at) if kind == "dollar" else None
            if name:
                complain(found, b"$%s stays text: write ${%s} to have it replaced" % (name[0], name[0]))
            word = (word or b"") + piece(kind, found[kind])
    if opened:
        complain(opened, b'a quote (") that is never closed', 2)


def piece(kind, text):
    if kind == "place":
        return PLACES[text]
    if kind in ("variable", "text"):
        return text
    return text.replace(b"$", b"$$")


def main(file, program):
    def complain(found, words, status=0):
        line = data.count(b"\n", 0, found.start()) + 1
        said = (program, b"error" if status else b"warning", file, line, words)
        sys.stderr.buffer.write(b"%s: %s: %s, line %d: %s\n" % said)
        if status:
            sys.exit(status)

    with open(file, "rb") as opened:
        data = opened.read()
    if not data.endswith(b"\n"):
        data += b"\n"
    # Inside of quotes a carriage return is the user's own, but in a file of Windows.
    if data.partition(b"\n")[0].endswith(b"\r"):
        data = data.replace(b"\r\n", b"\n")
    found = list(experiments(data, complain))
    fields = [b" ".join(b"%d" % len(words) for words in found)] + [word for words in found for word in words]
    sys.stdout.buffer.write(b"".join(field + b"\0" for field in fields))


if __name__ == "__main__":
    main(*map(os.fsencode, sys.argv[1:]))
