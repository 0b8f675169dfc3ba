from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import real_formats

from train.data import text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a text's folder"
    path.mkdir()
    return path


def test_ag_news(folder: Path) -> None:
    real_formats.write_ag_news(folder)
    train, test = text.read(folder / "train.csv"), text.read(folder / "test.csv")
    assert (len(train.texts), len(test.texts)) == (64, 32)
    assert train.names == text.AG_NEWS_NAMES
    assert train.labels_N[:5].tolist() == [0, 1, 2, 3, 0]
    assert '"now" (Reuters) Reuters - ' in train.texts[0]
    assert train.texts[0].endswith(", it said\\on Friday.")


def test_csv_as_others_write_it(folder: Path) -> None:
    path = folder / "a.csv"
    path.write_text(
        '\ufeffClass Index,Title,Description\r\n2,a title,"several\nlines"\r\n\r\n1,only this\r\n', encoding="utf-8"
    )
    read = text.read_csv(path)
    assert read.texts == ["a title several\nlines", "only this"]
    assert read.labels_N.tolist() == [1, 0]
    assert read.names == ["1", "2"]
    assert text.read_csv(path, ["cats", "dogs"]).names == ["cats", "dogs"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: there are no texts"),
        (b"Class,Title\n", "line 1: there are no texts"),
        (b'"1","a"\n"2"\n', "line 2: has 1 field, not a class and at least one of text"),
        (b'"1","a"\n"0","b"\n', "line 2: the class is '0', not a number from 1 to 4"),
        (b'"1","a"\n"5","b"\n', "line 2: the class is '5', not a number from 1 to 4"),
        (b'"1","a"\n"World","b"\n', "line 2: the class is 'World', not a number"),
        ('"1","a"\n"\u00b2","b"\n'.encode(), "line 2: the class is '\u00b2', not a number"),
        (b'"1","two\nlines"\n"x","b"\n', "line 3: the class is 'x'"),
        (b'"1","a"\n"2","never closed\n"3","c"\n', "line 2: not sound CSV: "),
        (b'"1","a"\n"2","cut of', "line 2: not sound CSV: unexpected end of data"),
        (b'"1","a"\n"2","\xff"\n', "line 2: not UTF-8 at its byte 5"),
        (b'"1","a"\n"2","' + bytes(9), "line 2: has a zero byte"),
        (b'"1","' + b"a" * 140_000 + b'"\n', "line 1: not sound CSV: field larger than field limit"),
    ],
)
def test_unsound_csv(folder: Path, content: bytes, message: str) -> None:
    path = folder / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(text.TextError, match=re.escape(message)) as caught:
        text.read_csv(path, text.AG_NEWS_NAMES)
    assert str(caught.value).startswith(f"{path}: line ")


@pytest.mark.parametrize("names", [False, True])
def test_json_lines(folder: Path, names: bool) -> None:
    real_formats.write_jsonl(folder, names=names)
    train = text.read(folder / "train.jsonl")
    assert train.texts[0].endswith("\u2013 caf\u00e9")
    assert train.names == (sorted(text.AG_NEWS_NAMES) if names else ["0", "1", "2", "3"])
    if names:
        assert [train.names[label] for label in train.labels_N[:4]] == text.AG_NEWS_NAMES
        (folder / "one.jsonl").write_text('\n{"text": "a", "label": "Sports", "more": 1}\n\n')
        assert text.read(folder / "one.jsonl", train.names).labels_N.tolist() == [train.names.index("Sports")]
    else:
        assert train.labels_N[:5].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ('{"text": "cut', "not JSON: "),
        ("[1]", "not of the form"),
        ('{"label": 0}', "not of the form"),
        ('{"text": 3, "label": 0}', "not of the form"),
        ('{"text": "a"}', "the label is None, neither a number from 0 nor a name"),
        ('{"text": "a", "label": -1}', "the label is -1, neither"),
        ('{"text": "a", "label": true}', "the label is True, neither"),
        ('{"text": "a", "label": 1.0}', "the label is 1.0, neither"),
        ('{"text": "a", "label": "one"}', "the label is 'one', where the first is 0"),
        ('{"text": "a", "label": 2}', "the label 2 is not one of no, yes"),
    ],
)
def test_unsound_json_lines(folder: Path, line: str, message: str) -> None:
    path = folder / "bad.jsonl"
    path.write_text(json.dumps({"text": "a", "label": 0}) + "\n" + line + "\n")
    with pytest.raises(text.TextError, match=re.escape(message)) as caught:
        text.read_json_lines(path, ["no", "yes"])
    assert str(caught.value).startswith(f"{path}: line 2: ")


def test_other_files(folder: Path) -> None:
    with pytest.raises(text.TextError, match=r"texts are read from .csv and .jsonl, not from .txt"):
        text.read(folder / "a.txt")
    with pytest.raises(FileNotFoundError, match=r"none.csv"):
        text.read(folder / "none.csv")
