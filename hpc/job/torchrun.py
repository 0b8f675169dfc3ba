"""A faster torchrun with the arguments of torch.distributed.run. node.sh starts it.

Nearly all of torchrun's start is its import of torch. Two parts of that are needed only by processes that compute: the
garbage collector, which finds nothing during the import, and torch._meta_registrations, which describes operators on
tensors without data. It is imported when a program needs it. The ranks are separate processes, and import torch as
always. If torch cannot be imported in this way, `python -m torch.distributed.run` replaces this process.
"""

import gc
import importlib
import os
import sys
import types


class Postponed(types.ModuleType):
    """A module that is imported when it is first asked for a name; importlib's LazyLoader loads at a second import."""

    def __getattr__(self, name):
        if name.startswith("__"):  # asked by code that inspects all modules
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def import_run():
    """The module torch.distributed.run."""
    gc.disable()
    sys.modules["torch._meta_registrations"] = Postponed("torch._meta_registrations")
    run = importlib.import_module("torch.distributed.run")
    gc.enable()
    gc.freeze()  # the modules are never freed
    return run


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()  # as with python -m, instead of this file's folder
    try:
        main = import_run().main
    except Exception:  # noqa: BLE001 (whatever torch raises)
        os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *sys.argv[1:]])  # noqa: S606
    main()
