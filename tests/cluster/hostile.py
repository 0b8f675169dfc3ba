"""Hostile values for hostile.bats: makes them from a seed, gives them to the submitter or a program, and judges the
result.

hostile.py options PROJECT FOLDER NUMBER SEED   NUMBER runs of the submitter, each with one such value
hostile.py file PROJECT NUMBER SEED             writes PROJECT's configuration file, and beside it the expected words
hostile.py compare PROJECT OUTPUT...            compares the programs' words with the expected ones
"""

import argparse
import concurrent.futures
import json
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

WORDS = r"""
    ' " ` \ \\ ; & && | < > ( ) { } [ ] # ! !! $ $$ ${ ${HOME} $HOME ${PATH} $((1)) * ? [a-z]* {a,b} ~ ~root .. ../
    / /etc/passwd % %% %j %s%n \n \0 - -- -g -x --gpus --nodes=9 = , : + _ . 0 1 2 -1 09 0x10 1e3 1G 10:00 1-12
    99999999999999999999 a main urgent v100l ü 漢字 😀
"""
# A value is made of several of these,
PIECES = [
    *WORDS.split(),
    *(
        "$(touch canary)",
        "`touch canary`",
        "a[$(touch canary)]",
        "; touch canary;",
        "&& touch canary",
        "| touch canary",
    ),
    *(">canary", "' touch canary '", '" touch canary "', "\ntouch canary\n", "--wrap=touch canary", "b c"),
    *(" ", "  ", "\t", "\n", "\r", "\r\n", "\\\n", "\x01", "\x1b[31m", "\x7f", "\b"),
    *("\u202e", "\u00a0", "\ufeff", "e\u0301", "\udcff", "\udce9", "\udcc3"),  # the last: bytes that are not UTF-8
]
# or is one of these.
WHOLE = ["", " ", "\n", "'", '"', "\\", "$", "-", "--"]
LARGE = ["x" * 10000, "'" * 10000, "$(touch canary)" * 700, " " * 10000, "😀" * 2500]


def hostile_value(dice: random.Random) -> str:
    if dice.random() < 0.15:
        return dice.choice(WHOLE + LARGE)
    value = "".join(dice.choices(PIECES, k=dice.randint(1, 6)))
    return value * 300 if dice.random() < 0.02 else value


# --- options -------------------------------------------------------------------------------------------------------

BASE = {
    "--job-name": "project",
    "--nodes": "1",
    "--ntasks-per-node": "1",
    "--cpus-per-task": "2",
    "--mem": "10240M",
    "--time": "0-01:00:00",
    "--gpus-per-node": "1",
}
# The options of sbatch itself, in the order in which the kit writes them.
HANDED_ON = [
    *("account", "partition", "qos", "constraint", "nodelist", "exclude", "reservation"),
    *("dependency", "begin", "mail-user", "mail-type"),
]
COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)
NUMBER = re.compile(r"0*[1-9][0-9]{0,5}", re.ASCII)
NAME = re.compile(r"[\w.+-][\w.+ -]{0,99}")


def megabytes(value):
    number, unit = re.fullmatch(r"([0-9]+)([KMGT]?)B?", value.upper(), re.ASCII).groups()
    if unit == "K":
        return -(-int(number) // 1024)
    return int(number) << {"": 0, "M": 0, "G": 10, "T": 20}[unit]


def slurm_time(value):
    days, _, clock = value.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return f"{total // 86400}-{total // 3600 % 24:02d}:{total // 60 % 60:02d}:{total % 60:02d}", total


def expected_argv(option, value, run_directory):
    """Return the arguments that sbatch must get if VALUE is accepted for OPTION; None if it must be refused."""
    words = dict(BASE)
    handed_on, last = {}, []
    restarts, grace, tasks = 50, 120, 1
    if option == "gpus" and re.fullmatch("[0-9]{1,6}", value, re.ASCII):
        processes = int(value) or 1
        words |= {"--cpus-per-task": str(2 * processes), "--mem": f"{10240 * processes}M"}
        words["--gpus-per-node"] = value.lstrip("0")
        if int(value) == 0:
            del words["--gpus-per-node"]
    elif option in ("num-nodes", "num_nodes", "nodes") and NUMBER.fullmatch(value):
        words["--nodes"] = str(int(value))
    elif option in ("cpus", "cpu") and NUMBER.fullmatch(value):
        words["--cpus-per-task"] = str(int(value))
    elif option in ("mem-per-gpu", "mem"):
        words["--mem"] = f"{megabytes(value)}M"
    elif option == "time":
        words["--time"], seconds = slurm_time(value)
        if seconds < 300:
            grace = 0
    elif option == "gpu-type":
        words["--gpus-per-node"] = f"{value}:1"
    elif option == "exp-name" and NAME.fullmatch(value) and value not in (".", "..") and value[0] != "-":
        words["--job-name"] = value
    elif option in HANDED_ON and value and not re.search(r"[\x00-\x1f\x7f]", value):
        handed_on[option] = value
    elif option == "sbatch-arg" and re.match("--[a-z]", value):
        last = [value]
    elif option == "cluster":
        if value not in ("default", "pocket", "cedar", "plai", "oscer"):
            return None
    elif option in ("pack-partition", "cycle-partition", "infra"):  # variables here; the options need another
        if not value or re.search(r"[\x00-\x1f\x7f]", value):
            return None
    elif option == "max-restarts" and COUNT.fullmatch(value):
        restarts = int(value)
    elif option == "hang-minutes" and COUNT.fullmatch(value):
        pass
    elif option == "grace-seconds" and NUMBER.fullmatch(value) and int(value) <= 3540:
        grace = int(value)
    elif option in ("staging-limit", "disk-size"):
        megabytes(value)
    elif option == "environment":
        if not value or not os.access(f"{value}/bin/python", os.X_OK):
            return None
    elif option == "collect":
        if not value or value.startswith("/") or ".." in value.split("/"):
            return None
    elif option in ("max-parallel", "staging-days", "sweep-runs"):  # the last: a variable here; it needs a sweep
        if not NUMBER.fullmatch(value):
            return None
    elif option == "repeat" and NUMBER.fullmatch(value):
        tasks = int(value)
    elif option == "seed-base" and COUNT.fullmatch(value):
        pass
    elif option != "chdir":
        return None
    argv = []
    for offset in range(0, tasks, 1000):  # an array of the stub ends there
        folder = f"offset_{offset}/" if offset else ""
        argv += [
            *("sbatch", "--parsable"),
            *(f"{name}={word}" for name, word in words.items()),
            *(f"--{name}={handed_on[name]}" for name in HANDED_ON if name in handed_on),
            *([f"--signal=B:USR1@{grace}"] if grace else []),
            "--requeue" if restarts else "--no-requeue",
            "--propagate=NONE",
            *(f"--chdir={run_directory}", "--open-mode=append"),
            *([f"--array=1-{min(1000, tasks - offset)}"] if tasks > 1 else []),
            f"--output={folder}task_{'%a' if tasks > 1 else 1}/log.txt",
            *(*last, f"{run_directory}/kit/hpc/job/batch.sh", run_directory),
            *([f"offset={offset}"] if offset else []),
        ]
    return argv


LIST_OPTIONS = """
source "$1/hpc/lib/options.sh"
source "$1/hpc/job_submitter/option_table.sh"
option_table::define
for name in "${!options_names[@]}"; do echo "$name ${options_kind[$name]%% *} ${options_names[$name]}"; done
"""
SHOW_FACT = 'declare -A fact; source "$1/facts"; printf %s "${fact[$2]}"'


def bash(script, *arguments):
    done = subprocess.run(["bash", "-c", script, "shell", *arguments], stdout=subprocess.PIPE, check=True)
    return os.fsdecode(done.stdout)


class Submitter:
    """Run the submitter with a Slurm that records its arguments, or with the real one."""

    def __init__(self, project, folder):
        self.project, self.folder = project, folder
        self.real = "SLURM_CONF" in os.environ
        rows = [line.split() for line in sorted(bash(LIST_OPTIONS, project).splitlines())]
        # Leave out the options that ignore all others or wait for the job, those that each run has anyway, and the one
        # that creates any folder that it gets.
        without = {"help", "version", "json", "follow", "dry_run", "no_snapshot", "no_preflight", "output_path"}
        self.rows = [(name, kind, spellings) for name, kind, *spellings in rows if name not in without]

    def request(self, number, seed):
        """Return the arguments and settings of one run, and what they are about."""
        dice = random.Random(f"{seed} {number}")
        name, kind, spellings = self.rows[number % len(self.rows)]
        spelling, value = dice.choice(spellings), hostile_value(dice)
        option = spellings[0].removeprefix("--")
        forms = ["joined", "apart", "environment", "no option"] if kind != "list" else ["joined", "joined", "apart"]
        form = dice.choices(forms, weights=[4, 4, 2, 1][: len(forms)])[0]
        arguments, settings = [], {}
        if form == "environment":
            settings[f"HPC_{name.upper()}"] = value
        elif form == "no option":
            arguments = [value]
        elif form == "apart":
            arguments = [spelling, value]
        else:
            arguments = [f"{spelling}={value}" if spelling.startswith("--") else spelling + value]
        return option, kind, form, value, arguments, settings

    def run(self, number, seed):
        """Return the faults found in one run; None if it is right."""
        option, kind, form, value, arguments, settings = self.request(number, seed)
        folder = self.folder / str(number)
        working = folder / "working directory"
        working.mkdir(parents=True)
        (folder / "scratch").mkdir()
        extra = ["--dry-run"] if self.real else ["--no-snapshot", *(["--no-preflight"] if number % 2 else [])]
        done = subprocess.run(
            ["bash", f"{self.project}/hpc/job_submitter.sh", *extra, *arguments],
            env={**os.environ, **settings, "SCRATCH": str(folder / "scratch"), "RECORD": str(folder / "record")},
            cwd=working,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        output, errors = os.fsdecode(done.stdout), os.fsdecode(done.stderr)
        record = folder / "record"
        sent = os.fsdecode(record.read_bytes()).split("\0")[:-1] if record.exists() else None

        faults = []
        if any(working.iterdir()) or any(found.name.startswith("canary") for found in folder.rglob("*")):
            faults.append("a file appeared")
        if done.returncode in (1, 2):
            faults += self.faults_of_refusal(output, errors, sent, folder)
        elif done.returncode == 0:
            if self.real:
                if not re.fullmatch(r"'sbatch' '--parsable' [^\n]+\n", output):
                    faults.append("a dry run prints one line")
            elif sent is None or output != "4711\n" * sent.count("sbatch"):
                faults.append("accepted, and not sent once")
            else:
                faults += self.faults_of_job(option, kind, form, value, sent)
        else:
            faults.append("the status is none of 0, 1, 2")
        if not faults:
            return []
        return [f"{number}: {faults}: {arguments!r} {settings!r}: {done.returncode}\n{output!r}\n{errors}\n{sent!r}\n"]

    def faults_of_refusal(self, output, errors, sent, folder):
        lines = errors.removesuffix("\n").split("\n")
        faults = []
        if output:
            faults.append("refused, with something on standard output")
        if sent is not None:
            faults.append("refused, and sent")
        if any((folder / "scratch").glob("*/hpc_outputs/[!.]*")):
            faults.append("refused, with a run directory left behind")
        if not lines[-1].startswith(("job_submitter.sh: error: ", "sweep.py: error: ")):
            faults.append("no error on the last line")
        if not all(re.match("note: |job_submitter.sh: warning: ", line) for line in lines[:-1]):
            faults.append("not one line")
        if len(errors) > 6000 or re.search(r"[\x00-\x09\x0b-\x1f\x7f]", errors):
            faults.append("not a clear line")
        return faults

    def faults_of_job(self, option, kind, form, value, sent):
        run_directory = next(word for word in reversed(sent) if not word.startswith("offset="))
        if kind == "flag" or form == "no option":
            return (
                [] if form == "environment" and value in ("", "0", "1") else ["a value where none belongs was accepted"]
            )
        if form == "environment" and value == "":
            option = "chdir"  # as if it had not been given
        try:
            expected = expected_argv(option, value, run_directory)
        except (AttributeError, ValueError):
            expected = None
        faults = []
        if expected is None:
            faults.append("accepted")
        elif self.canonical(sent) != self.canonical(expected):
            faults.append(f"not what was asked for, {expected!r}")
        if option == "chdir" and value and bash(SHOW_FACT, run_directory, "working_directory") != value:
            faults.append("the record does not say what was asked for")
        return faults

    def canonical(self, words):
        # The preflight corrects the case of a GPU's name.
        return [word.lower() if word.startswith("--gpus-per-node=") else word for word in words]


def check_options(project, folder, number, seed):
    submitter = Submitter(project, Path(folder))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [fault for found in pool.map(lambda one: submitter.run(one, seed), range(number)) for fault in found]
    print("".join(faults[:10]), f"{len(faults)} of {number} went wrong", sep="", file=sys.stderr)
    accepted = sum(1 for one in Path(folder).glob("*/record"))
    print(f"{accepted} of {number} were accepted", file=sys.stderr)
    sys.exit(bool(faults))


# --- the configuration file ------------------------------------------------------------------------------------------


def in_double_quotes(value):
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


def behind_backslashes(value):
    return re.sub(r"([^\w\udc80-\udcff])", r"\\\1", value, flags=re.ASCII)


def quoted(value, dice):
    """Return VALUE as a user could write it in the file."""
    ways = [shlex.quote]
    # In double quotes these are replaced by numbers.
    if not any(place in value for place in ("{nodes}", "{gpus}", "{processes}")):
        ways.append(in_double_quotes)
    # A backslash before the end of a line removes both.
    if value and "\n" not in value and len(value) < 1000:
        ways.append(behind_backslashes)
    return dice.choice(ways)(value)


def write_file(project, number, seed):
    dice = random.Random(f"file {seed}")
    values = [hostile_value(dice) for _ in range(number)] + ["{nodes}", "'{gpus}'", "${{nodes}"]
    # The first line ends as on Unix, so a "\r\n" in a value is the user's own.
    lines, expected = ["# hostile values\n"], []
    while values:
        these, values = values[: number // 4 + 1], values[number // 4 + 1 :]
        words = [quoted(value, dice) for value in these]
        lines.append("python \"${source_dir}\"/'show arguments.py' " + " ".join(words) + "  # a comment\n")
        expected.append(these)
    Path(project, "experiment_configurations.txt").write_bytes(os.fsencode("".join(lines)))
    Path(project, "expected.json").write_text(json.dumps(expected))
    Path(project, "show arguments.py").write_text(
        "import json, os, sys\n"
        "with open(os.environ['OUTPUT_PATH'] + '/arguments.json', 'w') as file:\n"
        "    json.dump(sys.argv[1:], file)\n"
    )


def compare(project, outputs):
    expected = json.loads(Path(project, "expected.json").read_text())
    got = [json.loads(Path(output, "arguments.json").read_text()) for output in outputs]
    for values, arguments in zip(expected, got):
        for value, argument in zip(values, arguments):
            if value != argument:
                print(f"wanted {value!r}\ngot    {argument!r}", file=sys.stderr)
    sys.exit(expected != got)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function, arguments in (
        ("options", check_options, {"project": str, "folder": str, "number": int, "seed": int}),
        ("file", write_file, {"project": str, "number": int, "seed": int}),
        ("compare", compare, {"project": str}),
    ):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        for argument, kind in arguments.items():
            command.add_argument(argument, type=kind)
        if name == "compare":
            command.add_argument("outputs", nargs="+")
    given = vars(parser.parse_args())
    given.pop("function")(**given)


if __name__ == "__main__":
    main()
