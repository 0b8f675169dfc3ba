#!/usr/bin/env python3
"""Whether a program knows of several processes, by its imports and calls. Called by adopt.sh; never runs it.

program.py PROJECT PACKAGE WORD...   PACKAGE: the kit's own; WORD: of the line that runs the program

Prints the options to propose to job_submitter.sh, and on a second line why; nothing where no program is found. Standard
library only, Python 3.6. The modules of the project that it imports are looked into, too.
"""

import ast
import os
import sys

MOST_FILES = 300
# What is called or imported -> what it is. Attributes by their last names: dist.init_process_group, Fabric.launch.
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
TRANSFORMERS = ("Trainer", "Seq2SeqTrainer", "SFTTrainer", "DPOTrainer", "GRPOTrainer")  # start a group by themselves


def names(tree):
    """(modules imported, calls: last name -> keywords)."""
    modules, calls = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules |= {base} | {(base + "." if base else "") + alias.name for alias in node.names}
            for alias in node.names:  # it may be called by another name
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
    """The program of the line: a file of the project, or a module of it."""
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
    """Modules and calls of the program and of all that it imports from the project; None where it cannot be parsed.

    Not of the kit's own package: it knows of several processes, and a program that uses another part of it need not.
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
    """(options, reason)."""
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
    # A class of that name may be the project's own.
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
