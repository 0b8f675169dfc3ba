#!/usr/bin/env python3
"""Reads sbatch scripts for adopt.sh --from, and runs nothing in them. For Python 3.6, without packages.

sbatch_script.py PROJECT SHORTS SRUN FLAGS SCRIPT...   SHORTS: LETTER:NAME of sbatch's short options
    SRUN, FLAGS: srun's options with a value, and without

Prints records: KIND, LINE, NUMBER and then NUMBER words, each followed by a NUL. LINE is 0 if there is no line.
    end                 after each script
    option NAME VALUE   of job_submitter.sh            pass OPTION       of sbatch, to pass on
    site NAME VALUE     of the site's profile          env NAME VALUE    for the project's .env
    run WORD...         the line, as in an argv file; several are the tasks of an array
    unknown NAME WHY    ${NAME} in the line            kit TEXT          the kit does this itself
    left TEXT           not adopted
    differs TEXT        not quite the same here
If sbatch would not take one of the files, the only record is  refused FILE WHY.
"""

import re
import sys

from sbatch_request import Request, RequestError, directives
from script_flow import MOST, Script
from shell_text import TextError, set_of
from shell_values import SECRET, is_ours, literal

INDEX = "${SLURM_ARRAY_TASK_ID}"
SEARCHED = ("PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH")
INTERFACES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


def training(runs):
    """Return (runs of the most likely training program, in all turns of its loop or on all its lines; other runs)."""
    if not runs:
        return [], []
    best = max(run.score for run in runs)
    first = next(run for run in runs if run.score == best)
    chosen = [run for run in runs if run.line == first.line or (run.score == best and run.program == first.program)]
    return chosen, [run for run in runs if run not in chosen]


def is_seed(before, word):
    """Whether the word passes the array's index as a seed."""
    option, joined, value = word.partition("=")
    return "seed" in (option if joined else before).lower() and (value if joined else word) == INDEX


def as_seeds(runs):
    """Whether the index is used only as a seed: then --repeat does the same."""
    found = False
    for run in runs:
        for before, word in zip(["", *run.words], run.words):
            if INDEX in word and not is_seed(before, word):
                return False
            found = found or INDEX in word
        if any(isinstance(value, str) and INDEX in value for name, (_, value) in run.exports.items() if name != "SEED"):
            return False
    return found


class Proposal:
    """All records of one script."""

    def __init__(self, path, project, shorts, srun):
        self.records = []
        self.path, self.project, self.shorts, self.srun = path, project, shorts, srun
        with open(path, "rb") as file:
            data = file.read()
        if b"\0" in data:
            raise RequestError(0, "it is no text, as it has a NUL byte")
        content = data.decode("utf-8", "surrogateescape")
        if "\r\n" in content:
            raise RequestError(
                0, "its lines end as on Windows, and sbatch refuses them: convert it (sed -i 's/\\r$//')"
            )
        given, ignored = directives(content, shorts)
        if not content.startswith("#!"):
            raise RequestError(1, "it does not begin with #!/bin/bash, and sbatch refuses it")
        self.request = Request(given, self.say)
        self.request.report()
        for line in ignored:
            self.say("left", line, "a #SBATCH line after the first command: sbatch ignores it, and so does this")
        self.say("facts", 0, *map(str, (self.request.nodes, self.request.tasks, self.request.gpus)))
        first = self.read(None)
        runs, others = training(first.runs)
        if self.request.indices:
            first, runs, others = self.array(first, runs, others)
        self.records += [record for record in first.records if record[0] != "step"]
        self.report_steps(first, runs, others)
        self.report_runs(first, runs)
        self.sort()

    def sort(self):
        """Put the request first, because the line depends on it; the rest stays in the order of the script."""
        early = ("facts", "option", "site", "pass", "unknown")
        self.records.sort(
            key=lambda record: (0,) if record[0] in early else (1, not record[1], record[1], record[0] == "run")
        )

    def say(self, kind, line, *words):
        self.records.append((kind, line, words))

    def read(self, index):
        return Script(self.path, self.project, self.request, self.srun, index)

    def array(self, first, runs, others):
        indices = self.request.indices
        line = self.request.given["array"][0]
        if self.request.at_once.isdigit() and len(indices) > 1:
            self.say("option", line, "max-parallel", self.request.at_once)
        if len(indices) > MOST:
            self.say("left", line, "--array: more than %d tasks: write the lines yourself, or give --repeat" % MOST)
            return first, runs, others
        contiguous = indices == list(range(indices[0], indices[0] + len(indices)))
        if "SLURM_ARRAY_TASK_ID" in first.values.used:
            if contiguous and as_seeds(runs):
                for run in runs:
                    run.words = [word.replace(INDEX, "${SEED}") for word in run.words]
                    run.exports.pop("SEED", None)
                self.repeat(line, len(indices), indices[0])
                return first, runs, others
            scripts = [self.read(index) for index in indices]
            found = [run for script in scripts for run in training(script.runs)[0]]
            if len({tuple(run.words) for run in found}) > 1 or len({str(run.exports) for run in found}) > 1:
                self.say("kit", line, "--array: a line for each index; the tasks are numbered from 1 on")
                return scripts[0], found, training(scripts[0].runs)[1]
            first = scripts[0]
            runs, others = training(first.runs)
        if len(indices) > 1:
            self.repeat(line, len(indices), None)
        return first, runs, others

    def repeat(self, line, number, base):
        self.say("option", line, "repeat", str(number))
        if base is None:
            self.say(
                "kit",
                line,
                "--array: the line is the same for each index: --repeat %d, each with a SEED of its own; a program "
                "that reads SLURM_ARRAY_TASK_ID itself finds 1 to %d there" % (number, number),
            )
        else:
            if base:
                self.say("option", line, "seed-base", str(base))
            self.say("kit", line, "--array: the index is a seed: --repeat and {seed}")

    def report_steps(self, first, runs, others):
        last = max([run.line for run in runs], default=0)
        steps = {line: words[0] for kind, line, words in first.records if kind == "step"}
        steps.update((run.line, first.shown(run.line)) for run in others)
        for line in sorted(steps):
            if line < last or not runs:
                words = "before the training: %s: do it once before you submit, or in the program"
            else:
                words = "after the training: %s: a job of its own, with --dependency afterok:JOB, or in the program"
            self.say("left", line, words % steps[line])

    def report_runs(self, first, runs):
        if not runs:
            self.say(
                "left", 0, "no program was found that the script starts: write its command into the configuration file"
            )
            return
        folders = {run.folder for run in runs}
        if folders != {"."}:
            if len(folders) == 1:
                self.say("option", runs[0].line, "chdir", runs[0].folder)
            else:
                self.say(
                    "left",
                    runs[0].line,
                    "the lines run in several folders: %s: give --chdir" % " ".join(sorted(folders)),
                )
        lines = sorted({run.line for run in runs})
        if len(runs) > 1 and not (self.request.indices and len(lines) == 1):
            self.say(
                "differs",
                runs[0].line,
                "the script runs %d programs in one job; here each is a task of an array, with the whole request"
                % len(runs),
            )
        self.look_at_srun(runs[0])
        if first.values.asked:
            self.say(
                "left", runs[0].line, "the arguments that sbatch is given behind the script ($@): add them to the line"
            )
        if self.request.nodes > 1 and any(not run.srun and "deepspeed" not in run.words for run in runs):
            self.say(
                "differs",
                runs[0].line,
                "without srun the script runs it only on its first node; here it runs on all nodes",
            )
        for name, why in first.values.unknown.items():
            self.say("unknown", runs[0].line, name, first.hidden(why))
        for run in runs:
            settings = self.settings(first, run, runs)
            self.say("run", run.line, *settings, *run.words)

    def of_srun(self, run):
        """Yield srun's options about nodes, processes, cores and GPUs."""
        for word, after in zip(run.srun, [*run.srun[1:], ""]):
            found = re.match(r"--(n(?:ode|task)s|\w+-per-\w+|gres|gpus)(?:=(.*))?$|-([nNcG])(.*)$", word)
            if found:
                value = found.group(2) or found.group(4) or after
                if literal(value):
                    yield found.group(1) or self.shorts[found.group(3)], (run.line, value)

    def look_at_srun(self, run):
        """Take the numbers from srun: at sites with whole nodes, only srun may give the processes, one for each GPU."""
        theirs = dict(self.request.given)
        theirs.update(self.of_srun(run))
        try:
            other = Request(theirs, lambda *_: None)
        except RequestError:
            return
        gpus = self.request.gpus or other.gpus
        if other.tasks == self.request.tasks or other.tasks != gpus or other.nodes != self.request.nodes:
            return
        replaced = {"gpus": gpus, "cpus": other.cpus * other.tasks}
        self.records = [
            record
            for record in self.records
            if record[0] != "facts" and record[2][0] not in replaced and "asks for no cores" not in record[2][0]
        ]
        self.say("facts", 0, *map(str, (other.nodes, other.tasks, gpus)))
        for name, number in replaced.items():
            self.say("option", run.line, name, str(number))
        if not self.request.gpus:
            self.say("site", run.line, "gpu_request", "none")
        self.say(
            "differs",
            run.line,
            "srun starts %d processes on a node, and the script asks for %d: the job has as many as srun, "
            "and %d cores on a node" % (other.tasks, self.request.tasks, replaced["cpus"]),
        )

    def settings(self, first, run, runs):
        """Return NAME=VALUE for variables that must go in front of the line; report those that go into .env once."""
        found = []
        for name, (line, value) in run.exports.items():
            if not isinstance(value, str) or name in first.values.unknown:
                self.left_export(line, name, "only the job knows its value")
            elif is_ours(name):
                continue
            elif name == "OMP_NUM_THREADS" and "SLURM_CPUS_PER_TASK" in first.lines[line - 1]:
                self.once("kit", line, "OMP_NUM_THREADS: the job sets it itself, to the cores of a process")
            elif name in SEARCHED:
                self.left_export(line, name, "write it into the profile:  node_setup() { export %s=…; }" % name)
            elif any(run_.exports.get(name, (0, None))[1] != value for run_ in runs):
                found.append("%s=%s" % (name, value))
            elif name in first.values.used and (re.search(r"\s", value.strip()) or value in run.words):
                continue  # the script builds its command from this variable
            elif name in INTERFACES and re.match(r"[A-Za-z0-9_.,=^-]+$", value):
                self.once("site", line, "interface", value)
            elif literal(value) is None:
                found += self.expanded(line, name, value)
            else:
                known = literal(value)
                if "\n" in known or ("'" in known and re.search(r"[\"$`\\]", known)):
                    self.left_export(line, name, ".env holds a value on one line, with one kind of quotes")
                else:
                    self.once("env", line, name, known)
        return found

    def expanded(self, line, name, value):
        if SECRET.search(name.upper()):
            self.left_export(line, name, "a key: write it into .env")
            return []
        if name == "PYTHONPATH":
            parts = [part for part in value.split(":") if part not in ("", ".", "./", "${PYTHONPATH}")]
            if not parts:
                self.once("kit", line, "PYTHONPATH: the project's folder is in it")
                return []
            value = ":".join(parts)
        return ["%s=%s" % (name, value)]

    def once(self, *record):
        record = (record[0], record[1], record[2:])
        if record not in self.records:
            self.records.append(record)

    def left_export(self, line, name, why):
        self.once("left", line, "export %s: %s" % (name, why))


def main(project, shorts, srun, flags, *paths):
    letters = dict(pair.split(":", 1) for pair in shorts.split())
    launcher = set_of(srun), set_of(flags)
    records = []
    for path in paths:
        try:
            records += Proposal(path, project, letters, launcher).records
        except (RequestError, TextError) as error:
            where = "line %d: " % error.line if error.line else ""
            records = [("refused", 0, (path, "%s%s" % (where, error)))]
            break
        records.append(("end", 0, ()))
    fields = []
    for kind, line, words in records:
        fields += [kind, str(line), str(len(words)), *words]
    sys.stdout.buffer.write(b"".join(field.encode("utf-8", "surrogateescape") + b"\0" for field in fields))


if __name__ == "__main__":
    main(*sys.argv[1:])
