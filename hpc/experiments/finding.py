"""Finds the run that a word of the command line names, and lists all runs."""

import fnmatch
import os
import re

from files import has_line, names_in, read
from runs import Run, Task
from slurm import say

STAMP = re.compile(r"_(\d{8}-\d{6})_(\d+)$")


def stamp_of(folder):
    """Return when a run was submitted, from its name."""
    stamp = STAMP.search(folder)
    return (stamp[1], int(stamp[2])) if stamp else ("", 0)


def runs_in(outputs, slurm):
    return [Run(folder, slurm) for folder in all_folders(outputs)]


def all_folders(outputs):
    """Return the folders of all runs, the newest first."""
    stamps = {f"{outputs}/{name}": stamp_of(name) for name in names_in(outputs)}
    return sorted((folder for folder, stamp in stamps.items() if stamp[0]), key=stamps.get, reverse=True)


class UnknownJobError(Exception):
    """The name is not that of a run in this project."""


def find(word, outputs, slurm):
    """Return (run, task number or None) for a job id, ARRAY_INDEX, run directory, folder of a task, or name."""
    path = os.path.realpath(word)
    if os.path.isfile(os.path.join(path, "facts")):
        return run_at(path, slurm), None
    folder, base = os.path.split(path)
    if base.startswith("task_") and base[5:].isdigit() and os.path.isfile(os.path.join(folder, "facts")):
        return run_at(folder, slurm), int(base[5:])
    runs = runs_in(outputs, slurm)
    if re.fullmatch(r"\d+(_\d+)?", word):
        found = _find_job(word, runs)
        if found:
            return found
    for run in runs:
        if os.path.basename(run.folder) == word or word in (run.facts.get("exp_name"), run.facts.get("job_name")):
            return run, None
    raise UnknownJobError(
        f"{word!r} is neither a job, nor a run directory, nor an experiment of {outputs}; "
        "bash hpc/experiments.sh list shows what there is"
    )


def runs_of(word, outputs, slurm):
    """Return all runs of an experiment, the oldest first, or else the one that `find` finds."""
    if os.path.exists(os.path.join(word, "tasks")):
        return [run_at(word, slurm)]
    names = read(os.path.join(os.path.dirname(outputs), word, "runs")).splitlines()
    found = [Run(os.path.join(outputs, name), slurm) for name in names]
    return [run for run in found if run.lines] or [find(word, outputs, slurm)[0]]


def whole_runs(word, outputs, slurm):
    """Return all runs of an experiment (--exp-name), or else the run that `find` finds, if no other has that name."""
    found, number = find(word, outputs, slurm)
    if number is not None:
        raise UnknownJobError(f"{word} is a task of {found.folder}: name the whole run")
    runs = [found]
    if word == found.facts.get("exp_name"):
        runs = [run for run in runs_in(outputs, slurm) if run.facts.get("exp_name") == word]
    elif word == found.job_name:
        same = sum(run.job_name == word for run in runs_in(outputs, slurm))
        if same > 1:
            raise UnknownJobError(f"{same} runs without --exp-name have the name {word}: give their jobs or folders")
    for run in runs:
        own, name = run.facts.get("run_directory", ""), run.facts.get("exp_name", "")
        if not os.path.isdir(own) or not os.path.samefile(own, run.folder):
            raise UnknownJobError(f"{run.folder} is a copy of {own}, or was moved: remove it yourself, with rm -r")
        if not name or "/" in name or name.startswith("."):
            raise UnknownJobError(f"{run.folder}/facts names no experiment")
    return runs


def the_task(run, number):
    """Return the task with this number, which must have been sent."""
    if number not in run.numbers:
        raise UnknownJobError(f"{run.folder} has no task {number}")
    return Task(run, number)


def run_at(path, slurm):
    """Return the run under the path that its own facts name."""
    path = os.path.abspath(path)
    own = Run(path, slurm).facts.get("run_directory")
    return Run(own if own and os.path.isdir(own) and os.path.samefile(own, path) else path, slurm)


def _find_job(word, runs):
    job, _, index = word.partition("_")
    for run in runs:
        if job not in run.jobs:
            continue
        if index:
            number = run.number_of(job, int(index))
        elif run.is_here:
            others = sum(job in other.jobs for other in runs) - 1
            if others:
                say(f"job {job} has {others} more runs (list); this is the newest, {os.path.basename(run.folder)}")
            return run, None
        elif not run.is_array or job in run.jobs[: len(run.arrays)]:
            return run, None
        else:
            number = next((number for number in run.numbers if run.continues(job, number)), None)
        if number is not None:
            return run, number
    if index:
        return None
    # Only the logs know the job id of an array's single task, or of a job that another continues.
    pattern = rf"^== job {job}, attempt ".encode()
    for run in runs:
        for task in run.tasks:
            if task.attempts and has_line(task.log, pattern):
                return run, task.number
    return None


def matches(name, pattern):
    return fnmatch.fnmatchcase(name, pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*")
