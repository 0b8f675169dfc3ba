"""Walks through an sbatch script in the order in which its commands would run. Runs none of them. Python 3.6."""

import contextlib
import fnmatch
import os
import re

from script_commands import Commands
from script_programs import NEEDLESS, Programs
from shell_text import Case, For, Function, Group, If, Pipe, Simple, While, parse
from shell_values import Values, literal, names, text

MOST = 1000  # limit for tasks of an array and turns of a loop
KEY = re.compile(r"\b(hf_\w{8,}|sk-[\w-]{8,}|gh[pos]_\w{8,}|[0-9a-f]{40}|AKIA\w{12,})\b")


class Leave(Exception):  # noqa: N818
    """Raised by continue, break and return: the rest of a turn, a loop or a function does not run."""


class Script(Commands, Programs):
    """One walk through a script: collects the remarks and the programs that it runs."""

    def __init__(self, path, project, request, srun, index=None):
        with open(path, "rb") as file:
            self.source = file.read().decode("utf-8", "surrogateescape")
        self.lines = self.source.split("\n")
        self.path, self.project, self.request, self.srun = path, project, request, srun
        self.records, self.runs, self.exports, self.functions = [], [], {}, {}
        self.folder, self.prefix, self.depth = ".", [], 0
        self.conda_root, self.environment, self.secrets = "", False, {}
        self.result = True
        facts = {
            " NNODES": str(request.nodes),
            " N_PROC": str(request.gpus or request.tasks),
            " N_PROCESSES": str(request.nodes * request.tasks),
            "SLURM_CPUS_PER_TASK": str(request.cpus),
            "SLURM_CPUS_ON_NODE": str(request.cpus * request.tasks),
            "SLURM_JOB_NAME": text(request.job_name or os.path.basename(path)),
            "0": os.path.basename(path),
        }
        if request.indices:
            facts["SLURM_ARRAY_TASK_ID"] = "${SLURM_ARRAY_TASK_ID}" if index is None else str(index)
            facts["SLURM_ARRAY_TASK_COUNT"] = str(len(request.indices))
            facts["SLURM_ARRAY_TASK_MIN"] = str(min(request.indices))
            facts["SLURM_ARRAY_TASK_MAX"] = str(max(request.indices))
        self.values = Values(facts, self.line_of)
        for name, (line, content) in request.settings.items():
            self.values.put(name, text(content))
            self.exports[name] = (line, text(content))
        if "chdir" in request.given:
            self.cd(request.given["chdir"][0], text(request.given["chdir"][1]))
        with contextlib.suppress(Leave):
            self.walk(parse(self.source))

    def say(self, kind, line, *words):
        if (kind, line, words) not in self.records:
            self.records.append((kind, line, words))

    def find_file(self, name):
        """Return the path of a file in the project or beside the script; None if it does not exist."""
        name = self.here(name)
        for base in (os.path.join(self.project, self.folder), self.project, os.path.dirname(self.path)):
            if name and os.path.isfile(os.path.join(base, name)):
                return os.path.join(base, name)
        return None

    def line_of(self, name, number):
        path = self.find_file(text(name))
        if not path:
            return None
        with open(path, "rb") as file:
            lines = file.read().decode("utf-8", "surrogateescape").split("\n")
        return lines[number - 1] if 0 < number <= len(lines) else None

    @staticmethod
    def here(value):
        """Replace the variables that are the same on the login node; None if others are left."""
        for name in ("HOME", "USER", "SCRATCH"):
            if os.environ.get(name):
                value = value.replace("${%s}" % name, os.environ[name])
        return literal(value)

    # Commands.

    def walk(self, listed):
        for before, command, _ in listed:
            if before == "&&" and self.result is False:
                continue
            if (before and self.result is None) or (before == "||" and self.result):
                self.leave_out(command.line, [command], before == "||")
                continue
            self.result = self.command(command)

    def command(self, command):
        if isinstance(command, Simple):
            return self.simple(command)
        if isinstance(command, Pipe):
            for one in command.commands:
                self.command(one)
        elif isinstance(command, Group):
            kept = dict(self.values.variables), dict(self.exports), self.folder
            self.walk(command.body)
            if command.subshell:
                self.values.variables, self.exports, self.folder = kept
        elif isinstance(command, If):
            return self.choose(command)
        elif isinstance(command, For):
            self.turn(command)
        elif isinstance(command, While):
            if self.interesting(command.body):
                self.say("left", command.line, "a loop: %s: its commands count once here" % self.shown(command.line))
            with contextlib.suppress(Leave):
                self.walk(command.test)
                self.walk(command.body)
        elif isinstance(command, Case):
            self.case(command)
        elif isinstance(command, Function):
            self.functions[command.name] = command.body
        return True

    def choose(self, command):
        for test, body in command.branches:
            self.result = True
            self.walk(test)
            if self.result:
                self.walk(body)
                return True
            if self.result is None or self.is_about_files(test):
                self.leave_out(command.line, body)
        self.walk(command.otherwise)
        return True

    @staticmethod
    def is_about_files(test):
        command = test[-1].command
        return isinstance(command, Simple) and any(
            part[0][1] in ("-f", "-e", "-d", "-s", "-r") for part in command.words if part
        )

    def leave_out(self, line, commands, quiet=False):
        """Report the commands of a branch that is not taken."""
        commands = [getattr(one, "command", one) for one in commands]
        found = self.interesting(commands)
        for name in settings_of(commands):
            self.values.variables.setdefault(name, "")
        if not found or (quiet and found == {"exit"}):
            return
        last = max(numbers(commands))
        shown = "\n".join(self.lines[line - 1 : last])
        where = self.shown(line)
        if re.search(r"resum|check_?point|ckpt|restart|last\.pt|latest", shown, re.IGNORECASE):
            self.say(
                "left",
                line,
                "%s: taken as the first start. A job that starts again runs the same line, so the program must look "
                'for its checkpoint itself (--keep-folders; "Programs that can be interrupted" in '
                "hpc/job/README.md)" % where,
            )
        else:
            self.say("left", line, "%s: taken as false" % where)

    def shown(self, line):
        return self.hidden(" ".join(self.lines[line - 1].split()))

    def hidden(self, words):
        """Return the words with possible keys replaced."""
        for secret in self.secrets.values():
            if len(secret) > 3:
                words = words.replace(secret, "…")
        return KEY.sub("…", words)

    def interesting(self, commands):
        """Return the names of the commands that do more than print or test."""
        found = set()
        for one in commands:
            command = getattr(one, "command", one)
            if isinstance(command, Simple):
                name = "".join(part[1] for part in command.words[0]) if command.words else "="
                if name not in NEEDLESS or command.settings:
                    found.add(name)
                elif name == "exit":
                    found.add("exit")
            else:
                for inner in parts_of(command):
                    found |= self.interesting(inner)
        return found - {"exit", "[", "[[", "((", "test"}

    def turn(self, command):
        """Walk through each turn of a for loop."""
        if command.name is None:
            found = re.match(
                r"\s*(\w+)\s*=\s*([^;]+);\s*\w+\s*(<=?)\s*([^;]+);\s*(?:\w+\+\+|\+\+\w+)\s*$", command.words[0][0][1]
            )
            limits = [self.values.sum(part) for part in found.group(2, 4)] if found else [None]
            if None in limits:
                self.leave_out(command.line, command.body)
                return
            name = found.group(1)
            values = [str(number) for number in range(limits[0], limits[1] + (found.group(3) == "<="))]
        else:
            name = command.name
            values = self.values.words(command.words) if command.words is not None else list(self.values.arguments)
        for value in values[:MOST]:
            self.values.put(name, value)
            try:
                self.walk(command.body)
            except Leave as leave:
                if str(leave) == "return":
                    raise
                if str(leave) == "break":
                    break

    def case(self, command):
        value = literal(self.values.word(command.word))
        for patterns, body in command.branches:
            known = [literal(self.values.word(pattern)) for pattern in patterns]
            if value is None:
                self.leave_out(command.line, body)
            elif any(pattern is not None and fnmatch.fnmatchcase(value, pattern) for pattern in known):
                self.walk(body)
                return

    def test(self, words):
        """Return True, False, or None if only the job knows. At the first start of a job no file exists."""
        words = words[1:-1] if words[0] in ("[", "[[") else words[1:]
        for operators, decide in ((("||", "-o"), any), (("&&", "-a"), all)):
            for operator in operators:
                if operator in words[1:]:
                    at = words.index(operator, 1)
                    sides = [self.test(["test", *words[:at]]), self.test(["test", *words[at + 1 :]])]
                    return (
                        None
                        if None in sides and decide(bool(side) for side in sides) != (decide is any)
                        else decide(sides)
                    )
        if words and words[0] == "!":
            result = self.test(["test", *words[1:]])
            return None if result is None else not result
        if len(words) == 1:
            return bool(words[0])
        if len(words) == 2:
            if words[0] in ("-n", "-z"):
                return bool(words[1]) == (words[0] == "-n")
            return False if re.match(r"-[a-zA-Z]$", words[0]) else None
        if len(words) != 3:
            return None
        left, right = literal(words[0]), literal(words[2])
        if left is None or right is None:
            return None
        if words[1] == "=~":
            return self.matches(left, right)
        if words[1] in ("=", "==", "!="):
            return fnmatch.fnmatchcase(left, right) == (words[1] != "!=")
        numbers_of = [int(side) for side in (left, right) if re.match(r"-?\d+$", side)]
        compare = {"-eq": "==", "-ne": "!=", "-lt": "<", "-le": "<=", "-gt": ">", "-ge": ">="}.get(words[1])
        if len(numbers_of) != 2 or not compare:
            return None
        one, other = numbers_of
        return {
            "==": one == other,
            "!=": one != other,
            "<": one < other,
            "<=": one <= other,
            ">": one > other,
            ">=": one >= other,
        }[compare]

    @staticmethod
    def matches(left, pattern):
        if re.search(r"\$\w", pattern):
            return None
        try:
            return re.search(pattern, left) is not None
        except re.error:
            return None

    def test_words(self, command):
        """Return the words of a test, in which an unset variable is empty."""
        known = dict(self.values.unknown)
        words = []
        for parts in command.words:
            value = self.values.word(parts)
            unset = [name for name in names(value) if name in self.values.unknown and name not in known]
            for name in unset:
                value = value.replace("${%s}" % name, "")
            words.append(value)
        self.values.unknown = known
        return words

    def simple(self, command):
        line = command.line
        first = "".join(part[1] for part in command.words[0]) if command.words else ""
        if first in ("[", "[[", "test"):
            return self.test(self.test_words(command))
        if first == "((":
            return self.values.change(command.words[1][0][1])
        if first == "eval" and any(kind == "command" for parts in command.words for kind, _, _ in parts):
            self.find_conda(" ".join(content for parts in command.words for _, content, _ in parts))
            return True
        if not command.words or first in ("export", "declare", "typeset", "readonly", "local"):
            self.assign(command, first == "export")
            return True
        settings = self.own_settings(command)
        words = self.values.words(command.words)
        while words and os.path.basename(words[0]) in ("time", "exec", "command", "builtin", "nohup", "eval"):
            if words[0] == "eval":
                self.inner(" ".join(words[1:]), line, settings)
                return True
            words = words[1:]
            while words and words[0].startswith("-"):
                words = words[1:]
        if not words:
            return True
        name = os.path.basename(words[0])
        if name in ("continue", "break") or (name == "return" and self.values.inside):
            raise Leave(name)
        if name in self.functions:
            if self.depth < 20:
                outer = self.values.arguments
                self.values.arguments = words[1:]
                self.values.inside += 1
                self.depth += 1
                with contextlib.suppress(Leave):
                    self.walk(self.functions[name])
                self.depth -= 1
                self.values.inside -= 1
                self.values.arguments = outer
            return True
        self.called(name, words, line, settings, command.documents)
        return True


def parts_of(command):
    """Return the lists of commands inside a compound command."""
    if isinstance(command, Pipe):
        return [command.commands]
    if isinstance(command, If):
        return [body for _, body in command.branches] + [command.otherwise]
    if isinstance(command, Case):
        return [body for _, body in command.branches]
    return [command.body]


def settings_of(commands):
    """Return the names of the variables that the commands would set."""
    found = []
    for one in commands:
        command = getattr(one, "command", one)
        if isinstance(command, Simple):
            found += [setting[0] for setting in command.settings]
        else:
            for inner in parts_of(command):
                found += settings_of(inner)
    return found


def numbers(commands):
    found = []
    for one in commands:
        command = getattr(one, "command", one)
        found.append(command.line)
        if not isinstance(command, Simple):
            for inner in parts_of(command):
                found += numbers(inner)
    return found or [0]
