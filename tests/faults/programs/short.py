"""A short training without torch, for random.sh: counts steps and saves the last one in CHECKPOINT_DIRECTORY.

python -m programs.short STEPS SECONDS [FAULT]...     SECONDS: duration of a step
    deaf            ignores STOP_FILE and signals; once
    slow=SECONDS    duration of a step; once
    fail=STEP,STATUS,RANK   exits there with this status; once
    hang=STEP       makes no progress from there on; once

It records events in CHECKPOINT_DIRECTORY/record, a line `TIME RUN JOB ATTEMPT RANK PROCESS EVENT VALUE`: began, step,
end STATUS, and doubled if another process already runs this rank of the experiment.
"""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

PLACE = Path(os.environ["CHECKPOINT_DIRECTORY"])
RANK = os.environ["RANK"]
IDENTITY = " ".join(
    (
        Path(os.environ["RUN_DIRECTORY"]).name,
        os.environ["SLURM_JOB_ID"],
        os.environ["ATTEMPT"],
        RANK,
        str(os.getpid()),
    )
)


def note(event, value):
    line = f"{time.time():.3f} {IDENTITY} {event} {value}\n"
    record = os.open(PLACE / "record", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(record, line.encode())
    os.close(record)


def once(word):
    """Return whether this is the first time in the experiment that this rank reaches this fault."""
    mark = PLACE / f"once_{word}_{RANK}"
    if mark.exists():
        return False
    mark.touch()
    return True


def write(path, text):
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def main(steps, seconds, *words):
    faults = dict(word.partition("=")[::2] for word in words)
    told = []
    lock = (PLACE / f"lock_{RANK}").open("w")  # held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note("doubled", 1)
    deaf = "deaf" in faults and once("deaf")
    pause = float(faults["slow"] if "slow" in faults and once("slow") else seconds)
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    saved = PLACE / f"step_{RANK}"
    step = int(saved.read_text()) if saved.exists() else 0
    note("began", step)
    while step < int(steps):
        time.sleep(pause)
        step += 1
        write(saved, str(step))
        Path(os.environ["HEARTBEAT_FILE"]).touch()
        note("step", step)
        print(f"step {step}/{steps}", flush=True)
        if "fail" in faults:
            when, status, rank = faults["fail"].split(",")
            if (int(when), rank) == (step, RANK) and once("fail"):
                note("end", status)
                return int(status)
        if faults.get("hang") == str(step) and once("hang"):
            time.sleep(10000)
        if not deaf and (told or Path(os.environ["STOP_FILE"]).exists()):
            note("end", 75)
            return 75
    note("end", 0)
    return 0


sys.exit(main(*sys.argv[1:]))
