"""Runs a script of sbatch with bash and compares it with the configuration that adopt.sh --from has made of it.

from_sbatch_oracle.py SCRIPT READER CONFIGURATION COMMAND BIN   READER: experiments_file.py; COMMAND: the proposed
command; BIN: a folder with a python that writes its words to the file WORDS. Exit status 1, and both lists, if they
differ.
"""

import os
import re
import subprocess
import sys
from pathlib import Path


def indices(script):
    """Return the task numbers of the script's array; one run if it has none."""
    found = re.search(r"--array=([\d,:-]+)", script)
    if not found:
        return [None]
    ranges = re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", found.group(1))
    return [index for a, b, step in ranges for index in range(int(a), int(b or a) + 1, int(step or 1))]


def by_bash(script, folder):
    """Return what the program gets: a list of words for each time that the script starts it."""
    listed = indices(Path(script).read_text())
    words = Path(os.environ["WORDS"])
    words.unlink(missing_ok=True)
    for index in listed:
        environment = {**os.environ, "PATH": folder + ":" + os.environ["PATH"], "SLURM_TMPDIR": "/tmpdir"}
        if index is not None:
            environment.update(SLURM_ARRAY_TASK_ID=str(index), SLURM_ARRAY_TASK_COUNT=str(len(listed)))
        subprocess.run(["bash", script], env=environment, check=False, capture_output=True, timeout=120)
    found, fields = [], words.read_text().split("\0")[:-1]
    while fields:
        end = 1 + int(fields[0])
        found.append(fields[1:end])
        fields = fields[end:]
    return found


def by_kit(reader, configuration, command):
    """Return the same for the lines of the configuration, with the seeds of --repeat."""
    done = subprocess.run([sys.executable, reader, configuration, "test"], check=True, capture_output=True, text=True)
    heads, *fields = done.stdout.split("\0")
    repeat, base = (re.search(pattern, command) for pattern in (r"--repeat (\d+)", r"--seed-base (\d+)"))
    found = []
    for head in heads.split():
        count = int(head.split(":")[1])
        line, fields = fields[:count], fields[count:]
        while re.match(r"\w+=", line[0]):
            line = line[1:]
        for seed in range(int(repeat.group(1)) if repeat else 1):
            values = {**os.environ, "SEED": str(seed + int(base.group(1) if base else 0)), "SLURM_TMPDIR": "/tmpdir"}
            found.append([expanded(word, values) for word in line[line.index("python") + 1 :]])
    return found


def expanded(word, values):
    return re.sub(r"\$\$|\$\{(\w+)\}", lambda found: values[found.group(1)] if found.group(1) else "$", word)


def main(script, reader, configuration, command, folder):
    theirs = [words for words in by_bash(script, folder) if words[0] == "train.py"]
    ours = by_kit(reader, configuration, command)
    if theirs != ours:
        print("bash:", theirs, "\nkit: ", ours)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
