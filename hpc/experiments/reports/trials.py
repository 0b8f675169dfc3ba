"""Collects the tasks of an experiment, each over all runs that have it."""

import functools
import re
from dataclasses import dataclass, field

from finding import stamp_of
from measured import result_of
from runs import Task


@dataclass
class Trial:
    """One line, seed or point of an experiment.

    The newest run counts, and the runs from whose checkpoints it continues. Older runs are only mentioned.
    """

    name: str
    tasks: list = field(default_factory=list)
    replaced: list = field(default_factory=list)  # tasks of runs before the last --fresh

    def add(self, task):
        """Add the task of a newer run, unless that run did not send it or was cancelled before it began."""
        never_began = not task.attempts and (task.state == "cancelled" or not task.was_sent)
        if self.tasks and never_began and task.state in ("enqueued", "cancelled"):
            return
        if task.run.is_fresh:
            self.replaced, self.tasks = self.replaced + self.tasks, []
        self.tasks.append(task)

    @property
    def task(self):
        """The task whose state and result count."""
        return self.tasks[-1]

    @property
    def older(self):
        """Tasks whose state or result does not count."""
        return self.replaced + [task for task in self.tasks[:-1] if task.state == "completed"]

    @property
    def what(self):
        return self.task.run.lines[self.task.number][1]

    @property
    def command(self):
        return re.sub(r"^seed \d+: ", "", self.what)

    @property
    def seed(self):
        found = re.match(r"seed \d+", self.what)
        return found[0] if found else ""

    @property
    def state(self):
        return self.task.state

    @functools.cached_property
    def result(self):
        return result_of(self.task.output) if self.state == "completed" else None

    @property
    def attempts(self):
        return attempts_of(self.tasks)

    @property
    def older_attempts(self):
        return attempts_of(self.replaced)


def attempts_of(tasks):
    """Return the attempts of the tasks, without those that failed during their start."""
    return [attempt for task in tasks for attempt in task.attempts if attempt.began is not None]


def read_experiments(runs):
    """Return experiment -> its trials by name."""
    experiments = {}
    by_folder = {run.folder: run for run in runs}
    for folder in sorted(by_folder, key=stamp_of):
        run = by_folder[folder]
        trials = experiments.setdefault(run.facts.get("exp_name", ""), {})
        for number, (name, _) in run.lines.items():
            trials.setdefault(name, Trial(name)).add(Task(run, number))
    return experiments
