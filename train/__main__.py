"""`python -m train [TASK] [FLAGS]`: trains a task, by default the digits. Flags: `python -m train TASK --help`.

Started by torchrun or srun on every rank, or by hand as the only one. Exit status: 0 finished, 1 failed,
2 bad arguments.
"""

from __future__ import annotations

import functools
import gc
import importlib
import pkgutil
import sys

if __name__ == "__main__":
    gc.disable()  # Imports make no garbage, and collection takes a seventh of their time. loop.py enables it again.

from . import loop, tasks
from .config import parse
from .distributed import DeviceError, choose_device, process_group
from .environment import JobEnvironment, JobEnvironmentError
from .trials import sweep

PACKAGE = loop.__name__.partition(".")[0]  # train, or the name that adopt.sh gave it


def main(arguments: list[str]) -> int:
    """Run one task on this rank and return the exit status."""
    if not arguments or arguments[0].startswith("-"):
        arguments = ["digits", *arguments]
    task, *flags = arguments
    names = [module.name for module in pkgutil.iter_modules(tasks.__path__)]
    if task not in names:
        print(f"python -m {PACKAGE}: no task {task!r}; the tasks are: {', '.join(names)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"{tasks.__name__}.{task}")
    config = parse(module.Config, flags, f"python -m {PACKAGE} {task}")
    try:
        environment = JobEnvironment.from_environment()
        device = choose_device("cpu" if config.cpu else config.device, environment)
    except (JobEnvironmentError, DeviceError) as error:
        print(f"python -m {PACKAGE}: {error}", file=sys.stderr)
        return 1
    # A task that consists of several trainings defines its own run().
    run = getattr(module, "run", None) or functools.partial(loop.run, module.Task)
    with process_group(environment, device, backend=config.backend):
        if config.sweep:
            return sweep(run, config, environment, device)
        status: int = run(config, environment, device)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
