"""From text to numbers: the tokenizer in a model's folder, or, where there is no model, the words of the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from train.models import pretrained

WORD = re.compile(r"\w+|[^\w\s]")


class Tokenizer(Protocol):
    """What the tasks ask of either."""

    size: int
    """Numbers are below it."""
    pad: int
    """Fills the shorter texts of a batch."""
    begin: list[int]
    """Before a text of which the next word is to be told."""
    end: list[int]
    """After it."""

    def pieces(self, text: str) -> list[int]:
        """The numbers of `text` alone."""

    def encode(self, text: str, limit: int) -> list[int]:
        """The numbers of `text` as a model of whole texts wants them, `limit` at most."""


class Words:
    """The most frequent words and marks of some texts, in lower case. All others are one and the same."""

    PAD, OTHER, BEGIN, END = range(4)

    def __init__(self, texts: Iterable[str], size: int) -> None:
        counts = Counter(word for text in texts for word in WORD.findall(text.lower()))
        # Of equally frequent ones the first in the alphabet: the same on all ranks.
        words = sorted(counts, key=lambda word: (-counts[word], word))[: max(0, size - 4)]
        self.numbers = {word: number for number, word in enumerate(words, 4)}
        self.size, self.pad, self.begin, self.end = 4 + len(words), self.PAD, [self.BEGIN], [self.END]

    def pieces(self, text: str) -> list[int]:
        return [self.numbers.get(word, self.OTHER) for word in WORD.findall(text.lower())]

    def encode(self, text: str, limit: int) -> list[int]:
        return [*self.begin, *self.pieces(text)[: limit - 2], *self.end]


class Pretrained:
    """The tokenizer that a model was trained with."""

    def __init__(self, folder: Path) -> None:
        """Read it from the model's folder.

        Raises:
            ImportError: transformers is not installed.
            OSError, ValueError: there is no tokenizer in `folder`.
        """
        pretrained.check(folder)
        self.tokenizer = pretrained.library("transformers").AutoTokenizer.from_pretrained(folder, local_files_only=True)
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


def choose(folder: Path | None, texts: Iterable[str], size: int) -> Tokenizer:
    """The one in `folder`; without a folder, `size` words of `texts`."""
    return Words(texts, size) if folder is None else Pretrained(folder)
