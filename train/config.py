"""The settings of a task: a frozen dataclass whose fields become flags and keys of a YAML file (`--config`)."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import math
import os
import textwrap
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Optional, TypeVar

from .environment import KEYWORD_ONLY

ConfigType = TypeVar("ConfigType")


class ConfigValueError(ValueError):
    """A value of a file or a sweep is invalid. The message names the source, the key and the value."""


# Optional[…] instead of … | None: Python 3.9 also evaluates these annotations at run time.
@dataclass(frozen=True, **KEYWORD_ONLY)
class TrainingConfig:
    """The settings of all tasks. The Config of a task adds fields and changes defaults."""

    epochs: int = 10
    """Passes over the training data."""
    batch_size: int = 64
    """Samples per optimizer step, of all ranks together; rounded up to a multiple of the number of ranks."""
    test_batch_size: int = 512
    """Samples that a rank evaluates at once."""
    learning_rate: float = 1e-3
    """Learning rate at the start, or after the warm-up if the task has one."""
    gradient_accumulation: int = 1
    """Parts in which a rank computes its share of a batch, one after the other. Saves memory; the step is the same."""
    clip_gradients: float = 0.0
    """Maximum norm of all gradients together; 0 disables clipping."""
    parallelism: Literal["ddp", "fsdp"] = "ddp"
    """ddp: each rank has the whole model; fsdp: the parameters are sharded over the ranks (FSDP2)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation. The weights that the optimizer updates stay in float32."""
    shard_above: int = 1_000_000
    """With fsdp: a part of the model with at least this many parameters is gathered by itself."""
    checkpoint_activations: bool = False
    """Recompute the activations of a block in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """Compile the model with torch.compile: faster steps, but the start takes minutes."""
    seed: int = 0
    """Seed of the initial weights (same on all ranks), the data's order, and each rank's random numbers (different)."""
    workers: int = 0
    """Processes of each rank that load data; 0: the training process loads them."""
    dry_run: bool = False
    """Do one optimizer step and evaluate one batch, to test the set-up; nothing is saved."""
    save_minutes: float = 15.0
    """Minutes between checkpoints; 0: none by time. An interruption always saves one."""
    save_every: int = 0
    """Optimizer steps between additional checkpoints; 0: none."""
    log_every: int = 0
    """Print the loss every N optimizer steps; 0: print epochs only."""
    data_dir: Optional[Path] = None  # noqa: UP045
    """Folder of the data set. Default: datasets/NAME in the project's scratch folder."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto uses a GPU if there is one."""
    cpu: bool = False
    """The same as --device cpu."""
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """Back-end of collectives on the device; auto uses nccl on CUDA devices and gloo elsewhere."""
    no_wandb: bool = False
    """Do not log to Weights & Biases. Without a key, nothing is logged there anyway."""
    wandb_project: Optional[str] = None  # noqa: UP045
    """Default: WANDB_PROJECT, else the project's name."""
    wandb_group: Optional[str] = None  # noqa: UP045
    """Default: the experiment's name."""
    wandb_all_processes: bool = False
    """Create a W&B run for each rank, in one group, instead of one for rank 0."""
    sweep: bool = False
    """Create the W&B sweep of --sweep-config and run its trials in this job, one after the other."""
    sweep_config: Optional[Path] = None  # noqa: UP045
    """YAML file of the sweep, in W&B's format. hpc/sweep.sh runs a sweep as many jobs."""
    tensorboard: bool = False
    """Write event files for TensorBoard to the output folder."""
    rate_per_hour: float = 0.0
    """Price of one hour of everything the run uses, to print the cost in the last line; 0: print none."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "test_batch_size", "gradient_accumulation"):
            self.check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("save_minutes", "save_every", "log_every", "workers", "clip_gradients", "rate_per_hour"):
            self.check(name, 0 <= getattr(self, name) < math.inf, "at least 0")
        self.check("shard_above", self.shard_above >= 0, "at least 0")
        self.check("learning_rate", 0 < self.learning_rate < math.inf, "above 0 and finite")
        self.check("seed", 0 <= self.seed < 2**64, f"from 0 to {2**64 - 1}")
        if self.sweep != (self.sweep_config is not None):
            raise ValueError("--sweep and --sweep-config FILE go together: give both, or none")
        if self.cpu and self.device not in ("auto", "cpu"):
            raise ValueError(f"--cpu and --device {self.device} contradict each other: give one of them")

    def check(self, name: str, sound: bool, what: str) -> None:
        """Raises ValueError, unless `sound`: the flag of field `name` must be `what`."""
        if not sound:
            raise ValueError(f"{flag(name)} must be {what}, not {getattr(self, name)}")


class _Parser(argparse.ArgumentParser):
    """Prints an error in one line, because each rank prints its own."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def flag(name: str) -> str:
    """The flag of the field `name`."""
    return "--" + name.replace("_", "-")


def parse(config_class: type[ConfigType], arguments: list[str], program: str) -> ConfigType:
    """Parse flags into a Config: each field's name, type, default and docstring become those of a flag.

    Fields are of type int, float, str, Path, Optional of one of these, bool (a flag without a value), or Literal for
    a choice of strings. The class checks its values in `__post_init__` and raises ValueError. `--config FILE` reads
    values from YAML; flags override them. A flag may contain underscores, as W&B's agent writes it (`--batch_size=8`).

    Raises:
        SystemExit: with 2 after one line about an invalid argument, with 0 after --help.
    """
    parser = _Parser(program, allow_abbrev=False)
    parser.add_argument("--config", type=Path, help="YAML file of values, named as the flags. Flags override it.")
    types, docstrings = typing.get_type_hints(config_class), _field_docstrings(config_class)
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        kind, choices = _kind(types[field.name])
        # The namespace has only given flags, so that the file's values come between them and the defaults.
        options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
        default = field.default
        text = docstrings.get(field.name, "") + ("" if default in (None, False) else f" Default: {default}.")
        options["help"] = text.replace("%", "%%")
        if kind is bool:
            # The agent of a sweep writes booleans as `--flag=true`.
            parser.add_argument(flag(field.name), nargs="?", const=True, type=_boolean, metavar="true|false", **options)
        else:
            parser.add_argument(flag(field.name), type=kind, choices=choices, **options)
    given = vars(parser.parse_args([_hyphened(argument) for argument in arguments]))
    file = given.pop("config")
    try:
        values = {**(_read(file, config_class) if file else {}), **given}
        return config_class(**values)
    except ValueError as error:
        parser.error(str(error))


def _kind(annotation: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The type of a field's value, and its choices or None."""
    if typing.get_origin(annotation) is typing.Literal:
        return str, typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)[0], None
    return annotation, None


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"neither true nor false: {text!r}")
    return text.lower() == "true"


def _hyphened(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def updated(config: ConfigType, values: Mapping[str, Any], source: str) -> ConfigType:
    """Return `config` with other values, by names of fields or flags. `source` names their origin in messages.

    Raises:
        ConfigValueError: a name is unknown, or a value has another type.
        ValueError: the class refuses a value.
    """
    return dataclasses.replace(config, **_checked(values, type(config), source))  # type: ignore[type-var]


def _read(path: Path, config_class: type) -> dict[str, Any]:
    """The values of a YAML file.

    Raises:
        ConfigValueError: the file cannot be read, or has an unknown key or a value of another type.
    """
    import yaml

    source = f"--config {path}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigValueError(f"{source}: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigValueError(f"{source}: a mapping of names to values is needed, not a {type(content).__name__}")
    return _checked(content, config_class, source)


def _checked(content: Mapping[Any, Any], config_class: type, source: str) -> dict[str, Any]:
    names, types = [field.name for field in dataclasses.fields(config_class)], typing.get_type_hints(config_class)
    values = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigValueError(f"{source}: unknown key {key!r}" + (f": {near[0]!r}?" if near else ""))
        values[name] = _converted(f"{source}: {key}", value, types[name])
    return values


def _converted(what: str, value: object, annotation: Any) -> object:  # noqa: ANN401
    kind, choices = _kind(annotation)
    if value is None and type(None) in typing.get_args(annotation):
        return None
    # YAML reads 1e-3 as a string (only 1.0e-3 is a number there), so floats may be strings.
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, (int, float, str)) and not isinstance(value, bool),
    }.get(kind, isinstance(value, (str, os.PathLike)))
    try:
        if not fits or (choices and value not in choices):
            raise ValueError
        return kind(value)
    except ValueError:
        wanted = f"one of {', '.join(choices)}" if choices else f"of type {kind.__name__}"
        raise ConfigValueError(f"{what} must be {wanted}, not {value!r}") from None


def _field_docstrings(config_class: type) -> dict[str, str]:
    """The string literal below each field, which Python itself does not keep."""
    docstrings = {}
    for parent in reversed(config_class.__mro__[:-1]):
        definition = ast.parse(textwrap.dedent(inspect.getsource(parent))).body[0]
        statements = typing.cast(ast.ClassDef, definition).body
        for field, below in zip(statements, statements[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                docstrings[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return docstrings
