#!/usr/bin/env python3
"""Tells from its imports and calls whether a program supports several processes. For adopt.sh; never runs the program.

program.py PROJECT PACKAGE WORD...   PACKAGE: the kit's own; WORDs: the line that runs the program

Prints the options to propose for job_submitter.sh, and the reason on a second line; nothing if no program is found. It
also reads the project's modules that the program imports. Standard library only, Python 3.6.
"""

import ast
import os
import sys

MOST_FILES = 300
# Name that is called or imported -> its name in the reason. Attributes count by the last name: dist.init_process_group.
CALLS = {
    "init_process_group": "init_process_group()",
    "init_device_mesh": "init_device_mesh()",
    "DistributedDataParallel": "DistributedDataParallel",
    "FullyShardedDataParallel": "FSDP",
    "fully_shard": "fully_shard()",
    "init_distributed": "init_distributed()",
}
PACKAGES = {"accelerate": "accelerate", "deepspeed": "deepspeed", "horovod": "horovod", "mpi4py": "mpi4py"}
KITS = ("data_parallel", "process_group")  # of the package's module distributed; torch has another data_parallel
LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")
TRANSFORMERS = ("Trainer", "Seq2SeqTrainer", "SFTTrainer", "DPOTrainer", "GRPOTrainer")  # start a process group


def names(tree):
    """Return (modules imported, calls: last name -> keywords)."""
    modules, calls = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules |= {base} | {(base + "." if base else "") + alias.name for alias in node.names}
            for alias in node.names:  # the import may rename it
                if alias.name in CALLS:
                    calls.setdefault(alias.name, [])
        elif isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", None) or getattr(function, "id", None)
            calls.setdefault(name, []).extend(keyword.arg for keyword in node.keywords)
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                modules.add("%s.%s" % (function.value.id, name))  # transformers.Trainer(…)
    return modules, calls


def main_file(project, words):
    """Return the path of the line's program: a file or a module of the project."""
    for before, word in zip(["", *words], words):
        path = os.path.join(project, word)
        if word.endswith(".py") and os.path.isfile(path):
            return path
        if before == "-m":
            for end in (".py", "/__main__.py"):
                path = os.path.join(project, word.replace(".", "/") + end)
                if os.path.isfile(path):
                    return path
    return None


def look(project, package, first):
    """Return the modules and calls of the program and its imports from the project; None if it cannot be parsed.

    The kit's own package is skipped: it supports several processes, but a program that uses its other parts need not.
    """
    todo, seen, modules, calls = [first], set(), set(), {}
    while todo and len(seen) < MOST_FILES:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read())
        except (OSError, SyntaxError, ValueError):
            if path == first:
                return None
            continue
        theirs, called = names(tree)
        modules |= theirs
        for name, keywords in called.items():
            calls.setdefault(name, set()).update(keywords)
        for module in theirs:
            if module.split(".")[0] == package:
                continue
            for base in (project, os.path.dirname(path)):
                inner = os.path.join(base, *module.split("."))
                todo += [one for one in (inner + ".py", os.path.join(inner, "__init__.py")) if os.path.isfile(one)]
    return modules, calls


def propose(modules, calls, package):
    """Return (options, reason)."""
    tops = {module.split(".")[0] for module in modules}
    several = "--gpus 2 --num-nodes 2"
    for name in ("Fabric", "Trainer") if tops & set(LIGHTNING) else ():
        if name not in calls:
            continue
        if "num_nodes" in calls[name] or None in calls[name]:
            return several + " -W lightning", "it has a %s of Lightning with num_nodes: -W lightning" % name
        return (
            "--gpus 1",
            "its %s of Lightning has no num_nodes, so several nodes would each train alone: one process is "
            "proposed; for more give it num_nodes and devices, and -W lightning" % name,
        )
    found = [what for name, what in CALLS.items() if name in calls]
    found += [what for name, what in PACKAGES.items() if name in tops]
    # Check the module as well: the project may have its own class of that name.
    found += [name for name in TRANSFORMERS if modules & {"transformers." + name, "trl." + name}]
    if package + ".distributed" in modules:
        found += [name + "()" for name in KITS if name in calls]
    if found:
        return several, "it knows of several processes (%s)" % ", ".join(sorted(set(found)))
    return (
        "--gpus 1",
        "no sign that it knows of several processes was found (init_process_group, DDP, FSDP, accelerate, deepspeed, "
        "Lightning's num_nodes): with more than one each would train alone, so one is proposed",
    )


def main(project, package, *words):
    first = main_file(project, words)
    found = first and look(project, package, first)
    if not found:
        return 0
    options, reason = propose(*found, package=package)
    print("%s\n%s: %s" % (options, os.path.relpath(first, project), reason))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
