"""Models and tokenizers of the transformers library, from a local folder, never from a hub.

The library is imported only when a task needs it; the kit does not depend on it.
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
    """Import the module `name` in offline mode.

    Raises:
        ImportError: it is not installed. The message says how to install it.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this task needs {name}: pip install {PACKAGES[name]} ({error})") from error
    if name == "transformers":
        # Progress bars and advice would disturb the training's output.
        module.logging.set_verbosity_error()
        module.logging.disable_progress_bar()
        # peft uses a deprecated name of transformers.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing. is deprecated", FutureWarning)
    return module


def load(kind: str, folder: Path, **settings: Any) -> nn.Module:  # noqa: ANN401  (as transformers takes them)
    """Load the model in `folder`, as save_pretrained writes it, with the class `kind` of transformers, in float32.

    Parts that are not in the folder, such as a new head, get random weights from the seed.

    Raises:
        FileNotFoundError: there is no model in `folder`.
    """
    check(folder)
    model: nn.Module = getattr(library("transformers"), kind).from_pretrained(folder, local_files_only=True, **settings)
    return model.float()


def check(folder: Path) -> None:
    """Raise ValueError unless `folder` contains a model."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"--model-dir {folder}: no config.json there: give a folder that save_pretrained has written")


class PretrainedTokenizer:
    """The tokenizer of a pretrained model."""

    def __init__(self, folder: Path) -> None:
        """Load it from the folder of the model.

        Raises:
            ImportError: transformers is not installed.
            OSError, ValueError: there is no tokenizer in `folder`.
        """
        check(folder)
        self.tokenizer = library("transformers").AutoTokenizer.from_pretrained(folder, local_files_only=True)
        bos, eos, pad = (getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
        self.size = len(self.tokenizer)
        # Llama's tokenizer has no padding token. Any token will do, because it is masked.
        self.pad = next((token for token in (pad, eos) if token is not None), 0)
        self.begin, self.end = ([] if token is None else [token] for token in (bos, eos))

    def pieces(self, text: str) -> list[int]:
        numbers: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return numbers

    def encode(self, text: str, limit: int) -> list[int]:
        numbers: list[int] = self.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return numbers


def tokenizer(folder: Path | None, texts: Iterable[str], size: int) -> Tokenizer:
    """Return the tokenizer in `folder`; without a folder, one with `size` words of `texts`."""
    return Words(texts, size) if folder is None else PretrainedTokenizer(folder)
