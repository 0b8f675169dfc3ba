"""From text to numbers by the words of the data: for models that come without a tokenizer (models/pretrained.py)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

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
