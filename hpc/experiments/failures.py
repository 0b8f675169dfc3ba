"""What programs print when they end badly: Python's exceptions, by rank, and torchrun's own table. For why.py.

A line may begin with the name of its rank (`[rank3]: `, `3: `, `[1,3]<stderr>:`), and the lines of ranks may be mixed.
"""

import re
from typing import NamedTuple, Optional

HEAD = "Traceback (most recent call last)"
MOST_LINES = 12  # of a message
_RANK = re.compile(r"\brank ?(\d+)|^\[\d+,(\d+)\]<|^(?:\S+: )?(\d+): ?$")
_FRAME = re.compile(r' *(?:> *)?File "([^"\n]+)", line (\d+)(?:, in (.+))?')
_RICH_FRAME = re.compile(r" *(/?[^ :]+\.py):(\d+)(?: in (\S+)?)? *$")
_NAME = r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*"
# What loggers write before each line.
_LOGGED = re.compile(
    r"^(?:\[[^\]]*\] *|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:[\d.,]+Z? *|(?:INFO|ERROR|WARNING)[: |-]+|[|:-] +)+"
)
_BAR = re.compile(r"^.*\[\d+:\d\d(?::\d\d)?[<,][^][]*\]", re.DOTALL)  # a progress bar of tqdm, or several
_RAISED = re.compile(rf"(?:\| *)?({_NAME})(?:: ?(.*))?$")
_BARE = re.compile(
    r"^((?:\[rank\d+\]: |\d+: |\S*<stderr>:)?)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt))(?:: (.*))?$"
)
# Between the exceptions of a chain, and where that of a worker is shown within its parent's.
_CHAINED = re.compile(r"The above exception was the direct cause|During handling of the above exception")
_WITHIN = re.compile(r"terminated with the following error|Original Traceback|Original exception was|last\): \(RANK \d")
_ORIGINAL = "Original "
_WRAPPER = re.compile(r"Caught \w+ in |ProcessRaisedException|RemoteTraceback|RayTaskError|CheckpointException ranks")
# An exception that says only that another has been raised, without saying which.
_SAYS_LITTLE = re.compile(
    r"(?:\w+\.)*(?:DatasetGeneration|\w*Job|\w*Task)Error(?:: [^:\n]*)?\Z"
    r"|[\w.]+: (?:[A-Z_]+: )?(?:Failed to|(?:An )?[Ee]rror (?:occurred )?(?:in|while|when|during)"
    r"|One or more \w+ failed)[^:\n]*\Z"
)
_USERS = "from user code:"  # torch.compile writes the frames of the program below its message
_PACKAGE = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d")
_FOREIGN = re.compile(rf"{_PACKAGE.pattern}|^<|/bin/|/torch/|/kit/hpc/job/")
# Another program's line, or another rank's: the end of a message.
_OTHER = re.compile(
    r"\[|srun: |== |slurmstepd|[WEI]\d{4} |wandb: |  File |from user code:|={9}|-{9}"
    r"|\"\"\"$|Traceback|Fatal Python|terminate called"
)
_IGNORED = re.compile(r"Exception ignored|Exception in thread|Error in atexit|^Exception in thread")
# What a rank raises when another has died or is late, and what launchers raise when a program of theirs has failed.
_TAKEN_ALONG = re.compile(
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


# One line of a launcher for each program that ended badly: rank or task, node, status or signal. (Strings: re compiles
# them when they are needed.)
_ENDED = (
    r"^srun: error: (?P<node>\S+): tasks? (?P<rank>\d+)[-,\d]*: (?:Exited with exit code (?P<status>\d+)"
    r"|(?P<name>[A-Z][a-z ]+))|(?:return code = |\(exitcode: )-(?P<signal>\d+)"
    r"|died with <Signals\.\w+: (?P<number>\d+)>"
)
_SIGNALS = {"Killed": 137, "Segmentation fault": 139, "Aborted": 134, "Bus error": 135, "Floating point exception": 136}


class Raised(NamedTuple):
    """An exception."""

    kind: str
    message: str
    frames: tuple  # of (file, line, function), the outermost first
    begin: int  # where it stands in the text
    end: int
    rank: Optional[str]

    @property
    def text(self):
        return f"{self.kind}: {self.message}" if self.message else self.kind

    @property
    def is_taken_along(self):
        """Whether it says no more than that something else has failed."""
        return bool(_TAKEN_ALONG.search(self.text))

    @property
    def is_wrapper(self):
        """Whether it only hands on what a worker has raised."""
        return bool(_WRAPPER.search(self.text))

    @property
    def says_little(self):
        """Whether it names no reason: its cause, the exception before it, does."""
        return bool(_SAYS_LITTLE.match(self.text.strip()))

    @property
    def headline(self):
        """In one line."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()]
        told = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
        return (f"{self.kind}: {told}" if told else self.kind)[:300]


def first(text):
    """The chain of exceptions that came first: of each rank its last, of these the first that another did not cause."""
    last = {}
    for prefix, chain in _chains(text):
        # Lines without a name may be of any rank: one that another has caused does not hide what came before it.
        if prefix not in last or not chain[-1].is_taken_along or last[prefix][-1].is_taken_along:
            last[prefix] = chain
    return min(last.values(), key=lambda chain: (chain[-1].is_taken_along, chain[0].begin), default=[])


def telling(chain):
    """The exceptions of a chain, what tells most first: the last, but those that name no reason after their causes."""
    last_first = chain[::-1]
    return sorted(last_first, key=lambda raised: raised.says_little)


def own_frame(chain, source):
    """(file, line, function), the innermost that is the project's own; None where there is none.

    What a worker has raised, and its parent raises again, was raised in the worker.
    """
    again = [raised for raised in chain if raised.text == chain[-1].text]
    frames = [frame for raised in [*again, *reversed(chain)] for frame in reversed(raised.frames)]
    for file, line, function in frames:
        if file.startswith(source + "/"):
            return file[len(source) + 1 :], line, function
    return next((frame for frame in frames if not _FOREIGN.search(frame[0])), None)


def is_of_import(chain, source):
    """Whether a package could not be imported: below the program's own lines the body of its module was run."""
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


def told_by_launcher(text):
    """(rank, node, status), None for what is not told: by torchrun's own table, or the first line of a launcher."""
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
    """(prefix, chain) of each."""
    found, at = [], text.find(HEAD)
    while at >= 0:
        begin = text.rfind("\n", 0, at) + 1
        # What stands before the head is a prefix where later lines have it, too; a progress bar is none: its line did
        # not end before the traceback began.
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
    """(line without its prefix, where it ends) of those that have it."""
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if text.startswith(prefix, at, end):
            yield text[at + len(prefix) : end].rstrip("\r"), end
        elif text[at:end].strip() == prefix.strip():
            yield "", end
        at = end + 1


def _read(text, at, begin, prefix):
    """The exception of the traceback whose head is there; None where its end is missing."""
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
            # Where no rank is named, lines of others may stand between.
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
    """(a message of several lines, where it ends)."""
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
    """The exceptions without frames that follow in a chain."""
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
    """Of the program's main file: they have no traceback."""
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
    """The last lines that look like exceptions."""
    begin = max(0, len(text) - (1 << 16))
    found = []
    for line in text[begin:].splitlines(keepends=True):
        bare = _BARE.match(line.rstrip()) if "Error" in line or "Exception" in line or "Interrupt" in line else None
        if bare:
            found.append((bare[1], [Raised(bare[2], bare[3] or "", (), begin, begin + len(line), _rank(bare[1]))]))
        begin += len(line)
    return found
