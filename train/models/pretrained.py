"""Models of the transformers library, and their tokenizers: found in a local folder, never on a hub.

Imported where they are needed: the kit itself does without.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from ..data.tokenizer import Tokenizer, Words

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


class PretrainedTokenizer:
    """The tokenizer that a model was trained with."""

    def __init__(self, folder: Path) -> None:
        """Read it from the model's folder.

        Raises:
            ImportError: transformers is not installed.
            OSError, ValueError: there is no tokenizer in `folder`.
        """
        check(folder)
        self.tokenizer = library("transformers").AutoTokenizer.from_pretrained(folder, local_files_only=True)
        bos, eos, pad = (getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
        self.size = len(self.tokenizer)
        # Llama's has no token to pad with. Which one it is does not matter, as it is masked.
        self.pad = next((token for token in (pad, eos) if token is not None), 0)
        self.begin, self.end = ([] if token is None else [token] for token in (bos, eos))

    def pieces(self, text: str) -> list[int]:
        numbers: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return numbers

    def encode(self, text: str, limit: int) -> list[int]:
        numbers: list[int] = self.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return numbers


def tokenizer(folder: Path | None, texts: Iterable[str], size: int) -> Tokenizer:
    """The one in `folder`; without a folder, `size` words of `texts`."""
    return Words(texts, size) if folder is None else PretrainedTokenizer(folder)
