#!/usr/bin/env python3
"""Makes an environment at NEW from an environment that was copied to TREE (unpacking.sh). Standard library only.

relocate.py TREE NEW

Scripts begin with the path to their python in the old place, so they are rewritten. All other files are links into
TREE.
"""

import os
import re
import shutil
import sys

# The first lines of pip's scripts; the second form is for a path that has a space or is long.
BEGINNING = re.compile(rb"#!(?:.*/python.*|/bin/sh\n'''exec' .*/python.*\n' '''.*)\n")


def relocate(tree, new):
    shutil.rmtree(new, ignore_errors=True)
    os.makedirs(os.path.join(new, "bin"))
    for entry in os.scandir(tree):
        if entry.name != "bin":
            os.symlink(entry.path, os.path.join(new, entry.name))
    for entry in os.scandir(os.path.join(tree, "bin")):
        target = os.path.join(new, "bin", entry.name)
        if not entry.is_file(follow_symlinks=False) or not write_script(entry.path, target, os.fsencode(new)):
            os.symlink(entry.path, target)


def write_script(old, target, new):
    with open(old, "rb") as script:
        beginning = BEGINNING.match(script.read(4096))
        if not beginning:
            return False
        script.seek(beginning.end())
        with open(target, "wb") as written:
            written.write(b"#!/bin/sh\n'''exec' \"%s/bin/python\" \"$0\" \"$@\"\n' '''\n" % new)
            shutil.copyfileobj(script, written)
    shutil.copymode(old, target)
    return True


if __name__ == "__main__":
    relocate(*sys.argv[1:])
