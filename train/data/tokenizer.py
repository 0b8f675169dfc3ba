"""A tokenizer from the words of the data, for models without a tokenizer of their own (models/pretrained.py)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

WORD = re.compile(r"\w+|[^\w\s]")


class Tokenizer(Protocol):
    """The interface of tokenizers for the tasks."""

    size: int
    """All token numbers are below this."""
    pad: int
    """Token that pads the shorter texts of a batch."""
    begin: list[int]
    """Token before a text."""
    end: list[int]
    """Token after a text."""

    def pieces(self, text: str) -> list[int]:
        """Return the tokens of `text`, without special tokens."""

    def encode(self, text: str, limit: int) -> list[int]:
        """Return at most `limit` tokens of `text`, with the special tokens of a model for whole texts."""


class Words:
    """The most frequent words and punctuation marks of some texts, in lower case. All others share one token."""

    PAD, OTHER, BEGIN, END = range(4)

    def __init__(self, texts: Iterable[str], size: int) -> None:
        counts = Counter(word for text in texts for word in WORD.findall(text.lower()))
        # Sort equally frequent words by alphabet, for the same result on all ranks.
        words = sorted(counts, key=lambda word: (-counts[word], word))[: max(0, size - 4)]
        self.numbers = {word: number for number, word in enumerate(words, 4)}
        self.size, self.pad, self.begin, self.end = 4 + len(words), self.PAD, [self.BEGIN], [self.END]

    def pieces(self, text: str) -> list[int]:
        return [self.numbers.get(word, self.OTHER) for word in WORD.findall(text.lower())]

    def encode(self, text: str, limit: int) -> list[int]:
        return [*self.begin, *self.pieces(text)[: limit - 2], *self.end]
