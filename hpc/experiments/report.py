"""Reports the results and the cost of experiments, and what to request next time. Called by experiments.sh.

A task's result is the file result.json in its OUTPUT_PATH, or the last line of a .jsonl file there: an object whose
numbers are the metrics. If several runs have a task (--only-missing, --resume, --fresh), the newest counts.
Standard library only; --html also needs matplotlib.
"""

import argparse
import json
import math
import os
import re
import signal
import sys
from pathlib import Path

from finding import UnknownJobError, runs_of
from reports import costs, tables
from reports.trials import read_experiments
from slurm import Slurm

USAGE = "experiments.sh report [--rate-per-hour X|--rate-per-node-hour X] [--json] [--html FILE] EXPERIMENT|RUN..."
SHOWN_AS_TEXT, SHOWN_ON_PAGE = 40, 500  # attempts that are listed one by one


def rate(text):
    """Parse X or MACHINE=X."""
    name, _, price = text.rpartition("=")
    try:
        number = float(price)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no price: give a number such as 2.5, or MACHINE=2.5")
    return name, number


def some(text):
    if not text:
        raise argparse.ArgumentTypeError("expected one argument")
    return text


class Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message):
        message = re.sub(r"^argument (\S+): expected one argument", r"\1 needs a value", message)
        self.exit(2, f"experiments.sh: error: {message}\n")


def parse(arguments):
    parser = Parser(prog="experiments.sh report", usage=USAGE, allow_abbrev=False)
    parser.add_argument("outputs", help=argparse.SUPPRESS)
    prices = parser.add_mutually_exclusive_group()
    prices.add_argument("--rate-per-hour", type=rate, action="append", default=[])
    prices.add_argument("--rate-per-node-hour", type=rate, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--html", type=some)
    parser.add_argument("names", nargs="*")
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        parser.error(f"report knows no option {unknown[0]!r}: --rate-per-hour, --rate-per-node-hour, --json, --html")
    if not options.names:
        parser.error("report needs an experiment's name, a job or a run directory")
    return options


def read_rates(options):
    given = options.rate_per_node_hour or options.rate_per_hour
    common = [price for name, price in given if not name]
    named = {name: price for name, price in given if name}
    return costs.Rates(bool(options.rate_per_node_hour), common[-1] if common else None, named)


def without_infinities(value):
    """Replace numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: without_infinities(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_infinities(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def print_text(reports, of_node):
    for report in reports:
        if len(reports) > 1:
            print(f"=== {report['experiment']}")
        for index, table in enumerate(tables.of_report(report, of_node, SHOWN_AS_TEXT)):
            if index > 0:
                print(f"\n== {table.title}")
            print("\n".join(tables.as_text(table)))
        if len(reports) > 1:
            print()


def write_page(path, reports, experiments, of_node):
    from reports import page  # importing matplotlib takes a second

    text = page.html(reports, experiments, of_node, SHOWN_ON_PAGE)
    partial = path.with_name(f"{path.name}.partial.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        sys.exit(f"experiments.sh: error: --html {str(path)!r}: {error.strerror}")
    print(f"{path}: {len(text.encode()) / 1000:.0f} kB", file=sys.stderr)


def main(arguments):
    options = parse(arguments)
    rates = read_rates(options)
    slurm = Slurm()
    try:
        experiments = read_experiments(run for name in options.names for run in runs_of(name, options.outputs, slurm))
    except UnknownJobError as error:
        sys.exit(f"experiments.sh: error: {error}")
    reports = [tables.gathered(name, trials, rates) for name, trials in experiments.items()]
    if slurm.asked:
        slurm.say_silence()
    if options.html:
        write_page(Path(options.html), reports, experiments, rates.of_node)
    if options.json:
        print(json.dumps({"experiments": without_infinities(reports)}, indent=1, ensure_ascii=False))
    else:
        print_text(reports, rates.of_node)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    sys.stdout.reconfigure(errors="surrogateescape")  # paths are bytes
    main(sys.argv[1:])
