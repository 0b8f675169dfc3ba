#!/usr/bin/env bash
# a_semaphore_in_use_is_mapped_as_deleted.sh
#
# loky 3.5.6 (joblib's pool of processes), glibc 2.36, Linux. A semaphore of a pool is a file in /dev/shm that a worker opens by its name.
# Its maker uses it all the time, yet no path in /proc/PID/maps is that name: glibc maps a temporary file, links it to the name, and
# removes the temporary name. A script that clears /dev/shm after jobs and takes files for unused whose path no process shows (as lsof
# prints paths) deletes semaphores of running pools; the next worker then fails with FileNotFoundError. Compare inodes: maps has them.
#
# Output seen on 2026-11-30:
#   by path: not in use; by inode: in use, as /dev/shm/sem.NAME (deleted)
#
# Exit status 0 while it is so, 1 when it has changed. Run by people; it needs pip's package index.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check loky==3.5.6
seen=$(
  "$work/venv/bin/python" - <<'PYTHON'
import os
import re

from loky.backend import get_context

semaphore = get_context("loky").Semaphore(1)
file = "/dev/shm/sem." + semaphore._semlock.name.lstrip("/")
inode = os.stat(file).st_ino
rows = [line.split(None, 5) for line in open("/proc/self/maps") if "/dev/shm/" in line]
by_path = any(row[5].strip() == file for row in rows)
by_inode = [row[5].strip() for row in rows if int(row[4]) == inode]
shown = re.sub(r"sem\.\w+", "sem.NAME", by_inode[0]) if by_inode else ""
print("by path: %s; by inode: %s, as %s" % (
    "in use" if by_path else "not in use", "in use" if by_inode else "not in use", shown))
PYTHON
)
printf '%s\n' "$seen"
[[ $seen == 'by path: not in use; by inode: in use, as /dev/shm/sem.NAME (deleted)' ]]
