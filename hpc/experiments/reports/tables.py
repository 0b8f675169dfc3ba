"""Makes the tables of a report for text, JSON and the page."""

import math
import time
from dataclasses import dataclass, field

from reports import costs, seeds


@dataclass
class Table:
    """Rows are tuples of text; a row of one text is a heading, or a remark about the row above."""

    title: str
    header: tuple
    rows: list
    note: str = ""
    numbers: frozenset = field(default_factory=frozenset)  # right-aligned columns


def number(value):
    return "-" if value is None else f"{value:.6g}"


def amount(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def clock(value):
    return "-" if value is None else costs.clock(value)


def moment(value):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value)) if math.isfinite(value) else "-"


def gibibytes(value):
    return f"{value / costs.GIB:.1f} GiB"


def share(used, asked):
    return f"{100 * used / asked:.0f} %" if asked else "-"


def gathered(name, trials, rates):
    """Return the data of an experiment, as for JSON."""
    attempts = []
    for trial in trials.values():
        attempts += [(trial, True, attempt) for attempt in trial.older_attempts]
        attempts += [(trial, False, attempt) for attempt in trial.attempts]
    return {
        "experiment": name,
        "kit_versions": sorted({trial.task.run.facts.get("kit_version", "") for trial in trials.values()} - {""}),
        "results": list(seeds.metrics(trials.values())),
        "tasks": [
            {
                "task": trial.name,
                "what": trial.what,
                "state": trial.state,
                "result": trial.result,
                "unconnected": bool(trial.task.unconnected),
            }
            for trial in trials.values()
        ],
        "causes": list(causes([attempt for *_, attempt in attempts], rates)),
        "attempts": [
            {
                "task": trial.name,
                "older": older,
                "job": attempt.run.job,
                "attempt": attempt.number,
                "cause": attempt.ending,
                "began": attempt.began,
                "seconds": attempt.seconds,
                "node_hours": attempt.node_hours,
                "gpu_hours": attempt.gpu_hours,
                "cost": rates.cost(attempt),
            }
            for trial, older, attempt in attempts
        ],
        "requests": list(costs.requests(trials.values(), rates)),
    }


def causes(attempts, rates):
    groups = {}
    for attempt in attempts:
        groups.setdefault(attempt.kind, []).append(attempt)
    for cause, members in sorted(groups.items(), key=lambda group: -len(group[1])):
        yield {
            "cause": cause,
            "attempts": len(members),
            "seconds": sum(attempt.seconds for attempt in members),
            "gpu_hours": sum(attempt.gpu_hours for attempt in members),
            "cost": rates.total(members),
        }


def results(report):
    rows = []
    for group in report["results"]:
        rows.append((group["command"],))
        for row in group["metrics"]:
            half = "-" if row["interval"] is None else "± " + number(row["interval"])
            of = f"{row['runs']} of {group['tasks']}"
            rows.append((f"  {row['metric']}", of, number(row["mean"]), number(row["deviation"]), half))
        rows += [(f"  {text}",) for text in group["without"]]
    rows += [(f"kit {version}",) for version in report["kit_versions"]]
    header = ("Metric", "Runs", "Mean", "SD", "95 % interval")
    return Table("Results", header, rows, numbers=frozenset((1, 2, 3, 4)))


def attempts(report, most):
    """Yield the table of causes and the table of attempts."""
    if not report["attempts"]:
        return
    priced = any(row["cost"] is not None for row in report["attempts"])

    def common(row):
        cells = (clock(row["seconds"]), amount(row["gpu_hours"]))
        return (*cells, amount(row["cost"])) if priced else cells

    header = ("Time", "GPU hours", "Cost") if priced else ("Time", "GPU hours")
    rows = [(row["cause"], str(row["attempts"]), *common(row)) for row in report["causes"]]
    yield Table("How attempts ended", ("Cause", "Attempts", *header), rows, numbers=frozenset(range(1, 5)))

    rows = [
        (named(row, "task"), row["job"], str(row["attempt"]), row["cause"], moment(row["began"]), *common(row))
        for row in report["attempts"]
    ]
    note = ""
    if len(rows) > most:
        note, rows = f"{len(rows) - most} more are not shown here; --json has them all.", rows[:most]
    header = ("Task", "Job", "Attempt", "Cause", "Began (UTC)", *header)
    yield Table("Attempts", header, rows, note, frozenset((2, 5, 6, 7)))


def named(row, key):
    return row[key] + ", older" * row["older"]


def machines(report, of_node):
    if not report["requests"]:
        return
    rows = [
        (
            named(row, "machine"),
            shape(row),
            f"{row['completed']} of {row['tasks']}",
            clock(row["mean_task_seconds"]),
            amount(row["seconds"] * row["nodes"] / 3600),
            amount(row["gpu_hours"]),
            number(row["rate"]),
            amount(row["cost"]),
        )
        for row in report["requests"]
    ]
    rate = "Rate of a node" if of_node else "Rate of a GPU"
    header = ("Machine", "Asked for", "Completed", "Time of a task", "Node hours", "GPU hours", rate, "Cost")
    note = ""
    if all(row["rate"] is None for row in report["requests"]):
        header, rows = header[:-2], [row[:-2] for row in rows]
        note = "For costs give --rate-per-hour X, the price of a GPU, or --rate-per-node-hour X."
    yield Table("Machines", header, rows, note, frozenset(range(2, 8)))


def shape(row):
    nodes = f"{row['nodes']} node" + ("s" if row["nodes"] != 1 else "")
    gpus = f"{row['gpus']} GPU" + ("s" if row["gpus"] != 1 else "")
    return f"{nodes} x {gpus if row['gpus'] else 'CPU'}"


def efficiency(report):
    rows, advice, short = [], [], False
    for row in report["requests"]:
        used = row["usage"]
        if not used or row["older"]:
            continue
        label = f"{row['machine']}, {shape(row)}"
        rows.append((label,))
        peak, asked, cpus = used["peak_memory_bytes"], row["memory_bytes"], row["cpus"]
        rows.append(("  memory of a node, highest", gibibytes(asked), gibibytes(peak), share(peak, asked)))
        for name, cores in (("mean", used["mean_cores"]), ("highest", used["peak_cores"])):
            if cores is not None:
                rows.append((f"  CPU cores of a node, {name}", str(cpus), f"{cores:.1f}", share(cores, cpus)))
        if used["gpu_percent"] is not None:
            gpu_memory = f"{used['peak_gpu_memory_mib'] or 0:.0f} MiB"
            rows.append(("  GPUs, mean of their use", str(row["gpus"]), "", f"{used['gpu_percent']:.0f} %"))
            rows.append(("  GPU memory of a node, highest", "", gpu_memory, ""))
        longest, limit = row["longest_attempt_seconds"], row["time_limit_seconds"]
        if limit:
            rows.append(("  time, longest attempt", clock(limit), clock(longest), share(longest, limit)))
        short = short or used["seconds"] < 60
    for row in report["requests"]:
        if row["advice"]:
            advice.append((f"{row['machine']}, {shape(row)}",))
            advice += [(f"  {line['option']}", line["value"] or "", line["why"]) for line in row["advice"]]
    note = "Less than a minute was seen: take this as a first guess." if short else ""
    if rows:
        header = ("", "Asked", "Used", "Share")
        yield Table("What was used of what was asked for", header, rows, note, frozenset((1, 2, 3)))
    if advice:
        yield Table("For the next time", ("Option", "Value", "Why"), advice)


def of_report(report, of_node, most):
    """Yield all tables; `most`: attempts that are listed one by one."""
    yield results(report)
    yield from machines(report, of_node)
    yield from attempts(report, most)
    yield from efficiency(report)


def as_text(table):
    """Yield the lines of the table, with aligned columns."""
    lines = [tuple(head.upper() for head in table.header), *table.rows]
    count = len(table.header)
    widths = [max(len(line[i]) for line in lines if len(line) == count) for i in range(count)]

    def cell(text, i):
        return text.rjust(widths[i]) if i in table.numbers else text.ljust(widths[i])

    for line in lines:
        if len(line) == 1:
            yield line[0] if line[0].startswith(" ") else f"\n{line[0]}"
        else:
            yield "  ".join(cell(text, i) for i, text in enumerate(line)).rstrip()
    if table.note:
        yield table.note
