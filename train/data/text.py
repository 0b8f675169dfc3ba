"""Texts and their classes, from CSV in AG News' format and from JSON lines.

CSV (https://arxiv.org/abs/1509.01626, ag_news_csv/readme.txt) has no header. Every field is quoted, quotes are doubled.
The fields are the class, counted from 1, the title and the description. `classes.txt` beside it has one name per line.
JSON lines are {"text": "…", "label": 0}; the label is a number from 0 or a name. All files are UTF-8. Texts are not
changed or tokenized here: AG News' backslashes stand for line ends, but not consistently.

Shape suffixes: N samples.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

AG_NEWS_NAMES = ["World", "Sports", "Business", "Sci/Tech"]
HEADERS = frozenset({"class", "class index", "label", "label_index"})


class TextError(ValueError):
    """A file has another format. The message names the file and the line, counted from 1."""


@dataclass(frozen=True)
class Texts:
    """Texts and their classes."""

    texts: list[str]
    """The N texts."""
    labels_N: torch.Tensor
    """Labels (int64), from 0."""
    names: list[str]
    """Names of the classes in the order of the labels."""


def read(path: Path, names: Sequence[str] | None = None) -> Texts:
    """Read a .csv, .jsonl or .json (lines) file: see `read_csv` and `read_json_lines`.

    Raises:
        TextError: the file has another suffix, or is invalid.
        OSError: the file cannot be read.
    """
    if path.suffix == ".csv":
        return read_csv(path, names)
    if path.suffix in (".jsonl", ".json", ".ndjson"):
        return read_json_lines(path, names)
    raise TextError(f"{path}: texts are read from .csv and .jsonl, not from {path.suffix or 'a file without suffix'}")


def read_csv(path: Path, names: Sequence[str] | None = None) -> Texts:
    """Read a CSV file in AG News' format. A text is the fields after the class, joined by spaces.

    A first line with column names, as in some copies, is skipped. `names` of the classes default to the lines of
    classes.txt beside the file, else to the numbers of the classes.

    Raises:
        TextError: a row is invalid, or its class is not in `names`.
        OSError: the file cannot be read.
    """
    beside = path.with_name("classes.txt")
    if names is None and beside.is_file():
        names = [line.strip() for _, line in _lines(beside) if line.strip()]
    texts: list[str] = []
    labels: list[int] = []
    # strict: otherwise an unclosed quote would put the rest of the file into one field.
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    line = 1
    try:
        for fields in reader:
            if fields and not (line == 1 and fields[0].strip().lower() in HEADERS):
                labels.append(_class_from_1(path, line, fields, names))
                texts.append(" ".join(fields[1:]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise TextError(f"{path}: line {line}: not sound CSV: {error}") from error
    return _texts(path, texts, labels, names or [str(label + 1) for label in range(max(labels, default=0) + 1)])


def _class_from_1(path: Path, line: int, fields: list[str], names: Sequence[str] | None) -> int:
    if len(fields) < 2:
        raise TextError(f"{path}: line {line}: has {len(fields)} field, not a class and at least one of text")
    text = fields[0].strip()
    highest = len(names) if names is not None else 9999
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= highest:
        raise TextError(f"{path}: line {line}: the class is {fields[0][:40]!r}, not a number from 1 to {highest}")
    return int(text) - 1


def read_json_lines(path: Path, names: Sequence[str] | None = None) -> Texts:
    """Read lines {"text": …, "label": …}. Other keys and empty lines are ignored.

    Labels are all numbers from 0, or all names. `names` default to the numbers, or to the sorted names in the file. For
    a test set, pass those of the training set.

    Raises:
        TextError: a line is invalid, or its label is not in `names`.
        OSError: the file cannot be read.
    """
    texts: list[str] = []
    labels: list[int | str] = []
    for number, line in _lines(path):
        if not line.strip():
            continue
        text, label = _text_and_label(path, number, line)
        if labels and type(label) is not type(labels[0]):
            raise TextError(f"{path}: line {number}: the label is {label!r}, where the first is {labels[0]!r}")
        if names is not None and (label not in names if isinstance(label, str) else label >= len(names)):
            raise TextError(f"{path}: line {number}: the label {label!r} is not one of {', '.join(names)}")
        texts.append(text)
        labels.append(label)
    words = [label for label in labels if isinstance(label, str)]
    numbers = [label for label in labels if isinstance(label, int)]
    if names is None:
        names = sorted(set(words)) or [str(label) for label in range(max(numbers, default=0) + 1)]
    label_of = {name: label for label, name in enumerate(names)}
    return _texts(path, texts, [label_of[word] for word in words] or numbers, names)


def _text_and_label(path: Path, number: int, line: str) -> tuple[str, int | str]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise TextError(f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise TextError(f'{path}: line {number}: not of the form {{"text": "…", "label": 0}}')
    label = value.get("label")
    if not isinstance(label, str) and (type(label) is not int or not 0 <= label < 10_000):
        raise TextError(f"{path}: line {number}: the label is {label!r}, neither a number from 0 nor a name")
    return value["text"], label


def _texts(path: Path, texts: list[str], labels: list[int], names: Sequence[str]) -> Texts:
    if not texts:
        raise TextError(f"{path}: line 1: there are no texts")
    return Texts(texts, torch.tensor(labels, dtype=torch.int64), list(names))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines, with line ends."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TextError(
                    f"{path}: line {number}: not UTF-8 at its byte {error.start}: {error.reason}"
                ) from error
            if "\0" in text:
                raise TextError(f"{path}: line {number}: has a zero byte: the file is damaged, or no text")
            yield number, text
