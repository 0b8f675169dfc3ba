"""The table of a project's experiments, their logs and paths. Called by experiments.sh.

experiments.py OUTPUTS list|logs|open|stop|cancel|find|why ...
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

from files import changed
from finding import UnknownJobError, all_folders, find, matches, the_task, whole_runs
from known import Known
from measured import chief, direction
from ranks import node_of, rank_files
from runs import FINAL, Run, Task
from slurm import Slurm, ask, duration, say

HEAD = ("JOB", "NAME", "NODES", "STATE", "ATTEMPTS", "PROGRESS", "ELAPSED", "METRIC", "OUTPUT PATH")
STATES = ("enqueued", "running", "suspended", "paused", "completed", "failed", "stopped", "cancelled")


def account(run):
    """Return what the table shows of a run, as --json prints it."""
    tasks = run.tasks
    counts = {}
    for task in tasks:
        counts[task.state] = counts.get(task.state, 0) + 1
    found = {
        "job": run.jobs[0] if run.jobs else None,
        "jobs": run.jobs,
        "name": run.name,
        "nodes": run.number_in("nodes"),
        "state": next(iter(counts)) if len(counts) == 1 else "mixed",
        "tasks": counts,
        "unconnected": sum(bool(task.unconnected) for task in tasks),
        "held": sum(task.is_held for task in tasks),
        "attempts": sum(len(task.attempts) for task in tasks),
        "elapsed_seconds": round(max(task.elapsed for task in tasks), 1),
        "progress": None,
        "metric": None,
        "last": None,
        "best": None,
        "best_task": None,
        "output_path": run.folder,
    }
    if len(tasks) > 1:
        found["progress"] = ["task", counts.get("completed", 0), len(tasks)]
    elif tasks[0].progress:
        found["progress"] = list(tasks[0].progress)
    name = chief({name for task in tasks for name in task.metrics})
    if name:
        measured = [(task.number, *task.metrics[name]) for task in tasks if name in task.metrics]
        # A loss that was printed has only a last value.
        number, last, best = max(measured, key=lambda row: direction(name) * (row[1] if row[2] is None else row[2]))
        found.update(metric=name, last=last, best=best, best_task=number if len(tasks) > 1 else None)
    return found


def cells(entry):
    """Return a row of the table."""
    state = entry["state"]
    alone = sum(entry["tasks"].values()) == 1
    if state == "mixed":
        state = ", ".join(f"{entry['tasks'][name]} {name}" for name in STATES if name in entry["tasks"])
    elif not alone:
        state = f"{sum(entry['tasks'].values())} {state}"
    if entry["unconnected"]:  # `why` gives details, of both
        state += ", ranks unconnected" if alone else f", {entry['unconnected']} unconnected"
    if entry["held"]:
        state += ", held" if alone else f", {entry['held']} held"
    progress = "-"
    if entry["progress"]:
        what, done, whole = entry["progress"]
        progress = f"{what} {done:g}" + (f"/{whole}" if whole else "")
    metric = "-"
    if entry["metric"]:
        metric = f"{entry['metric']} {entry['last']:.5g}"
        if entry["best"] is not None and entry["best"] != entry["last"]:
            metric += f" (best {entry['best']:.5g})"
        if entry["best_task"]:
            metric += f", task {entry['best_task']}"
    return (
        ",".join(entry["jobs"][:2]) + ",…" * (len(entry["jobs"]) > 2) or "-",
        entry["name"],
        str(entry["nodes"]),
        state,
        str(entry["attempts"]),
        progress,
        duration(entry["elapsed_seconds"]) if entry["attempts"] else "-",
        metric,
        entry["output_path"],
    )


def choose(outputs, options):
    slurm = Slurm()
    entries = []
    known = Known(outputs, is_worth_it=not options.last or options.last > 50 or options.name or options.state)
    folders = all_folders(outputs)
    for folder in folders:
        run = Run(folder, slurm)  # not kept: 20,000 runs would need 160 MB
        entry = known.get(run)
        if not entry and not run.facts:
            continue
        if options.name and not matches(entry["name"] if entry else run.name, options.name):
            continue
        if not entry:
            entry = account(run)
            known.add(run, entry)
        if options.state and not set(options.state) & set(entry["tasks"]):
            continue
        entries.append(entry)
        if len(entries) == options.last:
            break
    known.save(folders)
    return entries, slurm


def show_list(outputs, options):
    while True:
        entries, slurm = choose(outputs, options)
        if options.watch:
            sys.stdout.write("\033[H\033[2J" if sys.stdout.isatty() else "")
        if options.json:
            print(json.dumps(entries, indent=1, ensure_ascii=False))
        else:
            rows = [HEAD, *map(cells, entries)]
            widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
            for row in rows:
                print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        slurm.say_silence()
        sys.stdout.flush()
        if not options.watch:
            return 0
        time.sleep(options.interval)


def is_wanted(path, options):
    if options.rank is not None and os.path.basename(path) != f"rank_{options.rank}.txt":
        return False
    return options.node is None or options.node in node_of(path)


def show_logs(outputs, options):
    slurm = Slurm()
    run, number = find(options.job, outputs, slurm)
    number = options.task if options.task is not None else number
    if number is None and len(run.numbers) > 1:
        last = run.numbers[-1]
        raise UnknownJobError(f"{run.folder} has {len(run.numbers)} tasks: say which by --task N (to {last})")
    task = the_task(run, run.numbers[0] if number is None else number)
    if options.rank is None and options.node is None:
        files = [task.log]
    else:
        files = [path for path in rank_files(task) if is_wanted(path, options)]
    files = [path for path in files if changed(path) is not None]
    if not files:
        which = "" if options.rank is None else f" of rank {options.rank}"
        which += "" if options.node is None else f" of node {options.node}"
        raise UnknownJobError(f"no log{which} in {task.folder}: it is {task.state}")
    reader = subprocess.Popen(  # noqa: S603 # the words are the kit's own, and no shell reads them
        ["tail", "--lines=+1", *(["--follow"] if options.follow else []), "--", *files]  # noqa: S607
    )
    try:
        while options.follow and Task(Run(run.folder, slurm), task.number).state not in FINAL:
            time.sleep(2)
            if time.time() - (slurm.asked or 0) > 15:
                slurm = Slurm()
        if options.follow:
            time.sleep(1.5)  # tail reads the end of the log
            reader.terminate()
        reader.wait()
    except KeyboardInterrupt:
        reader.terminate()
        return 130
    return 0 if options.follow else reader.returncode


def checkpoints_of(task):
    """The folder of the task, or that of the experiment."""
    checkpoints = task.run.facts.get("checkpoint_directory")
    own = os.path.join(checkpoints, *task.run.lines.get(task.number, ())[:1]) if checkpoints else ""
    return own if os.path.isdir(own) else checkpoints


def kept_of(run):
    """The folders of --keep-folders."""
    names = run.facts.get("keep_folders", "").split(",")
    return [os.path.join(run.facts["checkpoint_directory"], name.rstrip("/")) for name in names if name]


def sources_of(run):
    """The folder, or until it is unpacked and after it was removed, the archive."""
    source, archive = run.facts.get("source_dir", "-"), os.path.join(run.folder, "source.tar")
    return archive if changed(archive) and not os.path.isdir(source) else source


def paths_of(run, tasks):
    """Return what `open` prints, as for --json."""
    return {
        "run_directory": run.folder,
        "jobs": run.jobs,
        "name": run.name,
        "sources": sources_of(run),
        "kept_folders": kept_of(run),
        "kit_version": run.facts.get("kit_version"),
        "tasks": [
            {
                "task": task.number,
                "folder": task.folder,
                "state": task.noted,
                "log": task.log,
                "output": task.output,
                "ranks": rank_files(task),
                "stop_file": next((attempt.stop_file for attempt in task.attempts[-1:] if attempt.is_running), None),
                "checkpoints": checkpoints_of(task),
            }
            for task in tasks
        ],
    }


def show_paths(outputs, options):
    run, number = find(options.job, outputs, Slurm(wanted=False))
    tasks = [Task(run, number)] if number else run.tasks
    if options.json:
        print(json.dumps(paths_of(run, tasks), indent=1, ensure_ascii=False))
        return 0
    rows = [("run", run.folder)]
    for task in tasks:
        rows.append((f"task {task.number}", task.folder))
        rows += [(f"  {what}", path) for what, path in (("log", task.log), ("output", task.output)) if changed(path)]
        rows += [("  rank", path) for path in rank_files(task)]
        rows += [("  STOP_FILE", attempt.stop_file) for attempt in task.attempts[-1:] if attempt.is_running]
        checkpoints = checkpoints_of(task)
        if checkpoints:
            rows.append(("  checkpoints", checkpoints))
    rows.append(("sources", sources_of(run)))
    rows += [("kept", path) for path in kept_of(run)]
    if run.facts.get("kit_version"):
        rows.append(("kit", run.facts["kit_version"]))
    for what, path in rows:
        print(f"{what:<14}{path}")
    return 0


def stop(outputs, options):
    """Ask programs to save and end, by their stop files. restart.sh does not restart a task whose file has words."""
    slurm, status = Slurm(), 0
    for word in options.jobs:
        run, number = find(word, outputs, slurm)
        tasks = run.tasks if number is None else [the_task(run, number)]
        running = [task.attempts[-1] for task in tasks if task.attempts and task.attempts[-1].is_running]
        if not running:
            waits = any(task.live for task in tasks)
            what = f"waits in the queue, and nothing runs that could save: end it by  cancel {word}"
            say(f"{word}: {what if waits else 'has ended: nothing to stop'}")
            continue
        for attempt in running:
            try:
                with open(attempt.stop_file, "a") as file:
                    file.write("for good\n")
            except OSError as error:
                say(f"{word}: {attempt.stop_file} cannot be written: {error.strerror}")
                status = 1
            else:
                say(f"{word}: task {attempt.task.number} is asked to save and stop, by {attempt.stop_file}")
        say(
            f"{word}: when the program has saved it ends with status 75, and is not started again; "
            f"to go on from there:  bash hpc/experiments.sh resubmit {word}\n"
            f"{word}: a program that does not look at STOP_FILE runs on: "
            f"bash hpc/experiments.sh cancel {word}  ends it at once"
        )
    return status


def cancel(outputs, options):
    slurm = Slurm()
    if slurm.silence:
        say(f"Slurm does not answer ({slurm.silence}): nothing was cancelled")
        return 1
    status = 0
    for word in options.jobs:
        run, number = find(word, outputs, slurm)
        if run.is_here:
            status |= cancel_here(word, run.tasks[0])
            continue
        live = [job for job in run.queued if number in (None, run.task_of(job))]
        ids = sorted({job.array if number is None else job.id for job in live}, key=lambda job: job.zfill(20))
        if not ids:
            say(f"{word}: has ended: nothing to cancel")
            continue
        _, silence = ask("scancel", *ids)
        if silence:
            say(f"{word}: {silence}")
            status = 1
        else:
            say(f"{word}: cancelled {' '.join(ids)}")
    return status


def cancel_here(word, task):
    """End a run in the user's allocation, which stays: batch.sh ends its ranks (job/lib/allocation.sh)."""
    if not task.live:
        say(f"{word}: has ended: nothing to cancel")
        return 0
    try:
        with open(os.path.join(task.folder, "cancel"), "a"):
            pass
    except OSError as error:
        say(f"{word}: {task.folder}/cancel cannot be written: {error.strerror}")
        return 1
    say(f"{word}: {os.path.basename(task.run.folder)} is being ended; the allocation, job {task.run.job}, stays")
    return 0


def locate(outputs, options):
    """Print the run directory, and the task's number if one was named. For experiments.sh."""
    run, number = find(options.job, outputs, Slurm(wanted=False))
    sys.stdout.write(f"{run.folder}\0{number or ''}\0")
    return 0


def explain(outputs, options):
    import why  # its patterns take longer to compile than the other commands take

    return why.main(outputs, options)


def print_records(outputs, options):
    """Print OUTPUTS, and four words for each run of these experiments and jobs, each with a NUL. For remove.sh."""
    sys.stdout.write(f"{outputs}\0")
    sys.stdout.flush()
    slurm = Slurm(wanted=False)
    runs = {run.folder: run for word in options.jobs for run in whole_runs(word, outputs, slurm)}
    users = {}  # (folder of runs, experiment) -> the folder of a run of it that stays
    for beside in {os.path.dirname(folder) for folder in runs}:
        for folder in set(all_folders(beside)).difference(runs):
            users[beside, Run(folder, slurm).facts.get("exp_name")] = folder
    for folder, run in runs.items():
        name, cluster = (run.facts.get(fact, "") for fact in ("exp_name", "cluster"))
        other = users.get((os.path.dirname(folder), name), "")
        sys.stdout.write("".join(f"{word}\0" for word in (folder, name, cluster, other)))
    return 0


def parser():
    top = argparse.ArgumentParser(prog="experiments.sh", allow_abbrev=False)
    top.add_argument("outputs", help=argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", required=True)
    table = commands.add_parser("list", help="the table of all runs, the newest first")
    table.add_argument("--name", metavar="PATTERN", help="only names like this (* ? [], or a part)")
    table.add_argument("--state", action="append", choices=STATES, help="only runs with a task in this state")
    table.add_argument("--last", type=int, metavar="N", help="only the newest N")
    table.add_argument("--json", action="store_true")
    table.add_argument("--watch", action="store_true", help="again and again")
    table.add_argument("--interval", type=float, default=5, metavar="SECONDS", help="of --watch [5]")
    table.set_defaults(call=show_list)
    logs = commands.add_parser("logs", help="what a task, rank or node has printed")
    logs.add_argument("job")
    logs.add_argument("--task", type=int, metavar="N")
    logs.add_argument("--rank", type=int, metavar="R")
    logs.add_argument("--node", metavar="N", help="its number in the job, or its name")
    logs.add_argument("--follow", action="store_true", help="until the task ends")
    logs.set_defaults(call=show_logs)
    for name, call, text in (
        ("open", show_paths, "prints the paths of a run"),
        ("why", explain, "why a run ended, or waits, and what to do"),
        ("find", locate, argparse.SUPPRESS),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("job")
        if name == "why":
            one.add_argument("--task", type=int, metavar="N")
        if name != "find":
            one.add_argument("--json", action="store_true")
        one.set_defaults(call=call)
    for name, call, text in (
        ("stop", stop, "asks programs to save and end, for good"),
        ("cancel", cancel, "ends jobs"),
        ("records", print_records, argparse.SUPPRESS),
    ):
        several = commands.add_parser(name, help=text)
        several.add_argument("jobs", nargs="+", metavar="job")
        several.set_defaults(call=call)
    return top


def main():
    options = parser().parse_args()
    try:
        return options.call(options.outputs, options)
    except UnknownJobError as error:
        say(f"experiments.sh: error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    sys.stdout.reconfigure(errors="surrogateescape")  # paths are bytes
    sys.exit(main())
