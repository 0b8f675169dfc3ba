"""Notes which training framework this rank uses, and which process group of torch it joins, in the file RANK_RECORD.

Python imports this at its start, as rank.sh puts the folder first into PYTHONPATH. After it, the sitecustomize that the
site or the environment has is imported as usual. Lines of the file (read by meeting.py):

    uses NAME                       the framework
    group SIZE RANK MEETING_POINT   it has joined a group of several
"""

import os
import sys

# A module that is imported only with the framework: programs look for the framework itself without importing it.
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


def note(line):
    try:
        file = os.open(os.environ["RANK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(file, (line.replace("\n", " ") + "\n").encode("utf-8", "surrogateescape"))
        os.close(file)
    except (OSError, KeyError):
        pass  # a full disk is nothing for a program to fail by


def meeting_point(arguments, named):
    """Where the ranks of the group meet; two groups on two nodes may both meet at localhost."""
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
    """By init_rpc(name, backend, rank, world_size, rpc_backend_options), else by the environment, as torch does."""
    rank, size = (*arguments[2:4], None, None)[:2]
    rank, size = named.get("rank", rank), named.get("world_size", size)
    return int(size or os.environ["WORLD_SIZE"]), int(os.environ["RANK"] if rank is None else rank), "-"


# Of torch: what joins a group, and how its size, the rank in it and the meeting point are found.
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
        except Exception:  # noqa: BLE001, S110 # whatever another version of torch does: the program goes on
            pass
        return found

    setattr(module, name, join)


class Finder:
    """Watches imports. It finds only the modules in JOINING, by Python's own finder."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in FRAMEWORKS:
            note("uses " + FRAMEWORKS.pop(name))
        elif name in JOINING:
            from importlib.machinery import PathFinder

            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                load = spec.loader.exec_module

                def exec_module(module):
                    load(module)
                    wrap(module)

                spec.loader.exec_module = exec_module
            return spec
        return None


def import_next():
    """The sitecustomize that stands behind this one."""
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


if "RANK_RECORD" in os.environ:
    sys.meta_path.insert(0, Finder)
import_next()
