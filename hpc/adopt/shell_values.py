"""Finds the values of words in a shell script without running it. For sbatch_script.py; Python 3.6.

A value is text in the form of argv files: `$$` is a dollar, `${NAME}` a variable that only the job knows.
"""

import ast
import fnmatch
import operator
import re

from shell_text import Simple, TextError, parse, plain, set_of

# Slurm's name of a fact -> the kit's, which is the same with every launcher.
RENAMED = {
    "SLURM_NNODES": "NNODES",
    "SLURM_JOB_NUM_NODES": "NNODES",
    "SLURM_NTASKS": "N_PROCESSES",
    "SLURM_NPROCS": "N_PROCESSES",
    "SLURM_GPUS_ON_NODE": "N_PROC",
    "SLURM_GPUS_PER_NODE": "N_PROC",
    "SLURM_NTASKS_PER_NODE": "N_PROC",
    "SLURM_TASKS_PER_NODE": "N_PROC",
    "SLURM_PROCID": "RANK",
    "SLURM_LOCALID": "LOCAL_RANK",
    "SLURM_NODEID": "NODE_RANK",
    "SLURM_JOBID": "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID": "SLURM_JOB_ID",
    "SLURM_NODELIST": "SLURM_JOB_NODELIST",
    "RANDOM": "SLURM_JOB_ID",
    "$": "SLURM_JOB_ID",
    "TMPDIR": "SLURM_TMPDIR",
    "JOBSCRATCH": "SLURM_TMPDIR",
}
# The job sets these, so a value in the script is ignored.
OURS = set_of(
    """MASTER_ADDR MASTER_PORT WORLD_SIZE RANK LOCAL_RANK NODE_RANK LOCAL_WORLD_SIZE NNODES N_PROC
    N_PROCESSES CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES"""
)


def is_ours(name):
    """Whether the job sets the variable, so that the script's export is ignored."""
    return name in OURS or re.match(r"(SRUN|SLURM|SBATCH)_", name) is not None


KNOWN = OURS | set_of(
    """HOME USER LOGNAME PATH SHELL LANG SCRATCH PYTHONPATH LD_LIBRARY_PATH SLURM_TMPDIR SLURM_JOB_ID
    SLURM_JOB_NODELIST SLURM_JOB_PARTITION SLURM_JOB_ACCOUNT SLURM_CLUSTER_NAME SLURM_RESTART_COUNT
    SLURMD_NODENAME HOSTNAME OMP_NUM_THREADS OUTPUT_PATH CHECKPOINT_DIRECTORY PROJECT WORK STORE
    PROJECT_DIR"""
)
SECRET = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)($|_)")
HERE = {"SLURM_SUBMIT_DIR": ".", "PWD": ".", "OLDPWD": "."}
SUMS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: int(a / b),
    ast.Mod: lambda a, b: a - b * int(a / b),
}
FIRST_OF = re.compile(r"sed\s+(?:-n\s+)?(?:-e\s+)?[\"']?(.+?)(?:p|q;d)[\"']?\s+(\S+)$")


def text(value):
    """Return text as a value."""
    return value.replace("$", "$$")


def literal(value):
    """Return the text of a value, or None if only the job knows it."""
    return None if re.search(r"(?<!\$)(\$\$)*\$\{", value) else value.replace("$$", "$")


def names(value):
    """Return the names of the job's variables in a value."""
    return re.findall(r"\$\{(\w+)\}", value.replace("$$", ""))


class Values:
    """The variables of a script at one point of it."""

    def __init__(self, facts, read_line):
        self.variables = dict(facts)  # name -> value, or list of values
        self.unknown = {}  # name -> why the job does not know it
        self.read_line = read_line  # (FILE, NUMBER) -> that line of a file of the project, or None
        self.arguments = []
        self.inside = 0  # depth of function calls
        self.asked = False  # whether the script reads its arguments
        self.used = set()  # names that were looked up

    def look(self, name):
        """Return the value of a variable, a list of values, or None."""
        self.used.add(name)
        if name in OURS:
            return "${%s}" % ("N_PROCESSES" if name == "WORLD_SIZE" else name)  # with -W node, WORLD_SIZE counts nodes
        if name in self.variables:
            found = self.variables[name]
            if SECRET.search(name.upper()) and found not in ("", []) and isinstance(found, str):
                return "${%s}" % name
            return found
        if name in HERE:
            return HERE[name]
        if name in ("@", "*"):
            return list(self.arguments)
        if name == "#":
            return str(len(self.arguments))
        if name.isdigit() and 0 < int(name) <= len(self.arguments):
            return self.arguments[int(name) - 1]
        if name in RENAMED:
            return "${%s}" % RENAMED[name]
        if name in KNOWN:
            return "${%s}" % name
        return None

    def missing(self, name):
        known = "ARGUMENT_" + name if name.isdigit() else name if re.match(r"[A-Za-z_]\w*$", name) else "UNKNOWN"
        if name.isdigit():
            why = "$%s is an argument that sbatch is given behind the script" % name
        else:
            why = "the script does not set $%s" % name
        self.unknown.setdefault(known, why)
        return "${%s}" % known

    def put(self, name, value):
        self.variables[name] = value
        self.unknown.pop(name, None)

    def word(self, parts):
        """Return one value, as for a setting: without word splitting."""
        return " ".join(
            self.fields([(kind, content, True) for kind, content, _ in self.tilde(parts)] or [("text", "", True)])
        )

    def words(self, list_of_parts):
        return [field for parts in list_of_parts for field in self.fields(self.tilde(parts))]

    @staticmethod
    def tilde(parts):
        if parts and parts[0][0] == "text" and not parts[0][2] and re.match(r"~(/|$)", parts[0][1]):
            return [("variable", "HOME", True), ("text", parts[0][1][1:], parts[0][2]), *parts[1:]]
        return parts

    def fields(self, parts):
        found, begun, gone = [""], False, False
        for kind, content, quoted in parts:
            if kind == "text":
                begun = begun or quoted or bool(content)
                spread = [content] if quoted else braces(content)
                before = found.pop()
                found += [before + text(spread[0]), *map(text, spread[1:])]
                continue
            value = self.part(kind, content)
            gone = gone or value == []  # "$@" without arguments gives no word
            if isinstance(value, list) and not (quoted and content.endswith(("*", "*]"))):
                pieces = value
                begun = begun or bool(value)
            elif isinstance(value, list):
                pieces, begun = [" ".join(value)], True
            elif quoted:
                pieces, begun = [value], True
            else:
                pieces = value.split()
                begun = begun or bool(pieces)
            if pieces:
                found[-1] += pieces[0]
                found += pieces[1:]
        return found if begun and not (gone and found == [""]) else []

    def part(self, kind, content):
        if kind == "variable":
            return self.variable(content)
        if kind == "sum":
            number = self.sum(content)
            return "${UNKNOWN_SUM}" if number is None else str(number)
        return self.command(content)

    def variable(self, content):
        """Return the value of the content of ${ }."""
        found = re.match(r"(!?)(#?)([A-Za-z_]\w*|[0-9@*#?$!-])(?:\[([^]]*)\])?(.*)$", content, re.DOTALL)
        if not found:
            return self.missing("UNKNOWN")
        indirect, length, name, index, rest = found.groups()
        value = self.look(name)
        if indirect and isinstance(value, str) and re.match(r"\w+$", value):
            value = self.look(value)
        elif indirect and index in ("@", "*") and isinstance(value, (list, dict)):
            return [str(number) for number in range(len(value))] if isinstance(value, list) else list(value)
        if name in ("@", "*"):
            if not value and not self.inside:
                self.asked = True
        elif index is not None or isinstance(value, (list, dict)):
            value = self.element(value, index)
        if length:
            if value is None:
                return "0"
            return str(len(value)) if isinstance(value, list) or literal(value) is not None else self.missing("UNKNOWN")
        if rest:
            return self.changed(name, value, rest)
        return self.missing(name) if value is None else value

    def element(self, value, index):
        if isinstance(value, dict):
            return list(value.values()) if index in ("@", "*") else value.get(literal(self.inner(index or "0")))
        values = value if isinstance(value, list) else [] if value is None else [value]
        if index in ("@", "*"):
            return values
        number = self.sum(index or "0")
        if number is None:
            return self.missing("UNKNOWN")
        return values[number] if -len(values) <= number < len(values) else None

    def changed(self, name, value, rest):
        """Expand ${NAME:-WORD} and similar forms."""
        found = re.match(r"(:?[-=+?])(.*)$", rest, re.DOTALL)
        if found:
            how, word = found.groups()
            empty = value is None or (value in ("", []) and how[0] == ":")
            if how[-1] == "+":
                return "" if empty else self.inner(word)
            if how[-1] == "?" and empty:
                return self.missing(name)
            if empty and how[-1] == "=":
                self.put(name, self.inner(word))
            if empty and re.match(r"(['\"]).*\1$", word, re.DOTALL):
                return [self.inner(word)]  # not split
            return self.inner(word) if empty else value
        if value is None:
            return self.missing(name)
        if isinstance(value, list):
            found = re.match(r":\s*(\d+)(?::(\d+))?$", rest)
            end = int(found.group(1)) + int(found.group(2)) if found and found.group(2) else None
            return value[int(found.group(1)) : end] if found else value
        known = literal(value)
        if known is None:
            return value if re.match(r"[%#,^]", rest) else self.missing("UNKNOWN")
        if rest[0] in "%#":
            return text(trimmed(known, rest, self))
        found = re.match(r"/(/?)((?:[^/\\]|\\.)*)/?(.*)$", rest)
        if found:
            old, new = (literal(self.inner(word)) or "" for word in found.groups()[1:])
            return text(known.replace(old, new, -1 if found.group(1) else 1)) if old else value
        if rest in ("^^", ",,"):
            return text(known.upper() if rest == "^^" else known.lower())
        found = re.match(r":\s*(-?\d+)(?::(\d+))?$", rest)
        if found:
            begin, length = found.groups()
            piece = known[int(begin) :]
            return text(piece[: int(length)] if length else piece)
        return self.missing("UNKNOWN")

    def inner(self, word):
        """Expand a word inside ${ }: quotes and variables work as outside."""
        try:
            parsed = parse("x=" + (word if word[:1] in "\"'" else '"%s"' % word.replace('"', '\\"')))
        except TextError:
            return self.missing("UNKNOWN")
        return self.word(parsed[0].command.settings[0][3]) if parsed else ""

    def sum(self, content):
        """Return the value of an arithmetic expression, or None."""
        content = re.sub(r"\$\(\((.*)\)\)", r"(\1)", content)
        content = re.sub(
            r"\$\{([^}]*)\}|\$(\w+)|(?<![\w$])([A-Za-z_]\w*)(?:\[([^]]*)\])?",
            lambda found: self.number(
                "".join(part for part in found.groups()[:3] if part)
                + ("[%s]" % found.group(4) if found.group(4) else "")
            ),
            content,
        )
        try:
            return calculated(ast.parse(content.strip(), mode="eval").body)
        except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
            return None

    def change(self, content):
        """Return whether (( )) is true, or None; may change a variable."""
        found = re.match(r"\s*(\w+)\s*(?:([-+])\2|([-+*/%]?)=(?!=))(.*)$", content, re.DOTALL)
        if not found:
            result = self.sum(content)
            return None if result is None else bool(result)
        name, step, how, rest = found.groups()
        result = self.sum("%s%s%s" % (name, step or how, "1" if step else "(%s)" % rest) if step or how else rest)
        if result is not None:
            self.put(name, str(result))
        return None if result is None else bool(result)

    def number(self, name):
        value = self.variable(name)
        known = literal(value) if isinstance(value, str) else None
        if known is None and isinstance(value, str) and names(value):
            known = self.variables.get(" " + names(value)[0], "")  # the number in the request: see sbatch_script.py
        return known if known and re.match(r"-?\d+$", known) else "?"

    def command(self, content):
        """Return what $( ) prints, as far as that is known."""
        if re.search(r"scontrol\s+show\s+hostname|hostname|\bip\s+addr|getent|SLURM_(JOB_)?NODELIST", content):
            return "${MASTER_ADDR}"
        if re.search(r"nvidia-smi|rocm-smi|CUDA_VISIBLE_DEVICES", content):
            return "${N_PROC}"
        listed = parse(content)
        command = listed[0].command if len(listed) == 1 else None
        if isinstance(command, Simple) and command.words:
            known = self.printed(plain(command.words[0]), self.words(command.words)[1:])
            if known is not None:
                return known
        return self.file_line(content.strip())

    def printed(self, name, words):
        """Return what a simple command prints; None if only the job knows."""
        words = [word for word in words if not re.match(r"-[a-zA-Z]", word)]
        if name in ("pwd", "git") or (name == "dirname" and words == [self.variables["0"]]):
            return "."
        if name in ("echo", "realpath", "readlink"):
            return " ".join(words)
        if name == "date":
            return "${SLURM_JOB_ID}"
        if name in ("basename", "dirname") and words:
            before, _, last = words[0].rstrip("/").rpartition("/")
            if name == "dirname":
                return before or "."
            suffix = words[1] if len(words) > 1 else ""
            return last[: -len(suffix)] if suffix and last.endswith(suffix) else last
        if name == "printf" and words and None not in map(literal, words):
            return self.formatted(*map(literal, words))
        numbers = [int(word) for word in words if re.match(r"-?\d+$", word)]
        if name == "seq" and 0 < len(numbers) == len(words) < 4:
            first, step, last = {1: [1, 1, *numbers], 2: [numbers[0], 1, numbers[-1]], 3: numbers}[len(numbers)]
            return " ".join(map(str, range(first, last + (1 if step > 0 else -1), step or 1)))
        return None

    @staticmethod
    def formatted(form, *words):
        """Return what printf prints, for simple formats."""
        kinds = re.findall(r"%[-0-9.]*([a-zA-Z%])", form)
        if set(kinds) - set("sdif") or len(kinds) != len(words):
            return None
        try:
            values = tuple(
                word if kind == "s" else float(word) if kind == "f" else int(word) for kind, word in zip(kinds, words)
            )
        except ValueError:
            return None
        return text(form % values).replace("\\n", "\n").rstrip("\n")

    def file_line(self, content):
        """Return line N of a file: scripts choose a line by the array's index."""
        found = FIRST_OF.match(content)
        number = None
        if found:
            number, file = literal(self.inner(found.group(1).replace('"', ""))), literal(self.inner(found.group(2)))
        else:
            found = re.match(r"head\s+-n?\s*(\S+)\s+(\S+)\s*\|\s*tail\s+-n?\s*1$", content)
            if found:
                number, file = literal(self.inner(found.group(1).lstrip("-"))), literal(self.inner(found.group(2)))
        if found and number and number.isdigit() and file:
            line = self.read_line(file, int(number))
            if line is not None:
                return text(line)
        self.unknown["UNKNOWN"] = "$(%s) is not run" % " ".join(content.split())
        return "${UNKNOWN}"


def trimmed(known, rest, values):
    """Expand ${NAME%PATTERN}, %%, # and ##."""
    longest = rest[:2] in ("%%", "##")
    pattern = literal(values.inner(rest[2 if longest else 1 :])) or ""
    cuts = range(len(known) + 1)
    if rest[0] == "%":
        order = cuts if longest else reversed(cuts)
        return next((known[:cut] for cut in order if fnmatch.fnmatchcase(known[cut:], pattern)), known)
    order = reversed(cuts) if longest else cuts
    return next((known[cut:] for cut in order if fnmatch.fnmatchcase(known[:cut], pattern)), known)


def calculated(node):
    if isinstance(node, ast.BinOp) and type(node.op) in SUMS:
        return SUMS[type(node.op)](calculated(node.left), calculated(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -calculated(node.operand)
    number = ast.literal_eval(node)
    if not isinstance(number, int):
        raise ValueError("no whole number")
    return number


def braces(content):
    """Expand {1..4} and {a,b}."""
    found = re.match(r"(.*?)\{(?:(-?\d+)\.\.(-?\d+)(?:\.\.(\d+))?|([^{}]*,[^{}]*))\}(.*)$", content, re.DOTALL)
    if not found:
        return [content]
    before, first, last, step, listed, after = found.groups()
    if listed is None:
        first, last = int(first), int(last)
        sign = 1 if last >= first else -1
        inner = map(str, list(range(first, last + sign, sign * int(step or 1)))[:1000])
    else:
        inner = listed.split(",")
    return [before + one + rest for one in inner for rest in braces(after)]


__all__ = ["OURS", "SECRET", "Values", "literal", "names", "plain", "text"]
