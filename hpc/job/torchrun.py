"""A faster torchrun with the arguments of torch.distributed.run. node.sh starts it.

Nearly all of torchrun's start is its import of torch. Two parts of that are needed only by processes that compute: the
garbage collector, which finds nothing during the import, and the modules in UNUSED. Each of these is imported when it
is needed. The ranks are separate processes, and import torch as always. If torch cannot be imported in this way,
`python -m torch.distributed.run` replaces this process.

It also leaves out 40 to 90 lines of C++ and Python stacks that torch prints after a success: see `leave_store`.
"""

import gc
import importlib
import logging
import os
import sys
import types

UNUSED = (
    "torch._meta_registrations",  # operators on tensors without data
    "torch.distributions",
    "torch.export",
    "torch.masked",
    "torch.nn.intrinsic",
    "torch.quantization",
)


class Postponed(types.ModuleType):
    """A module that is imported when it is first asked for a name; importlib's LazyLoader loads at a second import."""

    def __getattr__(self, name):
        if name.startswith("__") and name != "__path__":  # asked by code that inspects all modules
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def import_run():
    """The module torch.distributed.run."""
    gc.disable()
    sys.modules.update((name, Postponed(name)) for name in UNUSED)
    run = importlib.import_module("torch.distributed.run")
    gc.enable()
    gc.freeze()  # the modules are never freed
    store = importlib.import_module("torch.distributed.elastic.utils.store")
    store.barrier = leave_store(store.barrier, importlib.import_module("torch.distributed").DistNetworkError)
    logging.setLogRecordFactory(formatted_record)
    return run


def leave_store(barrier, lost):
    """Return the barrier of agents at their end, silent if the connection to the store is `lost`.

    An agent waits there only after all its ranks have succeeded. The store is in the agent of the first node, which may
    end first. Other messages are printed when the barrier is over.
    """

    def wait(*arguments, **named):
        stderr, said = os.dup(2), os.memfd_create("stderr")
        os.dup2(said, 2)
        try:
            barrier(*arguments, **named)
        except lost:
            os.ftruncate(said, 0)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            with open(said, "rb") as file:
                file.seek(0)
                os.write(2, file.read())

    return wait


def formatted_record(*arguments, **named):
    """A record whose exception is formatted: torch's formatter imports torch._dynamo, which fails after import_run."""
    record = logging.LogRecord(*arguments, **named)
    if record.exc_info:
        record.exc_text, record.exc_info = logging.Formatter().formatException(record.exc_info), None
    return record


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()  # as with python -m, instead of this file's folder
    try:
        main = import_run().main
    except Exception:  # noqa: BLE001 (whatever torch raises)
        os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *sys.argv[1:]])  # noqa: S606
    main()
