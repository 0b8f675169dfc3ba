"""Reads what failing programs print: Python's exceptions, by rank, and torchrun's table. For why.py.

A line may begin with the name of its rank (`[rank3]: `, `3: `, `[1,3]<stderr>:`), and the lines of ranks may be mixed.
"""

import collections
import re

HEAD = "Traceback (most recent call last)"
MOST_LINES = 12  # that are read of a message
_RANK = re.compile(r"\brank ?(\d+)|^\[\d+,(\d+)\]<|^(?:\S+: )?(\d+): ?$")
_FRAME = re.compile(r' *(?:> *)?File "([^"\n]+)", line (\d+)(?:, in (.+))?')
_RICH_FRAME = re.compile(r" *(/?[^ :]+\.py):(\d+)(?: in (\S+)?)? *$")
_NAME = r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*"
# The prefixes that loggers write.
_LOGGED = re.compile(
    r"^(?:\[[^\]]*\] *|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:[\d.,]+Z? *|(?:INFO|ERROR|WARNING)[: |-]+|[|:-] +)+"
)
_BAR = re.compile(r"^.*\[\d+:\d\d(?::\d\d)?[<,][^][]*\]", re.DOTALL)  # a progress bar of tqdm, or several
_RAISED = re.compile(rf"(?:\| *)?({_NAME})(?:: ?(.*))?$")
_BARE = re.compile(
    r"^((?:\[rank\d+\]: |\d+: |\S*<stderr>:)?)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt))(?:: (.*))?$"
)
# Lines between the exceptions of a chain, and lines before a worker's exception in that of its parent.
_CHAINED = re.compile(r"The above exception was the direct cause|During handling of the above exception")
_WITHIN = re.compile(r"terminated with the following error|Original Traceback|Original exception was|last\): \(RANK \d")
_ORIGINAL = "Original "
_WRAPPER = re.compile(r"Caught \w+ in |ProcessRaisedException|RemoteTraceback|RayTaskError|CheckpointException ranks")
# Exceptions that say only that something failed, not what.
_NAMES_NO_REASON = re.compile(
    r"(?:\w+\.)*(?:DatasetGeneration|\w*Job|\w*Task)Error(?:: [^:\n]*)?\Z"
    r"|[\w.]+: (?:[A-Z_]+: )?(?:Failed to|(?:An )?[Ee]rror (?:occurred )?(?:in|while|when|during)"
    r"|One or more \w+ failed)[^:\n]*\Z"
)
_USERS = "from user code:"  # torch.compile prints the program's frames below its message
_PACKAGE = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d")
_FOREIGN = re.compile(rf"{_PACKAGE.pattern}|^<|/bin/|/torch/|/kit/hpc/job/")
# A line of another program or rank ends a message.
_OTHER = re.compile(
    r"\[|srun: |== |slurmstepd|[WEI]\d{4} |wandb: |  File |from user code:|={9}|-{9}"
    r"|\"\"\"$|Traceback|Fatal Python|terminate called"
)
_IGNORED = re.compile(r"Exception ignored|Exception in thread|Error in atexit|^Exception in thread")
# Exceptions of a rank because another rank died or is late, and of a launcher because its program failed.
_CONSEQUENCE = re.compile(
    r"Connection (?:closed by (?:remote )?peer|reset by peer)|[Bb]roken pipe|remote process (?:has )?exited"
    r"|ncclRemoteError|NCCL communicator was aborted|Timed out waiting \d+ms|wait timeout after|Socket Timeout"
    r"|store->get|got 0 bytes|Watchdog caught|client socket has|process group has been|Horovod has been shut down"
    r"|^(?:\S+\.)?(?:ChildFailedError|SignalException|SIGTERMException|ProcessExitedException|RendezvousClosedError"
    r"|BrokenProcessPool)\b|^subprocess\.CalledProcessError: Command \W*\S*(?:python|torchrun|accelerate|deepspeed)"
)
_TABLE = (
    r"Root Cause \(first observed failure\):\n\[\d+\]:\n.*\n"
    r" +host +: (\S+)\n +rank +: (\d+) .*\n +exitcode +: (-?\d+)"
)


# A launcher's line about a failed program: rank or task, node, status or signal. (These are strings, so that re
# compiles them only when they are needed.)
_ENDED = (
    r"^srun: error: (?P<node>\S+): tasks? (?P<rank>\d+)[-,\d]*: (?:Exited with exit code (?P<status>\d+)"
    r"|(?P<name>[A-Z][a-z ]+))|(?:return code = |\(exitcode: )-(?P<signal>\d+)"
    r"|died with <Signals\.\w+: (?P<number>\d+)>"
)
_SIGNALS = {"Killed": 137, "Segmentation fault": 139, "Aborted": 134, "Bus error": 135, "Floating point exception": 136}


class Raised(collections.namedtuple("Raised", "kind message frames begin end rank")):
    """An exception, at a position in the text. A frame is (file, line, function); the outermost is the first."""

    @property
    def text(self):
        return f"{self.kind}: {self.message}" if self.message else self.kind

    @property
    def is_consequence(self):
        """Whether it only says that something else failed."""
        return bool(_CONSEQUENCE.search(self.text))

    @property
    def is_wrapper(self):
        """Whether it only passes on a worker's exception."""
        return bool(_WRAPPER.search(self.text))

    @property
    def names_no_reason(self):
        """Whether it names no reason, so that the exception before it must."""
        return bool(_NAMES_NO_REASON.match(self.text.strip()))

    @property
    def headline(self):
        """In one line."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()]
        reason = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
        return (f"{self.kind}: {reason}" if reason else self.kind)[:300]


def first(text):
    """Return the chain of exceptions to report: of the ranks' last ones, the first that another rank did not cause."""
    last = {}
    for prefix, chain in _chains(text):
        # Lines without a prefix may be of any rank: an exception that another rank caused must not hide an earlier one.
        if prefix not in last or not chain[-1].is_consequence or last[prefix][-1].is_consequence:
            last[prefix] = chain
    return min(last.values(), key=lambda chain: (chain[-1].is_consequence, chain[0].begin), default=[])


def by_relevance(chain):
    """Return the exceptions of a chain, the last first; those that name no reason come at the end."""
    last_first = chain[::-1]
    return sorted(last_first, key=lambda raised: raised.names_no_reason)


def own_frame(chain, source):
    """Return (file, line, function) of the innermost frame in the project's code; None if there is none.

    If a parent raises a worker's exception again, the worker's frames count.
    """
    again = [raised for raised in chain if raised.text == chain[-1].text]
    frames = [frame for raised in [*again, *reversed(chain)] for frame in reversed(raised.frames)]
    for file, line, function in frames:
        if file.startswith(source + "/"):
            return file[len(source) + 1 :], line, function
    return next((frame for frame in frames if not _FOREIGN.search(frame[0])), None)


def is_of_import(chain, source):
    """Whether the import of a package failed: below the program's own frames, a module's body ran."""
    for raised in chain:
        if raised is chain[-1] or (raised.message and raised.message.partition("\n")[0] in chain[-1].message):
            own = [at for at, (file, *_) in enumerate(raised.frames) if is_own(file, source)]
            below = raised.frames[own[-1] if own else 0 :]
            for (caller, *_), (file, _, function) in zip(below, below[1:]):
                if function == "<module>" and _PACKAGE.search(file) and "runpy" not in caller:
                    return True
    return False


def is_own(file, source):
    return file.startswith(source + "/") or not _FOREIGN.search(file)


def reported_by_launcher(text):
    """Return (rank, node, status) from torchrun's table or a launcher's first line, with None for what it lacks."""
    at = text.rfind("Root Cause (first observed failure)")
    found = re.match(_TABLE, text[at : at + 2000]) if at >= 0 else None
    if found:
        return found[2], found[1].partition(".")[0], _status(int(found[3]))
    for found in re.finditer(_ENDED, text[-(1 << 14) :], re.MULTILINE):
        signal = found["signal"] or found["number"]
        status = found["status"] or (128 + int(signal) if signal else _SIGNALS.get(found["name"]))
        if status:
            return found["rank"], found["node"], str(status)
    return None


def _status(code):
    return str(128 - code if code < 0 else code)


def _chains(text):
    """Return (prefix, chain) of each chain."""
    found, at = [], text.find(HEAD)
    while at >= 0:
        begin = text.rfind("\n", 0, at) + 1
        # Text before the head is a prefix if later lines have it too. A progress bar is not a prefix: its line had not
        # ended when the traceback began.
        prefix = _BAR.sub("", text[begin:at]).rpartition("\r")[2]
        prefix = prefix[: -len(_ORIGINAL)] if prefix.endswith(_ORIGINAL) else prefix
        if not prefix.strip(" +|╭─") or text.find(f"\n{prefix}", at, at + (1 << 14)) < 0:
            prefix = ""
        raised = _read(text, at, begin, prefix)
        if raised:
            chain = [raised, *_bare_ones(text, raised, prefix)]
            last = found[-1][1] if found and found[-1][0] == prefix else None
            between = text[last[-1].end : at + len(HEAD) + len(": (RANK 1")] if last else ""
            if last and len(between) < 400 and (_CHAINED.search(between) or _WITHIN.search(between)):
                last += chain
            elif not _IGNORED.search(text[text.rfind("\n", 0, max(0, begin - 1)) + 1 : begin]):
                found.append((prefix, chain))
        at = text.find(HEAD, at + 1)
    found += _syntax_errors(text, found)
    return found or _without_traceback(text)


def _rank(prefix):
    found = _RANK.search(prefix)
    return found and next(filter(None, found.groups()))


def _lines(text, at, prefix):
    """Yield (line without its prefix, its end) of the lines with the prefix."""
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if text.startswith(prefix, at, end):
            yield text[at + len(prefix) : end].rstrip("\r"), end
        elif text[at:end].strip() == prefix.strip():
            yield "", end
        at = end + 1


def _read(text, at, begin, prefix):
    """Return the exception of the traceback whose head is at `at`; None if its end is missing."""
    frames, others = [], 0
    first_end = text.find("\n", at)
    for line, end in _lines(text, first_end + 1 if first_end >= 0 else len(text), prefix):
        bare = _LOGGED.sub("", line.strip("│ "))
        frame = _FRAME.match(bare) or (line.startswith("│") and _RICH_FRAME.match(bare))
        if frame:
            frames.append(frame.groups())
        elif line.startswith((" ", "\t", "│", "╰")) and not _BARE.match(bare):
            continue
        elif HEAD in line or others > 30:
            return None
        else:
            raised = _RAISED.match(bare) if bare else None
            # Without a prefix, lines of other ranks may stand in between.
            if raised and frames and (raised[1][:1].isupper() or "." in raised[1]):
                message, last = _message(text, end, prefix, raised[2] or "")
                frames += _users_frames(text, end, prefix)
                return Raised(raised[1], message, tuple(frames), begin, last, _rank(prefix))
            others += 1
    return None


def _users_frames(text, at, prefix):
    begin = text.find(_USERS, at, at + (1 << 13))
    if begin < 0 or HEAD in text[at:begin]:
        return
    for line, _ in _lines(text, text.find("\n", begin) + 1 or len(text), prefix):
        frame = _FRAME.match(line)
        if frame:
            yield frame.groups()
        elif line[:1].strip():
            return


def _message(text, end, prefix, message):
    """Return (message of several lines, its end)."""
    lines = [message]
    for line, next_end in _lines(text, end + 1, prefix):
        is_other = _OTHER.match(line) or _CHAINED.search(line) or _WITHIN.search(line) or _BAR.match(line)
        is_empty = not line.strip() and len(lines) > 1 and not lines[-1].rstrip().endswith(":")
        if len(lines) == MOST_LINES or is_other or is_empty or next_end - end > 4000:
            break
        lines.append(line)
        end = next_end
    return "\n".join(lines).strip(), end


def _bare_ones(text, raised, prefix):
    """Return the exceptions without frames that follow in a chain."""
    found, is_chained = [], False
    for line, end in _lines(text, raised.end + 1, prefix):
        bare = _BARE.match(line) if is_chained else None
        if bare:
            found.append(Raised(bare[2], bare[3] or "", raised.frames, raised.begin, end, raised.rank))
            is_chained = False
        elif _CHAINED.search(line):
            is_chained = True
        elif line.strip():
            break
    return found


def _syntax_errors(text, found):
    """Return syntax errors in the program's main file, which have no traceback."""
    pattern = re.compile(r'^(.*)  File "([^"\n]+)", line (\d+)\n(?:.*\n){1,3}?\1(\w+Error): (.*)', re.MULTILINE)
    errors = []
    for word in ("SyntaxError: ", "IndentationError: ", "TabError: "):
        at = text.rfind(word)
        if at >= 0 and not any(one.begin <= at <= one.end + len(word) for _, chain in found for one in chain):
            for match in list(pattern.finditer(text, text.rfind("\n", 0, max(0, at - 1500)) + 1, at + 400))[-1:]:
                frames = ((match[2], match[3], None),)
                errors.append(
                    (match[1], [Raised(match[4], match[5], frames, match.start(), match.end(), _rank(match[1]))])
                )
    return errors


def _without_traceback(text):
    """Return the last lines that look like exceptions."""
    begin = max(0, len(text) - (1 << 16))
    found = []
    for line in text[begin:].splitlines(keepends=True):
        bare = _BARE.match(line.rstrip()) if "Error" in line or "Exception" in line or "Interrupt" in line else None
        if bare:
            found.append((bare[1], [Raised(bare[2], bare[3] or "", (), begin, begin + len(line), _rank(bare[1]))]))
        begin += len(line)
    return found
