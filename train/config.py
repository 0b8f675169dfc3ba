"""Command-line flags, derived from the fields of a task's Config."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import textwrap
import typing
from typing import NoReturn, TypeVar

ConfigType = TypeVar("ConfigType")


class _Parser(argparse.ArgumentParser):
    """Tells errors in one line, for each rank prints its own."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parse(config_class: type[ConfigType], arguments: list[str], program: str) -> ConfigType:
    """A Config from flags: each field's name, type, default and docstring become those of a flag.

    Fields are of type int, float, str, Path, Optional of one of these, or Literal for a choice of strings.
    The class checks its values in `__post_init__` by ValueError.

    Raises:
        SystemExit: 2 after one line about a bad argument, 0 after --help.
    """
    parser = _Parser(program, allow_abbrev=False)
    types, docstrings = typing.get_type_hints(config_class), _field_docstrings(config_class)
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        kind, choices = types[field.name], None
        if typing.get_origin(kind) is typing.Literal:
            kind, choices = str, typing.get_args(kind)
        elif typing.get_origin(kind) is typing.Union:
            kind = typing.get_args(kind)[0]
        text = docstrings.get(field.name, "") + ("" if field.default is None else f" Default: {field.default}.")
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=kind, choices=choices, default=field.default, help=text.replace("%", "%%"))
    values = vars(parser.parse_args(arguments))
    try:
        return config_class(**values)
    except ValueError as error:
        parser.error(str(error))


def _field_docstrings(config_class: type) -> dict[str, str]:
    """The string literal under each field, which Python itself does not keep."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body[0]
    statements = typing.cast(ast.ClassDef, definition).body
    docstrings = {}
    for field, below in zip(statements, statements[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            docstrings[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return docstrings
