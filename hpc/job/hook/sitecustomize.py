"""Lets torch start and end faster, and records the framework that this rank uses and the groups of torch that it joins.

Python imports this at its start, because rank.sh puts the folder first into PYTHONPATH. The sitecustomize of the site
or of the environment is then imported as usual. Lines of the file RANK_RECORD, if it is set (read by meeting.py):

    uses NAME                       the framework
    group SIZE RANK MEETING_POINT   it has joined a group of several ranks
"""

import os
import sys

# For each framework, a module that is imported only with it: programs may look for the framework without using it.
FRAMEWORKS = {
    "torch.nn": "torch",
    "tensorflow.python": "tensorflow",
    "jax._src": "jax",
    "paddle.base": "paddle",
    "mxnet.base": "mxnet",
    "xgboost.core": "xgboost",
    "lightgbm.basic": "lightgbm",
    "sklearn.base": "sklearn",
}


# Packages of more than 500 modules: the garbage collections during their import find almost nothing.
LARGE = {"torch", "torch.distributed.checkpoint", "torch._dynamo"}


def note(line):
    try:
        file = os.open(os.environ["RANK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(file, (line.replace("\n", " ") + "\n").encode("utf-8", "surrogateescape"))
        os.close(file)
    except (OSError, KeyError):
        pass  # a full disk must never fail the program


def meeting_point(arguments, named):
    """Where the ranks of the group meet, with the node if it is local: groups on two nodes may both use localhost."""
    method = named.get("init_method") or (arguments[1] if len(arguments) > 1 else None)
    if named.get("store") is not None:
        return "-"
    if method in (None, "env://"):
        method = "%s:%s" % (os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT"))
    method = method.split("?")[0].replace("tcp://", "")
    return method if "/" in method else "%s on %s" % (method, os.uname()[1]) if is_own(method) else method


def is_own(point):
    return point.startswith(("localhost", "127.", "[::1]"))


def of_group(module, arguments, named):
    return module.get_world_size(), module.get_rank(), meeting_point(arguments, named)


def of_calls(_, arguments, named):
    """From init_rpc(name, backend, rank, world_size, rpc_backend_options), else from the environment, as torch does."""
    rank, size = (*arguments[2:4], None, None)[:2]
    rank, size = named.get("rank", rank), named.get("world_size", size)
    return int(size or os.environ["WORLD_SIZE"]), int(os.environ["RANK"] if rank is None else rank), "-"


# For torch: the functions that join a group, and how to find the group's size, the rank in it and the meeting point.
JOINING = {
    "torch.distributed.distributed_c10d": ("init_process_group", of_group),
    "torch.distributed.rpc": ("init_rpc", of_calls),
}


def wrap(module):
    import functools

    name, find = JOINING[module.__name__]
    original = getattr(module, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def join(*arguments, **named):
        found = original(*arguments, **named)
        try:
            size, rank, point = find(module, arguments, named)
            if size > 1:
                note("group %d %d %s" % (size, rank, point))
        except Exception:  # noqa: BLE001, S110 # another version of torch must never fail the program
            pass
        return found

    setattr(module, name, join)


def load_uncollected(module):
    """Load a large package without garbage collection, which takes up to a seventh of that time."""
    import gc

    collects = gc.isenabled()
    gc.disable()
    try:
        module.__spec__.loader.exec_module(module)
    finally:
        if collects:
            gc.enable()
    if module.__name__ == "torch" and hasattr(gc, "freeze"):  # before there are objects of the program
        gc.freeze()  # later collections skip the modules; those at Python's end would take a second


def load_and_wrap(module):
    module.__spec__.loader.exec_module(module)
    wrap(module)


class Finder:
    """Watches imports. It handles only those in LARGE and JOINING, with Python's own finder."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in FRAMEWORKS:
            note("uses " + FRAMEWORKS.pop(name))
        elif name in LARGE or name in JOINING:
            from importlib.machinery import PathFinder

            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and hasattr(spec.loader, "exec_module"):

                def exec_module(module):
                    del spec.loader.exec_module  # what remains is the method of its class
                    (load_uncollected if name in LARGE else load_and_wrap)(module)

                spec.loader.exec_module = exec_module
            return spec
        return None


def import_next():
    """Imports the sitecustomize that comes after this one in sys.path."""
    own = sys.modules.pop("sitecustomize")
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", own)


sys.meta_path.insert(0, Finder)
import_next()
