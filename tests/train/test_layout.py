"""Reads from the sources which part of train/ may import which, and where private names of torch are used."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator

import pytest
from runner import REPOSITORY

from train import torch_private

FILES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((REPOSITORY / "train").rglob("*.py"))
}
COMMANDS = {"train.__main__", "train.prepare"}
PRIVATE = "train.torch_private"
UNDOCUMENTED = {"torch.distributed.distributed_c10d", "torch.distributed.nn"}


def imports(tree: ast.AST, package: str = "train.tasks") -> Iterator[str]:
    """Return the full names that a module of the package imports, also in functions: `from a import b` is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def modules(name: str) -> set[str]:
    """Return the modules of train/ that the module imports."""
    found = set()
    package = name if FILES[name].stem == "__init__" else name.rpartition(".")[0]
    for imported in imports(ast.parse(FILES[name].read_text()), package):
        parts = imported.split(".")
        prefixes = [".".join(parts[:count]) for count in range(len(parts), 1, -1)]
        found.update([prefix for prefix in prefixes if prefix in FILES][:1])
    return found


def part(name: str) -> str:
    """Return its part: core, command, data, models or tasks."""
    if name in COMMANDS:
        return "command"
    folder = FILES[name].parent.name
    return "core" if folder == "train" else folder


# Parts of train/, and modules of the core.
MAY_IMPORT = {
    "core": {"core"},
    "data": {"data", "train.environment", "train.files"},
    "models": {"models", "data", "train.config"},
    "tasks": {"tasks", "models", "data", "core"},
    "command": {"tasks", "data", "core"},
}


def test_who_imports_whom() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in FILES
        for other in modules(name)
        if not {part(other), other} & MAY_IMPORT[part(name)]
    ]
    assert wrong == []
    assert {"core", "data", "models", "tasks", "command"} == set(map(part, FILES))
    assert modules("train.loop") >= {"train.checkpoint", "train.task"}  # the graph is not empty
    assert "train.data.tokenizer" in modules("train.models.pretrained")


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: modules(name) - {name} for name in FILES}
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert graph == {}


def private(source: str) -> list[str]:
    """Return the names of torch in a module that begin with an underscore or belong to an undocumented module."""
    tree = ast.parse(source)
    found = list(imports(tree))

    def is_private(name: str) -> bool:
        parts = name.split(".")
        hidden = any(re.match("_[^_]", word) for word in parts)
        return parts[0] == "torch" and (hidden or any(f"{name}.".startswith(f"{one}.") for one in UNDOCUMENTED))

    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            bound.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for node in ast.walk(tree):
        words, base = [], node
        while isinstance(base, ast.Attribute):
            words.insert(0, base.attr)
            base = base.value
        if words and isinstance(base, ast.Name):
            found.append(".".join([bound.get(base.id, base.id), *words]))
        elif isinstance(node, ast.Constant) and re.fullmatch(r"torch(\.\w+)+", str(node.value)):
            found.append(node.value)
    return [name for name in found if is_private(name)]


def test_private_names_of_torch_stand_in_one_file() -> None:
    told = {name: private(path.read_text()) for name, path in FILES.items()}
    assert told.pop(PRIVATE)
    assert {name: names for name, names in told.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch._foreach_add_(a, b)",
        "import torch._dynamo",
        "from torch.distributed.algorithms._checkpoint import checkpoint_wrapper",
        "from torch.distributed.checkpoint.state_dict import _get_fqns",
        "import torch.distributed as dist\ndist.distributed_c10d.get_rank()",
        "def f():\n    from torch.distributed.distributed_c10d import Store",
        "from torch.distributed.checkpoint import state_dict as other\nother._get_fqns(m, n)",
        'import importlib\nimportlib.import_module("torch._dynamo")',
        "import torch.distributed.nn.functional",
    ],
)
def test_a_private_name_is_found(source: str) -> None:
    assert private(source)


def test_a_public_one_is_none() -> None:
    assert not private("import torch\nfrom torch import nn\nnn.Module.__init__(self)\nself._torch\ntorch.nn.Linear")


def test_a_torch_without_such_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the missing name and what needs it; the modules are imported nevertheless."""
    module = importlib.import_module("torch.distributed.distributed_c10d")
    monkeypatch.delattr(module, "_get_default_store")
    with pytest.raises(torch_private.PrivateNameError, match=r"_get_default_store, which a run of several ranks needs"):
        torch_private.default_store()
