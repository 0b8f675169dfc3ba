#!/usr/bin/env python3
"""The Python part of drill.sh: finds steps and losses in a program's output, and judges them.

    drill.py plan RUN_DIRECTORY [STEP]     prints lines "FAULT STEP", the step of each fault (with STEP: always STEP)
    drill.py wait RUN_DIRECTORY STEP       exits with 0 if STEP is logged, with 1 if it is not after some seconds
    drill.py judge FOLDER TOLERANCE        prints the table and the verdicts; exits with 0 if all passed, with 1 if not,
                                           with 3 if it needs another uninterrupted run to decide

A step is a line with `step N` (or `iter N`) and `loss X` (also with = or :, in quotes, or as JSON). The lines are from
task_1/log.txt, or, if that has no step, from a *.jsonl file below OUTPUT_PATH. Standard library only.
"""

import json
import math
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

# The fault, its name, and its place in the run. The places differ, because one of them could be the end of an
# epoch by chance.
FAULTS = {
    "warning": ("warning", 0.37),
    "sigterm": ("SIGTERM", 0.41),
    "kill": ("kill -9 of a rank", 0.45),
    "node": ("dead node", 0.49),
}
FEWEST_STEPS = 10
SOON_SECONDS = 5  # an end so soon after a fault was sent may have come before the fault arrived
WHAT_TO_PRINT = 'print(f"step {step} loss {loss:.9g}", flush=True)'

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|[-+]?inf"
_TOKEN = re.compile(
    r"(?<![a-z])(?P<name>step|iter(?:ation)?)\W{0,4}(?P<step>\d+)"
    rf"|(?<![a-z])loss\W{{0,4}}?(?:tensor\()?(?P<loss>{_NUMBER})",
    re.IGNORECASE,
)
_OTHER_LOSS = re.compile(r"(?:val|valid|validation|eval|evaluation|test|dev)[\W_]{0,2}$", re.IGNORECASE)
_ATTEMPT = re.compile(r"== job \d+, attempt \d+, on ")


# --- the output of a program


def pairs(line):
    """Yields each (step, loss, digits of the loss) of a line."""
    if line.lstrip().startswith("{"):
        try:
            values = json.loads(line)
        except ValueError:
            values = {}
        step = next((values[key] for key in values if re.search(r"(^|[^a-z])step$", key)), None)
        loss = next((values[key] for key in values if re.fullmatch(r"(train(ing)?[_/. ])?loss", key)), None)
        if isinstance(step, int) and isinstance(loss, (int, float)):
            yield step, float(loss), _digits(repr(loss))
            return
    step = loss = None
    in_epoch = re.search(r"(?<![a-z])epoch", line, re.IGNORECASE)
    for token in _TOKEN.finditer(line):
        if token["step"]:
            if token["name"].lower() == "step" or not in_epoch:  # `Epoch 2 | Iter 0` restarts in each epoch
                step = int(token["step"])
        elif not _OTHER_LOSS.search(line, max(0, token.start() - 12), token.start()):
            loss = token["loss"]
        if step is not None and loss is not None:
            yield step, float(loss), _digits(loss)
            step = loss = None


def _digits(number):
    return len(re.sub(r"e.*|\D", "", number.lower()).lstrip("0"))


class Losses:
    """The losses of one run: for each attempt a dictionary from steps to the losses that its ranks printed."""

    def __init__(self, directories):
        self.digits = 0
        self.attempts = []
        for read in (self._read_log, self._read_json):
            self.attempts = [attempt for directory in directories for attempt in read(directory / "task_1")]
            if any(self.attempts):
                break
        self.last = {}  # step -> losses, of the last attempt that made this step
        self.attempt_of = {}
        self.repeated = 0
        for number, attempt in enumerate(self.attempts):
            self.repeated += len(attempt.keys() & self.last.keys())
            self.last.update(attempt)
            self.attempt_of.update(dict.fromkeys(attempt, number))

    def _read_log(self, task):
        attempts = []
        try:
            text = (task / "log.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return attempts
        for line in text.replace("\r", "\n").split("\n"):
            if _ATTEMPT.search(line):
                attempts.append({})
            elif attempts:
                self._add(attempts[-1], line)
        return attempts

    def _read_json(self, task):
        """Such a file has one writer, so a step that is not higher than the step before it starts another attempt."""
        attempts = []
        for file in sorted((task / "output").rglob("*.jsonl")):
            number, before = 0, -1
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                for step, _, _ in pairs(line):
                    number += step <= before
                    before = step
                    while len(attempts) <= number:
                        attempts.append({})
                    self._add(attempts[number], line)
        return attempts

    def _add(self, attempt, line):
        for step, loss, digits in pairs(line):
            attempt.setdefault(step, []).append(loss)
            self.digits = max(self.digits, digits)


def distance(one, other):
    """The largest difference between the losses of a step in two runs."""
    short, long = sorted((sorted(one, key=_order), sorted(other, key=_order)), key=len)
    if len(short) == len(long):
        return max(map(_gap, short, long))
    return max(min(_gap(loss, candidate) for candidate in long) for loss in short)


def _order(loss):
    return (math.isnan(loss), loss)


def _gap(one, other):
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    gap = abs(one - other)
    return math.inf if math.isnan(gap) else gap


def differing(one, other, tolerance):
    """Returns the sorted steps whose losses differ by more than the tolerance, and the largest difference."""
    gaps = {step: distance(one[step], other[step]) for step in one.keys() & other.keys()}
    return sorted(step for step, gap in gaps.items() if gap > tolerance), max(gaps.values(), default=0.0)


# --- before and during the run


def plan(arguments):
    directory, step = Path(arguments[0]), arguments[1:]
    losses = Losses([directory])
    log = directory / "task_1/log.txt"
    if len(losses.last) < FEWEST_STEPS:
        found = "no step" if not losses.last else f"only {len(losses.last)} steps"
        fail(
            f"{found} with a loss found in {str(log)!r} or in *.jsonl files below OUTPUT_PATH; {FEWEST_STEPS} are "
            f"needed: print each step on one rank, as in  {WHAT_TO_PRINT}"
        )
    steps = sorted(losses.last)
    if step and not steps[0] <= int(step[0]) < steps[-1]:
        fail(f"--at {step[0]}: the uninterrupted run's steps are {steps[0]} to {steps[-1]}", 2)
    for fault, (_, part) in FAULTS.items():
        print(fault, step[0] if step else steps[int(len(steps) * part)])


def wait(arguments):
    directory, step = Path(arguments[0]), int(arguments[1])
    deadline = time.monotonic() + 5
    seen = None
    while time.monotonic() < deadline:
        files = [directory / "task_1/log.txt", *(directory / "task_1/output").rglob("*.jsonl")]
        sizes = [file.stat().st_size for file in files if file.exists()]
        if sizes != seen:
            seen = sizes
            if max(Losses([directory]).last, default=-1) >= step:
                return
        time.sleep(0.1)
    sys.exit(1)


# --- afterwards


class Run:
    """One run of the drill: FOLDER/NAME/runs names its run directories, state says how its last job ended."""

    def __init__(self, folder):
        self.directories = [Path(line) for line in (folder / "runs").read_text().splitlines()]
        self.state = (folder / "state").read_text().strip() if (folder / "state").exists() else "unknown"
        self.losses = Losses(self.directories)
        self.restarts = sum(len(list(directory.glob("task_1/attempt_*"))) for directory in self.directories) - 1
        self.log = self.directories[-1] / "task_1/log.txt"
        # The fault that drill.sh injected, if any: the attempt, and whether there were checkpoints.
        struck = None
        self.seconds, self.cause, self.had_saved = None, None, False
        injected = self.directories[0] / "drill"
        if injected.exists():
            attempt, had_saved = injected.read_text().split()
            self.had_saved = had_saved == "1"
            cause = struck = self.directories[0] / f"task_1/attempt_{attempt}/cause"
            self.cause = cause.read_text().strip() if cause.exists() else "unknown"
            if cause.exists():
                self.seconds = max(0.0, cause.stat().st_mtime - injected.stat().st_mtime)
        # Attempts that failed without the fault: how they ended, and their logs.
        causes = [path for directory in self.directories for path in sorted(directory.glob("task_1/attempt_*/cause"))]
        ended = [(path.read_text().strip(), path.parents[1] / "log.txt") for path in causes if path != struck]
        self.other_failures = [end for end in ended if end[0].split()[:1] in (["failed"], ["hung"], ["out_of_memory"])]


class Verdict(NamedTuple):
    """The verdict on one fault. `short` is its word in the table."""

    passed: bool
    words: str
    advice: str = ""
    first_differing: "int | None" = None
    short: str = "FAILED"


def wrong(words, advice, first_differing=None):
    return Verdict(False, words, advice, first_differing)


class Judge:
    """Compares each fault's run with the uninterrupted one."""

    def __init__(self, folder, tolerance):
        self.folder, self.tolerance = folder, tolerance
        self.reference = Run(folder / "uninterrupted")
        self.steps = sorted(self.reference.losses.last)
        self.interval = min(after - before for before, after in zip(self.steps, self.steps[1:]))
        self.unsure = False  # Whether another uninterrupted run is needed to decide.
        facts = (self.reference.directories[0] / "facts").read_text()
        grace = re.search(r"^fact\[grace_seconds\]='(\d+)'", facts, re.MULTILINE)
        self.grace = int(grace[1]) if grace and grace[1] != "0" else 120

    def of(self, fault, run):
        return self._of_stop(fault, run) or self._of_steps(run) or self._of_losses(run.losses) or _passed(fault, run)

    def _of_stop(self, fault, run):
        """Returns what is wrong with the end of the attempt that the fault hit, if anything."""
        if run.cause is None and not run.state.startswith("COMPLETED"):
            return wrong(f"the run failed before the fault came ({run.state})", f"see {run.log}")
        if run.cause is None:
            return wrong(
                "not tested: the run was over before the fault came",
                f"make it longer, half a minute at least, and let it print each step at once: {WHAT_TO_PRINT}",
            )
        kind, status = (*run.cause.split(), "", "")[:2]
        if fault in ("warning", "sigterm") and kind not in ("notice", "finished", "failed"):
            return wrong(f"not tested: something else ended the run ({run.cause})", "run the drill again")
        if fault in ("warning", "sigterm") and kind == "finished" and run.seconds < SOON_SECONDS:
            return wrong(
                f"not tested: the run came to its end {run.seconds:.0f} s after the fault was sent",
                "make it longer, half a minute at least, or bring the fault earlier (--at STEP)",
            )
        if fault == "warning" and kind == "finished":
            return wrong(
                "it went on to its end: it does not listen to STOP_FILE",
                "look for that file at the end of each step; when it is there, save and exit with status 75",
            )
        if fault == "warning" and kind == "failed":
            return wrong(
                f"it ended with status {status} when STOP_FILE was there, and so is not started again",
                "after the save, exit with status 75 on all ranks",
            )
        if fault == "sigterm" and kind == "failed" and status != "143":
            return wrong(
                f"it ended with status {status} at SIGTERM", "treat SIGTERM like STOP_FILE: save, exit with 75"
            )
        if kind == "notice" and run.seconds > self.grace:
            return wrong(
                f"it stopped {run.seconds:.0f} s after it was asked, and has {self.grace} s",
                "look for STOP_FILE at the end of each step, not of each epoch; or give more --grace-seconds",
            )
        return None

    def _of_steps(self, run):
        losses, began = run.losses, [min(attempt) for attempt in run.losses.attempts if attempt]
        asked = run.cause.startswith("notice")
        if not run.state.startswith("COMPLETED"):
            return wrong(f"it did not come to its end after the restart: {run.state}", f"see {run.log}")
        if not losses.last:
            return wrong("no step with a loss in its log", f"see {run.log}")
        if self.steps[0] in began[1:] and losses.repeated > 1 and (asked or run.had_saved):
            return wrong(
                f"it began again at step {self.steps[0]}: it does not load its checkpoint",
                f"at the start, load what lies in CHECKPOINT_DIRECTORY{', and save there when asked to stop' * asked}",
            )
        if asked and losses.repeated > 1:
            return wrong(
                f"{losses.repeated * self.interval} steps were done twice: when asked to stop it did not save there, "
                f"and went on at step {began[-1]}, where it had saved before (as at an epoch's end)",
                "save when asked to stop, at the end of that step, with the place in the epoch; then exit with 75",
            )
        missing, most = sorted(set(self.steps) - losses.last.keys()), max(losses.last)
        if missing and missing[-1] == self.steps[-1]:
            return wrong(
                f"it ended at step {most}; without the fault it ends at {self.steps[-1]}",
                "count the steps from the one that the checkpoint holds",
            )
        if missing:
            return wrong(
                f"steps {missing[0]} to {missing[-1]} were never done ({len(missing)} in all)",
                "save the number of the steps that are done, not of the one that begins, nor of the epoch",
            )
        if most > self.steps[-1]:
            return wrong(
                f"it went on to step {most}; without the fault it ends at {self.steps[-1]}",
                "save how much of the epoch is done, and count the steps from the checkpoint's",
            )
        return None

    def _of_losses(self, losses):
        differ, most = differing(self.reference.losses.last, losses.last, self.tolerance)
        if not differ:
            return None
        first = differ[0]
        if not self.tolerance:
            again = self.folder / "uninterrupted_again"
            self.unsure = not again.exists()
            natural, spread = (
                ([], 0.0) if self.unsure else differing(self.reference.losses.last, Run(again).losses.last, 0.0)
            )
            if natural:
                return wrong(
                    f"cannot tell: two uninterrupted runs differ, too, from step {natural[0]} on, by {spread:.3g} "
                    f"at most (this one by {most:.3g})",
                    "make the program deterministic (seeds, torch.use_deterministic_algorithms), or give --tolerance "
                    f"{2 * spread:.1g}",
                    first,
                )
        words, attempt = f"the loss of step {first} differs", losses.attempt_of[first]
        if not any(losses.attempts[:attempt]):
            return wrong(
                f"{words}, and that is before the fault",
                "let each run begin with the same seed (torch.manual_seed, and the loader's own generator), or give a "
                "--tolerance",
                first,
            )
        coarse = ""
        if self.interval > 1:
            coarse = f"; the log tells each {self.interval}th step only: print all, to know which of both kinds it is"
        restart = min(losses.attempts[attempt])
        if first == restart:
            return wrong(
                f"{words}, the first after the restart: the data come in a different order, or the weights differ",
                "put the sampler's place (epoch, position, seed), the random generators and all weights into the "
                "checkpoint, and load them. Where they are: a DataLoader that shuffles without a generator of its own "
                "takes its order from the global one at each epoch's start: give it generator=torch.Generator(), "
                f"seeded by the epoch{coarse}",
                first,
            )
        return wrong(
            f"{words}, though step {restart}, the first after the restart, was right: the weights and data are, the "
            "optimizer or the learning rate is not",
            f"put the state of the optimizer and of the scheduler into the checkpoint, and load them{coarse}",
            first,
        )


def _passed(fault, run):
    remark, short = "", "passed"
    if fault == "sigterm" and not run.cause.startswith("notice"):
        did = "went on" if run.cause == "finished" else "died of it"
        remark = (
            f"; it does not listen to SIGTERM ({did}): a preemption costs what was done since the last save. Treat it "
            "like STOP_FILE to lose nothing"
        )
    elif fault in ("kill", "node") and not run.had_saved:
        short = "passed, all steps lost"
        remark = (
            ", all steps lost: it had saved nothing by then and started again; save every N steps, not only when asked "
            "to stop"
        )
    return Verdict(True, f"passed{remark}", short=short)


def judge(arguments):
    folder, tolerance = Path(arguments[0]), float(arguments[1])
    referee = Judge(folder, tolerance)
    runs = {fault: Run(folder / fault) for fault in FAULTS}
    verdicts = {fault: (run, referee.of(fault, run)) for fault, run in runs.items()}
    if referee.unsure:
        sys.exit(3)
    table = [("fault", "restarts", "steps lost", "stopped after", "first differing step", "verdict")]
    for fault, (run, verdict) in verdicts.items():
        stopped = f"{run.seconds:.1f} s" if run.seconds is not None and run.cause.startswith("notice") else "-"
        lost = run.losses.repeated * referee.interval
        first = verdict.first_differing if verdict.first_differing is not None else "-"
        table.append((FAULTS[fault][0], run.restarts, lost, stopped, first, verdict.short))
    widths = [max(len(str(row[column])) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()
    for fault, (run, verdict) in verdicts.items():
        print(f"{FAULTS[fault][0]}: {verdict.words}")
        if verdict.advice:
            print(f"    to fix: {verdict.advice}")
        for cause, log in run.other_failures:
            print(f"    an attempt failed for another reason ({cause}), and its steps count as lost: see {log}")
    digits = referee.reference.losses.digits
    if not tolerance and digits < 6:
        print(f"\nThe losses have {digits} digits, which hides small differences: {WHAT_TO_PRINT}")
    passed = [fault for fault, (_, verdict) in verdicts.items() if verdict.passed]
    (folder / "passed").write_text("".join(f"{fault}\n" for fault in passed))
    sys.exit(len(passed) < len(verdicts))


def fail(message, status=1):
    print(f"drill.sh: error: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    {"plan": plan, "wait": wait, "judge": judge}[sys.argv[1]](sys.argv[2:])
