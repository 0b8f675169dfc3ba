"""The tasks of an experiment, each over all the runs that have it."""

import functools
import re
from dataclasses import dataclass, field

from finding import stamp_of
from measured import result_of
from runs import Task


@dataclass
class Trial:
    """One line, seed or point of an experiment.

    The newest run counts, and the runs from whose checkpoints it goes on. What is older is only named.
    """

    name: str
    tasks: list = field(default_factory=list)
    replaced: list = field(default_factory=list)  # of runs before the one that began anew

    def add(self, task):
        """Of a newer run; one that did not send the task, or was cancelled before it began, leaves the older one."""
        never_began = not task.attempts and (task.state == "cancelled" or not task.was_sent)
        if self.tasks and never_began and task.state in ("enqueued", "cancelled"):
            return
        if task.run.begins_anew:
            self.replaced, self.tasks = self.replaced + self.tasks, []
        self.tasks.append(task)

    @property
    def task(self):
        """The one whose state and result count."""
        return self.tasks[-1]

    @property
    def older(self):
        """Tasks with a state or result of their own that does not count."""
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
    """Without those that broke off as they began."""
    return [attempt for task in tasks for attempt in task.attempts if attempt.began is not None]


def read_experiments(runs):
    """Experiment -> its trials by their names."""
    experiments = {}
    by_folder = {run.folder: run for run in runs}
    for folder in sorted(by_folder, key=stamp_of):
        run = by_folder[folder]
        trials = experiments.setdefault(run.facts.get("exp_name", ""), {})
        for number, (name, _) in run.lines.items():
            trials.setdefault(name, Trial(name)).add(Task(run, number))
    return experiments
