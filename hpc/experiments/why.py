"""Why a task ended, or waits: one sentence, the first rank that failed and how its log ends, and what to do.

Known from the run directory; Slurm is asked about what waits, and about ends that nobody could write down. Called by
experiments.py; the rules are in why_rules.py.
"""

import collections
import os
import re
import time

from files import names_in, read, tail
from finding import find, the_task
from slurm import Slurm, ask, duration, seconds_of
from why_rules import KINDS, NOTES, REASONS, RULES, SIGNALS

SHOWN = 12  # lines of a log


def is_on_node(path, node):
    """Whether the rank of this log runs there; NODE is its number in the job, or its name."""
    found = re.search(r"^rank \d+ of \d+: node (\d+), (\S+) \(", read(path, 2000), re.MULTILINE)
    return bool(found) and node in found.groups()


def attempts_part(text, number):
    """What was written since the attempt began."""
    begun = [match.start() for match in re.finditer(rf"^== (?:job \d+, )?attempt {number}\b", text, re.MULTILINE)]
    return text[begun[0] :] if begun else text


class Case:
    """What is known of how a task ended."""

    def __init__(self, run, task):
        self.run, self.task = run, task
        self.attempt = task.attempts[-1] if task.attempts else None
        self.job = run.job_of(task.number)
        self.log = tail(task.log, 1 << 18)
        self.cause = self.attempt.cause if self.attempt else ""
        self.slurm_says = ""
        if not self.cause or (task.state == "cancelled" and self.cause != "cancelled" and not task.was_stopped):
            self.cause = self.ask_slurm()
        self.rank, self.node, self.status = self.first_to_fail()
        own = os.path.join(task.folder, f"rank_{self.rank}.txt")
        self.own_log = own if self.rank is not None and os.path.exists(own) else None

    def ask_slurm(self):
        """An end that nobody wrote down, as `lost STATE`, or before the first attempt as `not_started STATE`."""
        word = "lost" if self.attempt else "not_started"
        if not self.job:
            return f"{word} unknown"
        shown, _ = ask("scontrol", "--oneliner", "show", "job", self.job)
        state = re.search(r" JobState=(\w+) Reason=(\S+)", shown)
        if not state:
            account, _ = ask(
                "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={self.job}", "--format=State,ExitCode"
            )
            state = re.search(r"^(\w+)[^|]*\|(\S*)", account)
        if not state:
            return f"{word} unknown"
        self.slurm_says = f": Slurm says {state[1]} {state[2]}"
        return f"{word} {state[1]}"

    def first_to_fail(self):
        """(rank, node, status), None for what is not known."""
        words = read(os.path.join(self.attempt.folder, "failed_rank")).split() if self.attempt else []
        if len(words) >= 3 and words[2] != "75" and not self.cause.startswith(("hung", "ignored_stop")):
            return words[0], words[1], words[2]
        words = self.cause.split()
        if words[0] == "failed" and len(words) == 4:
            return None, None if words[3] == "-" else words[3], words[1]
        return self.out_of_memory() if words[0] == "out_of_memory" else (None, None, None)

    def out_of_memory(self):
        """Who it was, in Slurm's words, which since 26.05 name no node; then by what was measured.

        A task is a rank, where torchrun does not start the ranks.
        """
        told = re.search(r"srun: error: (\S+): tasks? (\d+): Out Of Memory", self.log)
        if told:
            return told[2] if self.run.facts.get("launcher") != "torchrun" else None, told[1], None
        told = re.search(
            r"^slurmstepd-(\S+): error: (?:StepId=\S+ exceeded memory limit|Detected \d+ oom)", self.log, re.MULTILINE
        )
        node = told[1] if told else self.fullest_node()
        ranks = [path for path in rank_files(self.task) if node and is_on_node(path, node)]
        return os.path.basename(ranks[0])[5:-4] if len(ranks) == 1 else None, node, None

    def fullest_node(self):
        """Since Slurm 26.05 its own accounting does not name the node: the only one of the attempt, or the only one
        that was seen above what a node may take, else above half of that; None where there is no such node.
        """
        if not self.attempt:
            return None
        if re.fullmatch(r"[^][,\s]+", self.attempt.nodes):
            return self.attempt.nodes
        limit = self.run.number_in("mem_megabytes") << 20
        for most in (limit, limit / 2):
            full = [usage.node for usage in self.attempt.usage if 0 < most < usage.peak_memory_bytes]
            if len(full) == 1:
                return full[0]
        return None

    @property
    def text(self):
        """Of the last attempt: of a failure what the first rank to fail has printed, else all."""
        whole = tail(self.own_log, 1 << 18) if self.own_log and self.cause.startswith("failed") else self.log
        return attempts_part(whole, self.attempt.number) if self.attempt else whole

    def peak_bytes(self):
        """The most memory that a node, else a task of Slurm, has taken in the last attempt; None if nobody measured."""
        # Slurm's own accounting says it where it ends a step for that.
        peak = max([0, *map(int, re.findall(r"exceeded memory limit \((\d+) > ", self.log))])
        peak = max([peak, *(node.peak_memory_bytes for node in (self.attempt.usage if self.attempt else []))])
        if not peak and self.job:
            shown, _ = ask("sacct", "--noheader", "--parsable2", "--units=K", f"--jobs={self.job}", "--format=MaxRSS")
            peak = max([0, *(int(float(size)) * 1024 for size in re.findall(r"^([\d.]+)K$", shown, re.MULTILINE))])
        return peak or None


def fields(case):
    """What the sentences may name."""
    run = case.run
    asked = run.number_in("mem_megabytes")
    peak = case.peak_bytes() if re.match("out_of_memory|failed|lost OUT", case.cause) else None
    who = f"rank {case.rank}" if case.rank is not None else "a rank"
    who += f" on {case.node}" if case.node else ""
    nodes = case.attempt.nodes if case.attempt else ""
    rate, more_time = pace(case)
    beat = case.attempt.beat if case.attempt else None
    return {
        "who": who,
        "node": case.node or nodes or "NODE",
        "nodes": nodes,
        "head": first_of(nodes) or "its head node",
        "status": case.status or "another status than 0",
        "signal": SIGNALS.get(int(case.status or 0), ""),
        "asked": megabytes(asked),
        "peak": f"; the most that was measured is {megabytes(peak >> 20)}" if peak else "",
        "more_memory": megabytes(more(max(asked, (peak or 0) >> 20))),
        "again": f"bash hpc/experiments.sh resubmit {case.job or run.folder}",
        "logs": f"bash hpc/experiments.sh logs {case.job or run.folder}",
        "scratch": run.facts.get("scratch_dir", "SCRATCH"),
        "limit": run.facts.get("time", "the job"),
        "rate": rate,
        "more_time": more_time,
        "last": KINDS.get(case.cause, case.cause),
        "hang": duration(run.number_in("hang_seconds")),
        "beat": f"; the last beat was at {time.strftime('%F %T', time.localtime(beat))}" if beat else "",
        "slurm": case.slurm_says,
        "job": case.job,
    }


def first_of(nodes):
    """The first of Slurm's list: of cn-[07,09-12]-x, z it is cn-07-x."""
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", re.match(r"(?:\[[^]]*\]|[^,[])*", nodes)[0])


def megabytes(number):
    return f"{number // 1024}G" if number and number % 1024 == 0 else f"{number}M"


def more(asked):
    """Half as much again, in whole steps."""
    step = 1024 if asked >= 4096 else 256
    return -(-asked * 3 // 2 // step) * step


def pace(case):
    """(what is known of how fast it was, the time to ask for)."""
    task = case.task
    elapsed, limit = task.elapsed, seconds_of(case.run.facts.get("time", ""))
    if not task.progress or not task.progress[1]:
        return "; how fast it was is not known, as its log has no 'epoch 3/20'", duration(2 * limit)
    what, done, whole = task.progress
    if not whole:
        each = duration(elapsed / done)
        return f"; {what} {done:g} was reached in {duration(elapsed)}, so {each} each", duration(2 * limit)
    needed = elapsed * whole / done
    told = (
        f"; {what} {done:g} of {whole} was reached in {duration(elapsed)}, so the whole needs about {duration(needed)}"
    )
    return told, duration(-(-needed * 1.2 // 60) * 60)


def judge(case):
    """(word, sentence, remedy) of the first rule that fits."""
    known, text = fields(case), case.text
    for rule in RULES:
        if not re.search(rule.cause, case.cause):
            continue
        # The last counts: an exception's own cause stands before it.
        found = collections.deque(re.finditer(rule.log or "$", text, re.MULTILINE), maxlen=1)
        if found:
            return filled(rule, {**known, **tidy(rule, found[0].groupdict())})
    return "failed", f"it ended: {case.cause}", known["again"]


def tidy(rule, groups):
    """Of one line, and not without end; what is not known is left out."""
    tidied = {name: " ".join(value.split())[:300] if value else "" for name, value in groups.items()}
    if tidied.get("wanted"):
        tidied["wanted"] = f" (another {tidied['wanted']})"
    if rule.word == "loader worker killed" and tidied["error"]:
        tidied["error"] = f" ({tidied['error']})"
    return tidied


def filled(rule, known):
    return rule.word, rule.sentence.format_map(known), rule.remedy.format_map(known)


def explain_reason(job):
    for pattern, text in REASONS:
        if re.search(pattern, job.reason):
            start = "" if job.start in ("N/A", "Unknown") else f"; Slurm expects to start it at {job.start}"
            return f"{text.format(job=job.id)} ({job.reason}){start}"
    return f"Slurm's reason is {job.reason}"


def describe(run, task):
    """(word, sentence, remedy or None, case or None) of its present state."""
    live = task.live
    before = KINDS.get(task.attempts[-1].cause, task.attempts[-1].cause) if task.attempts else ""
    if task.state == "completed":
        ends = [attempt.cause or "lost" for attempt in task.attempts[:-1]]
        times = collections.Counter(KINDS.get(end, end) for end in ends)
        told = ", ".join(f"{count} {kind}" for kind, count in times.items())
        told = f", interrupted {len(ends)} time{'s' * (len(ends) > 1)}: {told}" if times else ""
        told = f"it has finished, in {duration(task.elapsed)}{told}"
        if task.unconnected:
            return "unconnected", f"{told}, but {task.unconnected[0]}", task.unconnected[1], Case(run, task)
        return "finished", told, None, None
    if task.state in ("running", "suspended"):
        last = task.attempts[-1] if task.attempts else None
        told = f"attempt {last.number} on {last.nodes}" if last else "it is starting"
        if task.progress:
            what, done, whole = task.progress
            told += f", {what} {done:g}" + (f" of {whole}" if whole else "")
        if last and last.beat:
            told += f", the last beat {duration(time.time() - last.beat)} ago"
        if live and live.left not in ("INVALID", "UNLIMITED"):
            told += f", {live.left} left"
        if task.state == "suspended":
            told = f"Slurm has suspended it (for a job of higher priority, or by an administrator): {told}"
        return task.state, told, None, None
    if task.state in ("enqueued", "paused") and (live or run.slurm.silence):
        waits = "it waits to go on" + (f", after: {before}" if before else "") if task.attempts else "it waits"
        if live and live.state == "PENDING":
            return ("paused" if task.attempts else "pending"), f"{waits}: {explain_reason(live)}", None, None
        return task.state, waits, None, None
    case = Case(run, task)
    if task.was_stopped:
        told = f"it has saved and stopped, as experiments.sh stop told it to, after {duration(task.elapsed)}"
        return "stopped", told, fields(case)["again"], None
    if task.state == "cancelled" and re.match(r"(?:lost|not_started) (?!\w*FAIL|OUT_OF|TIMEOUT|PREEMPTED)", case.cause):
        when = f"while it waited to go on, after: {before}" if task.attempts else "before it began"
        return "cancelled", f"it was taken out of the queue {when}", fields(case)["again"], None
    return (*judge(case), case)


def stacks(case):
    """Where each rank stood at its end: the innermost line of its stack that is the project's own, else of all."""
    found = []
    for path in rank_files(case.task):
        stack = attempts_part(tail(path, 1 << 16), case.attempt.number).rpartition("Current thread")[2]
        frames = re.findall(r'^ *(File "(.*)", line \d+ in .*)', stack, re.MULTILINE)
        own = [frame for frame, file in frames if file.startswith(case.run.facts.get("source_dir", "-"))]
        if frames:
            found.append(f"{os.path.basename(path)[:-4].replace('_', ' ')}: {own[0] if own else frames[0][0]}")
    return found


def rank_files(task):
    """The logs of its ranks, by their numbers."""
    names = [name for name in names_in(task.folder) if re.fullmatch(r"rank_\d+\.txt", name)]
    return [os.path.join(task.folder, name) for name in sorted(names, key=lambda name: int(name[5:-4]))]


def ending_of(case):
    """(path, the last lines) of what tells most."""
    shown = stacks(case) if case.cause.startswith(("hung", "ignored_stop")) else None
    if shown:
        return case.task.log, shown[:SHOWN]
    path = case.own_log or case.task.log
    text = tail(path, 1 << 16)
    if case.attempt:
        text = attempts_part(text, case.attempt.number)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("== ")]
    return path, lines[-SHOWN:]


def explain(run, task):
    word, sentence, remedy, case = describe(run, task)
    of = f", task {task.number}" if len(run.numbers) > 1 else ""
    print(f"job {run.job_of(task.number) or '-'} ({run.name}{of}): {word}: {sentence}")
    if case:
        path, lines = ending_of(case)
        if case.rank is not None:
            status = f", status {case.status}" if case.status else ""
            print(f"first to fail: rank {case.rank} on {case.node}{status}")
        heading = "where the ranks stood" if case.cause.startswith(("hung", "ignored_stop")) else "its log ends"
        if lines and word not in ("cancelled", "preempted"):  # the log has nothing to do with that
            print(f"{heading} ({path}):")
            print("\n".join(f"    {line[:400]}" for line in lines))
    if remedy:
        print(f"to do: {remedy}")
    several = len(task.attempts) > 1
    for attempt in task.attempts:
        cause = KINDS.get(attempt.cause, attempt.cause) or "-"
        if several:
            print(f"attempt {attempt.number}: {cause}, after {duration(attempt.seconds)} on {attempt.nodes}")
        if attempt.doubt:
            print(f"{'  ' * several}Slurm did not answer when this ended: {attempt.doubt}")
    if task.unconnected and word != "unconnected":
        print(f"note: {task.unconnected[0]}. {task.unconnected[1]}")
    text = tail(task.log, 1 << 20)
    for rule in NOTES:
        count = len(re.findall(rule.log, text, re.MULTILINE))
        if count:
            known = {"count": count, "scratch": run.facts.get("scratch_dir", "SCRATCH")}
            print("note: {}: {}; {}".format(*filled(rule, known)))


def say_written(run):
    """Of files where no other run looks for them (job/lib/sources.sh)."""
    names = [name for name in read(os.path.join(run.folder, "written")).split("\0") if name]
    if names:
        shown = ", ".join(names[:3]) + ", …" * (len(names) > 3)
        print(
            f"note: {len(names)} files were written into the run's own copy of the sources ({shown}), in "
            f"{run.facts.get('source_dir', '-')}; a later run does not see them: save below CHECKPOINT_DIRECTORY or "
            "OUTPUT_PATH, or submit with --keep-folders"
        )


def main(outputs, options):
    run, number = find(options.job, outputs, Slurm())
    run.slurm.say_silence()
    number = options.task if options.task is not None else number
    tasks = run.tasks if number is None else [the_task(run, number)]
    if len(tasks) == 1:
        explain(run, tasks[0])
        say_written(run)
        return 0
    # Of several, each state once: its tasks by number, and the first in full.
    groups = {}
    for task in tasks:
        state = task.state + ", ranks unconnected" * bool(task.unconnected)
        groups.setdefault((state, task.attempts[-1].cause if task.attempts else ""), []).append(task)
    for position, ((state, _), alike) in enumerate(groups.items()):
        print(
            "\n" * (position > 0)
            + f"{len(alike)} of {len(tasks)} tasks {state}: {listed([task.number for task in alike])}"
        )
        explain(run, alike[0])
    say_written(run)
    return 0


def listed(numbers):
    """As 1-3,7."""
    parts = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
