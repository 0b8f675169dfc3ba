#!/usr/bin/env python3
"""Counts and lists the points of a W&B sweep, and asks W&B's server. For hpc/job_submitter.sh and hpc/sweep.sh.

It runs in the project's environment on a login node (Python 3.9, PyYAML; wandb only for commands that ask the server).
Exit status: 0; 1 if the server refuses or does not answer; 2 if the request or the file is wrong; 3 if the sweep has no
end and --runs is needed. A failure prints one line on standard error. The key comes from the environment or netrc,
never from an argument.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import sweep_points
from sweep_points import EndlessError, SweepError

WRAPPER = "sweep_trial"  # a link in hpc/job/shims, which is first in the PATH of the agents
# Programs that hpc/job/shims replaces, so that a sweep without the wrapper can run too.
CAUGHT = ("${env}", "/usr/bin/env", "env", "${interpreter}", "python", "python3", WRAPPER)


class RefusedError(Exception):
    """The server refuses or cannot be reached."""


def main(arguments):
    parser = argparse.ArgumentParser(prog="sweep.py", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="name", required=True)
    add = commands.add_parser("count", help="print the number of points of FILE, listed without W&B")
    add.add_argument("file")
    add.add_argument("--runs", type=_positive)
    add = commands.add_parser("write", help="write the points of FILE into the task folders of a run directory")
    add.add_argument("file")
    add.add_argument("run_directory", type=Path)
    add.add_argument("--runs", type=_positive)
    add.add_argument("--seed", type=int, default=0, help="seed of random points")
    add.add_argument("--experiment", default="", help="name that makes the W&B ids of the runs different")
    add = commands.add_parser("online", help="print the number of runs that W&B's sweep can still hand out")
    add.add_argument("sweep", help="ID, PROJECT/ID or ENTITY/PROJECT/ID")
    add.add_argument("--runs", type=_positive)
    add.add_argument("--may-be-over", action="store_true", help="print 0 for a sweep that has no run left")
    commands.add_parser("ping", help="check that the server answers and accepts the key")
    add = commands.add_parser("create", help="make the sweep of FILE on the server, and print ENTITY/PROJECT/ID")
    add.add_argument("file")
    options = vars(parser.parse_args(arguments))
    try:
        answer = {"count": count, "write": write, "online": online, "ping": ping, "create": create}[
            options.pop("name")
        ](**options)
    except SweepError as error:
        print("sweep.py: error: %s" % error, file=sys.stderr)
        return 3 if isinstance(error, EndlessError) else 2
    except RefusedError as error:
        print("sweep.py: error: %s" % error, file=sys.stderr)
        return 1
    if answer is not None:
        print(answer)
    return 0


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("%r is not a whole number above 0" % text)
    return int(text)


def load(file):
    """Return the sweep in a YAML file."""
    yaml = _yaml()
    try:
        with open(file, encoding="utf-8") as text:
            sweep = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise SweepError("%s: %s" % (file, error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SweepError("%s is no YAML: %s" % (file, " ".join(str(error).split()))) from error
    if not isinstance(sweep, dict):
        raise SweepError("%s is no sweep: write method, program and parameters, as in hpc/sweeper.yml" % file)
    for key in ("job", "image_uri"):
        if key in sweep:
            raise SweepError("%s: %s is of W&B Launch; the kit runs  program  or  command" % (file, key))
    return sweep


def _yaml():
    try:
        import yaml
    except ImportError as error:
        raise RefusedError("no PyYAML in %s: run this by  bash venv/run.sh python" % sys.executable) from error
    return yaml


def count(file, runs=None):
    sweep = load(file)
    sweep_points.check_command(sweep)
    return sweep_points.count(sweep, runs)


def write(file, run_directory, runs, seed, experiment):
    """Write command, environment and parameters.yaml of task_N for each point N, and the file `tasks` with all."""
    yaml, sweep, seen, lines = _yaml(), load(file), {}, []
    sweep_points.check_command(sweep)
    if sweep.get("early_terminate"):
        print("sweep.py: note: early_terminate needs the server: offline all runs go to their end", file=sys.stderr)
    for number, point in enumerate(sweep_points.points(sweep, runs, seed), 1):
        name = sweep_points.identity(point)
        seen[name] = seen.get(name, -1) + 1  # random points may be equal
        name = sweep_points.identity(point, seen[name])
        folder = run_directory / ("task_%d" % number)
        run = sweep_points.identity({experiment: name}) if experiment else name
        # No number of a task in the path: --only-missing needs the same command at each position in the list.
        words = sweep_points.command(sweep, point, "${OUTPUT_PATH}/../parameters.json")
        _write_words(folder / "command", words)
        _write_words(folder / "environment", ["WANDB_RUN_ID=" + run, "WANDB_RESUME=allow"])
        with open(folder / "parameters.yaml", "w", encoding="utf-8") as out:
            out.write("wandb_version: 1\n\n")
            values = {key: {"value": value} for key, value in point.items()}
            yaml.dump(values, out, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), allow_unicode=True)
        if "${args_json_file}" in (sweep.get("command") or ()):
            (folder / "parameters.json").write_text(json.dumps(point, default=str), encoding="utf-8")
        lines.append("%d\t%s\t%s\n" % (number, name, sweep_points.summary(point)))
    (run_directory / "tasks").write_text("".join(lines), encoding="utf-8")


def _write_words(path, words):
    for word in words:
        if "\0" in word:
            raise SweepError("a NUL in %r" % word)
    path.write_bytes(b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words))


def online(sweep, runs=None, may_be_over=False):
    found = _ask(lambda: _find(sweep))
    if may_be_over and found.state == "FINISHED":
        return 0
    if found.state not in ("PENDING", "RUNNING"):
        hint = "; to go on: wandb sweep --resume %s" % sweep if found.state == "PAUSED" else ": make a new one"
        raise RefusedError("the sweep %s is %s%s" % (sweep, found.state.lower(), hint))
    first = next((str(word) for word in found.config.get("command") or () if str(word) not in CAUGHT[:3]), "python")
    if first not in CAUGHT:
        raise RefusedError(
            "the sweep %s starts %r, which the kit cannot take over from W&B's agent: make it by hpc/sweep.sh, "
            "or write %s before it in the command" % (sweep, first, WRAPPER)
        )
    cap, expected, begun = found.config.get("run_cap"), found.expected_run_count, getattr(found, "run_count", 0) or 0
    limits = [limit for limit in (expected, cap) if limit is not None]
    if limits:
        left = min(limits) - begun
        if left < 1 and may_be_over:
            return 0
        if left < 1:
            raise RefusedError("the sweep %s has handed out all of its %d runs" % (sweep, min(limits)))
        return left if runs is None else min(runs, left)
    if runs is None:
        raise EndlessError(
            "the sweep %s (method: %s) has no end: give the number of runs (--sweep-runs N)"
            % (sweep, found.config.get("method"))
        )
    return runs


def _find(sweep):
    return _log_in().sweep(sweep)


def ping():
    _ask(_log_in)


def _log_in():
    import wandb

    return wandb.Api(timeout=10)


def create(file):
    """Make the sweep on the server, with the kit's wrapper before its command."""
    sweep = load(file)
    if sweep.get("method") != "bayes":
        sweep_points.count(sweep, runs=1)  # checks the whole sweep
    else:
        sweep_points.leaves(sweep)
    words = sweep_points.check_command(sweep)
    if WRAPPER not in words:
        words = ["${env}", WRAPPER, *words]
    return _ask(lambda: _create({**sweep, "command": words}))


def _create(sweep):
    import contextlib

    import wandb

    with contextlib.redirect_stdout(sys.stderr):
        name = wandb.sweep(sweep, entity=sweep.get("entity"), project=os.environ.get("WANDB_PROJECT"))
    # wandb.sweep has set these variables.
    return "/".join([os.environ["WANDB_ENTITY"], os.environ["WANDB_PROJECT"], name])


def _ask(question, seconds=60):
    """Return what `question` returns; turn each failure into an error of one line."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(seconds)
    try:
        return question()
    except ImportError as error:
        raise RefusedError("no wandb in %s: add it to the project's requirements" % sys.executable) from error
    except Exception as error:
        # wandb passes on the exceptions of the layers below.
        raise RefusedError(_reason(error)) from error
    finally:
        signal.alarm(0)


def _give_up(*_):
    raise TimeoutError("it does not answer")


def _reason(error):
    text = " ".join(str(error).split())
    server = os.environ.get("WANDB_BASE_URL", "W&B")
    if "Could not find sweep" in text:
        return "%s has no such sweep, or it is not yours: write ENTITY/PROJECT/ID, as its page shows it" % server
    if "missing entity" in text or "missing project" in text:
        return "%s; write ENTITY/PROJECT/ID, or set WANDB_ENTITY and WANDB_PROJECT" % text
    if "No API key" in text:
        return "no W&B key: set WANDB_API_KEY, or put it into ~/wandb_credentials.txt or .env, or call  wandb login"
    if isinstance(error, TimeoutError) or "in time" in text or "connect" in text:
        return "%s does not answer: %s" % (server, text)
    return "%s: %s" % (server, text)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if "wandb" in sys.modules:
        # At exit wandb waits for its own process, which may not end if the server does not answer.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
