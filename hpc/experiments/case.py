"""Collects how a task ended: the cause, the rank that failed, and what it printed. For why.py."""

import os
import re

import failures
from cached import cached
from files import read, tail
from ranks import node_of, rank_files
from slurm import ask

AT_EXIT = "terminate called without an active exception"  # torch, while Python exits
CRASHED = ("132", "135", "136", "137", "139", "152")  # the status says more than the output
LONG = 1 << 18  # bytes of a log in which the failure is searched
SPOKEN = 1 << 16  # bytes of these that are read line by line
# Lines that may report an error. A training's progress must not match.
SPEAKS = (
    r"(?:[Ee]rr(?:or|no)|ERR|[Ff]ail|FAIL|annot|[Cc]an't|ould(?: not|n't)|[Nn]o (?:such|module|space)"
    r"|[Nn]ot (?:found|a |allowed)|denied|refuse|[Tt]imed? ?out|exceeded|terminate|what\(\)|Xid|ismatch|Assertion"
    r"|[Uu]n(?:known|recognized|able|expected|available)|nvalid|issing|MPI|PMI|module|[Uu]sage|FATAL|ABORT|shut down"
    r"|core dumped|lock|\b[Nn]a[Nn]\b|Fatal|fork|quota"
    r"|Interrupt|roken|not in struct|Illegal|NET/IB|NCCL WARN)"
)
# A path in a message: in quotation marks or absolute. URLs, packages and places in source files do not count.
PATH = re.compile(r"""(['"`])(?P<quoted>[^'"`\n]*/[^'"`\n]+)\1|(?<![\w.:/<~-])(?P<bare>/[^\s'"`,;()<>]+)""")
NO_FILE = re.compile(r"://|/(?:site|dist)-packages/|\.(?:py|cpp|cc|cu|h|pyx|rs)\b")
# The numbers of collectives are comparable only within one group of ranks.
WAITED = r"Timed out waiting \d+ms|Watchdog caught collective|default_pg\b.* caught collective .*\(SeqNum=(\d+)"


def attempts_part(text, number):
    """Return the part of the log since the attempt began."""
    starts = [match.start() for match in re.finditer(rf"^== (?:job \d+, )?attempt {number}\b", text, re.MULTILINE)]
    return text[starts[0] :] if starts else text


class Case:
    """How a task ended, as far as it is known."""

    def __init__(self, run, task):
        self.run, self.task = run, task
        self.attempt = task.attempts[-1] if task.attempts else None
        self.job = run.job_of(task.number)
        self.cause = self.attempt.cause if self.attempt else ""
        self.slurm_says = ""
        if not self.cause or (task.state == "cancelled" and self.cause != "cancelled"):
            self.cause = self.ask_slurm()
        self.rank, self.node, self.status = self.first_to_fail()
        own = os.path.join(task.folder, f"rank_{self.rank}.txt")
        self.own_log = own if self.rank is not None and os.path.exists(own) else None
        self.chain = []
        if self.cause.startswith(("failed", "lost", "not_started")) and self.status != "137":
            self.find_failure()

    @cached
    def log(self):
        """The end of the task's log."""
        return tail(self.task.log, LONG)

    def ask_slurm(self):
        """Return the cause of an unrecorded end: `lost STATE`, or `not_started STATE` before the first attempt."""
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
        """Return (rank, node, status), with None for each that is unknown."""
        words = read(os.path.join(self.attempt.folder, "failed_rank")).split() if self.attempt else []
        if len(words) >= 3 and words[2] != "75" and not self.cause.startswith(("hung", "ignored_stop")):
            return words[0], words[1], words[2]
        words = self.cause.split()
        if words[0] == "failed" and len(words) == 4:
            return None, None if words[3] == "-" else words[3], words[1]
        return self.out_of_memory() if words[0] == "out_of_memory" else (None, None, None)

    def out_of_memory(self):
        """Return (rank, node, None) from Slurm's message, or else (since 26.05 it names no node) from the samples.

        If torchrun does not start the ranks, a task of Slurm is a rank.
        """
        reported = re.search(r"srun: error: (\S+): tasks? (\d+): Out Of Memory", self.log)
        if reported:
            return reported[2] if self.run.facts.get("launcher") != "torchrun" else None, reported[1], None
        reported = re.search(
            r"^slurmstepd-(\S+): error: (?:StepId=\S+ exceeded memory limit|Detected \d+ oom)", self.log, re.MULTILINE
        )
        node = reported[1] if reported else self.fullest_node()
        ranks = [path for path in rank_files(self.task) if node and node in node_of(path)]
        return os.path.basename(ranks[0])[5:-4] if len(ranks) == 1 else None, node, None

    def fullest_node(self):
        """Return the node that ran out of memory, which Slurm's message does not name since 26.05.

        It is the attempt's only node, or the only one with a sample above the limit, or else above half of it.
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

    @cached
    def text(self):
        """The output of the last attempt; after a failure only that of the first rank that failed."""
        whole = tail(self.own_log, LONG) if self.own_log and self.cause.startswith("failed") else self.log
        return attempts_part(whole, self.attempt.number) if self.attempt else whole

    def find_failure(self):
        """Set `chain` to the exceptions that came first, and `rank` to the rank that raised them.

        The first rank that ends is not always the first that failed: a rank that waits for another may end sooner.
        """
        self.chain = failures.first(self.text)
        # A program that starts its own ranks mixes their lines and has one status for all.
        is_mixed = self.rank is None or self.run.facts.get("launcher") not in ("torchrun", "srun")
        table = failures.reported_by_launcher(self.text) if is_mixed and self.cause.startswith("failed") else None
        if table:
            rank, node, self.status = table
            self.rank = rank or self.rank
            self.node = self.node or (None if node == "localhost" else node)
            self.cause = f"failed {self.status} - -"
        is_other = bool(table) and bool(self.chain) and self.chain[-1].rank not in (None, self.rank)
        # An exception before an abort at exit has ended the program, not the abort.
        is_crash = self.status in CRASHED and not (self.chain and AT_EXIT in self.text)
        if self.chain and self.chain[-1].is_consequence and (is_crash or is_other):
            self.chain = []
        if not is_crash and (not self.chain or self.chain[-1].is_consequence):
            self.look_at_others()
        if is_mixed and self.chain and self.chain[-1].rank:
            self.rank = self.chain[-1].rank

    def look_at_others(self):
        """Search the other ranks for the first exception that another rank did not cause."""
        found = []
        for path in rank_files(self.task) if self.own_log else []:
            text = attempts_part(tail(path, SPOKEN), self.attempt.number) if path != self.own_log else ""
            chain = failures.first(text)
            if chain and not chain[-1].is_consequence:
                place = self.log.find(chain[-1].text.partition("\n")[0])
                found.append((place if place >= 0 else len(self.log), path, chain))
        if found:
            _, self.own_log, self.chain = min(found)
            self.rank, self.status = os.path.basename(self.own_log)[5:-4], None
            self.node = node_of(self.own_log)[1] or self.node
            self.cause, self.text = "failed 1 - -", ""

    @cached
    def lines(self):
        """The lines that report an error, without tracebacks and without errors that the program survived."""
        speaks = re.compile(SPEAKS)
        found = [line for line in self.text[-SPOKEN:].split("\n") if speaks.search(line)]
        others = rf"|^\[rank(?!{self.rank}\])" if self.rank is not None else ""
        return "\n".join(
            line for line in found if not re.search(rf'NOT saved|was not saved|^\S* *File "{others}', line)
        )

    @property
    def has_own_exception(self):
        """Whether an exception is known that another rank did not cause."""
        return bool(self.chain) and not self.chain[-1].is_consequence

    def evidence(self):
        """Return texts to search for messages, the most specific first."""
        relevant = failures.by_relevance(self.chain)
        own = [raised.text for raised in relevant]
        if self.has_own_exception:
            return own + [self.lines] * relevant[0].names_no_reason
        return [self.lines, *own]

    @cached
    def file(self):
        """The file that the failure is about, if an exception or a line with the same message names it."""
        relevant = [raised for raised in failures.by_relevance(self.chain) if not raised.is_wrapper]
        texts = [raised.text for raised in relevant]
        words = [raised.message.partition("\n")[0].strip() for raised in relevant if len(raised.message) > 20]
        texts += [line for line in self.text[-SPOKEN:].split("\n") if any(word in line for word in words)]
        for found in PATH.finditer("\n".join(texts)):
            path = (found["quoted"] or found["bare"]).rstrip(".:]")
            if not NO_FILE.search(path):
                return path
        return None

    def arrivals(self):
        """Return ({rank: number of the collective in which it timed out}, ranks whose logs have no time-out)."""
        waited, others = {}, []
        if not self.has_own_exception and re.search(WAITED, self.text):
            for path in rank_files(self.task):
                rank = os.path.basename(path)[5:-4]
                found = re.findall(WAITED, attempts_part(tail(path, SPOKEN), self.attempt.number))
                if found:
                    waited[rank] = max(int(number or 0) for number in found)
                else:
                    others.append(rank)
        return waited, others

    def peak_bytes(self):
        """Return the peak memory of a node, or else of a Slurm task, in the last attempt; None if unknown."""
        # If Slurm's accounting ends a step for its memory, the log has the number.
        peak = max([0, *map(int, re.findall(r"exceeded memory limit \((\d+) > ", self.log))])
        peak = max([peak, *(node.peak_memory_bytes for node in (self.attempt.usage if self.attempt else []))])
        if not peak and self.job:
            shown, _ = ask("sacct", "--noheader", "--parsable2", "--units=K", f"--jobs={self.job}", "--format=MaxRSS")
            peak = max([0, *(int(float(size)) * 1024 for size in re.findall(r"^([\d.]+)K$", shown, re.MULTILINE))])
        return peak or None
