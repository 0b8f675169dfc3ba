#!/usr/bin/env python3
"""Reads the experiments of a configuration file (experiments_file.sh). Standard library only.

experiments_file.py FILE PROGRAM   PROGRAM: the name in front of each message

Prints one field with a word LINE:WORDS:INDEX for each experiment: its line in the file, its number of words, and the
index of its first word with a shell operator, or nothing. The words of all experiments follow, one field each. Each
field ends with a NUL. If FILE is wrong, it prints one line that says why and exits with status 2. All data are bytes,
so the user's locale does not matter.
"""

import os
import re
import sys

COMMON = rb"""
    (?P<quote>")
    | (?P<variable>\$\{[A-Za-z_]\w*\})
    | (?P<dollar>\$)
    | (?<!\$)\{(?P<place>nodes|gpus|processes|seed)\}  # after a quoted dollar this is text
"""
OUTSIDE_PARTS = rb"""
    | (?P<blank>[ \t]+)
    | (?P<end>\r?\n)
    | (?P<continued>\\\r?\n)                 # as in the shell, this does not end a word
    | \\(?P<escaped>.)
    | '(?P<single>[^']*)'
    | (?P<open>')
    | (?P<operator>[;&|<>]+)
    | (?P<text>[^ \t\r\n\\'"${;&|<>]+|[\r{])
"""
INSIDE_PARTS = rb"""
    | (?P<continued>\\\n)
    | \\(?P<escaped>[$`"\\])
    | (?P<text>[^\\"${]+|[\\{])
"""
OUTSIDE, INSIDE = (re.compile(COMMON + parts, re.VERBOSE | re.DOTALL) for parts in (OUTSIDE_PARTS, INSIDE_PARTS))
NAME = re.compile(rb"[A-Za-z_]\w*")
# The variables of a rank (system 004), and the seed of --repeat.
PLACES = {b"nodes": b"${NNODES}", b"gpus": b"${N_PROC}", b"processes": b"${N_PROCESSES}", b"seed": b"${SEED}"}


def experiments(data, complain):
    """Yield (begin, words, index of an operator or None) for each line with words, in the form of argv files."""
    words, word, opened, at, begin, operator = [], None, None, 0, 0, None
    while at < len(data):
        if word is None and data.startswith(b"#", at):
            at = data.index(b"\n", at)
        found = (INSIDE if opened else OUTSIDE).match(data, at)
        at, kind = found.end(), found.lastgroup
        if kind in ("blank", "end"):
            if word is not None:
                words.append(word)
            word = None
            if kind == "end" and words:
                yield begin, words, operator
                words, operator = [], None
            continue
        if word is None and not words:
            begin = found.start()
        if kind == "operator" and operator is None:
            operator = len(words)
        if kind == "quote":
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
            elif not opened and kind in ("dollar", "text"):
                warn_of_text(found, data[at : at + 1], word is None, complain)
            word = (word or b"") + piece(kind, found[kind])
    if opened:
        complain(opened, b'a quote (") that is never closed', 2)


def warn_of_text(found, following, begins, complain):
    """Warn about text that a shell would have replaced. [ ] is excepted: it is more often a list than a pattern."""
    text = found[0]
    if text + following == b"$(" or b"`" in text:
        complain(found, b"%s stays text: nothing is executed" % (text + following if text == b"$" else text))
    elif begins and (text.startswith(b"~/") or (text == b"~" and following in b" \t\r\n")):
        complain(found, b"~ stays text: write ${HOME} for your home directory")
    elif b"*" in text or b"?" in text:
        complain(found, b"%s stays text: no shell puts names of files in its place" % text)


def piece(kind, text):
    if kind == "place":
        return PLACES[text]
    if kind in ("variable", "text", "operator"):
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
    # A carriage return inside quotes is the user's own, unless the file comes from Windows.
    if data.partition(b"\n")[0].endswith(b"\r"):
        data = data.replace(b"\r\n", b"\n")
    found = list(experiments(data, complain))
    heads, line, counted = [], 1, 0
    for begin, words, operator in found:
        line += data.count(b"\n", counted, begin)
        counted = begin
        heads.append(b"%d:%d:%s" % (line, len(words), b"" if operator is None else b"%d" % operator))
    fields = [b" ".join(heads)] + [word for _, words, _ in found for word in words]
    sys.stdout.buffer.write(b"".join(field + b"\0" for field in fields))


if __name__ == "__main__":
    main(*map(os.fsencode, sys.argv[1:]))
