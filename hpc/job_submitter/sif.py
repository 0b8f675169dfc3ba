#!/usr/bin/env python3
"""Prints what is wrong with a container image (SIF), or nothing (container.sh). Standard library only.

sif.py IMAGE

A SIF is a header, a table of descriptors, and the data that they point to. All numbers are little-endian. This finds a
truncated copy, and damage at the beginning; the runtime itself checks no more than that.
"""

import os
import struct
import sys

DESCRIPTOR = struct.Struct("<i?12xqq168xii376x")  # kind, in use, offset, length, file system, purpose
PARTITION, SQUASHFS, SYSTEM = 0x4004, 1, 2


def fault(image):
    size = os.fstat(image.fileno()).st_size
    header = image.read(128).ljust(128, b"\0")
    if header[32:42] != b"SIF_MAGIC\0":
        return "is not a container image (SIF)"
    number, start = struct.unpack_from("<qq", header, 88)
    if not 0 < number < 10000 or not 0 < start <= size - number * DESCRIPTOR.size:
        return "is corrupt: it ends within its table, after %d bytes" % size
    has_system = False
    image.seek(start)
    table = image.read(number * DESCRIPTOR.size)
    for kind, used, offset, length, file_system, purpose in DESCRIPTOR.iter_unpack(table):
        if used and not 0 <= offset <= offset + length <= size:
            return "is corrupt: it has %d bytes of %d at least (was it copied to its end?)" % (size, offset + length)
        if used and kind == PARTITION and purpose == SYSTEM:
            has_system = True
            image.seek(offset)
            if file_system == SQUASHFS and image.read(4) != b"hsqs":
                return "is corrupt: its file system does not begin as it must"
    return "" if has_system else "is corrupt: it has no file system to run"


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as opened:
        print(fault(opened))
