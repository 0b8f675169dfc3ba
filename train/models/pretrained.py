"""Models of the transformers library: found in a local folder, never on a hub.

Imported where they are needed: the kit itself does without.
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

from torch import nn

PACKAGES = {"transformers": "transformers", "peft": "transformers peft", "scipy": "transformers scipy"}


def library(name: str) -> Any:  # noqa: ANN401  (a module)
    """The module `name`, told to ask no hub for anything.

    Raises:
        ImportError: it is not installed. Says how to.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this task needs {name}: pip install {PACKAGES[name]} ({error})") from error
    if name == "transformers":
        # Their bars and advice would stand between the lines of the training.
        module.logging.set_verbosity_error()
        module.logging.disable_progress_bar()
        # What peft asks transformers by a name that is going out of use.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing. is deprecated", FutureWarning)
    return module


def load(kind: str, folder: Path, **settings: Any) -> nn.Module:  # noqa: ANN401  (as transformers takes them)
    """The model in `folder`, as save_pretrained leaves one, by the class `kind` of transformers, in float32.

    Parts that the folder has not, as a new head, get the weights that the seed gives.

    Raises:
        FileNotFoundError: there is no model in `folder`.
    """
    check(folder)
    model: nn.Module = getattr(library("transformers"), kind).from_pretrained(folder, local_files_only=True, **settings)
    return model.float()


def check(folder: Path) -> None:
    """Raises ValueError, unless `folder` holds a model."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"--model-dir {folder}: no config.json there: give a folder that save_pretrained has written")
