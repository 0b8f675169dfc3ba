from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import real_formats
import torch
from torch.utils.data import DataLoader

from train.data.tensors import collate
from train.data.tokens import Tokens, TokensError, check


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a token's folder"


@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".bin", "uint16"), (".bin", "uint32"), (".npy", "uint16"), (".npy", "int64")]
)
def test_windows(folder: Path, suffix: str, dtype: str) -> None:
    path = real_formats.write_tokens(folder, train=100, suffix=suffix, dtype=dtype) / f"train{suffix}"
    raw = np.load(path) if suffix == ".npy" else np.fromfile(path, dtype=np.dtype(dtype).newbyteorder("<"))
    options = {"dtype": dtype} if suffix == ".bin" else {}
    data = Tokens(path, 8, vocabulary=64, **options)
    assert len(data) == 12
    for index in range(12):
        x, y = data[index]
        assert x.dtype == torch.int64
        assert x.tolist() == raw[8 * index : 8 * index + 8].tolist()
        assert y.tolist() == raw[8 * index + 1 : 8 * index + 9].tolist()
    [(x, y)] = list(DataLoader(data, batch_size=3, sampler=[11, 0, 5], collate_fn=collate))
    assert x.shape == y.shape == (3, 8)
    assert torch.equal(x[0], data[11][0])
    assert len(Tokens(path, 99, **options)) == 1
    assert len(Tokens(path, 98, stride=1, **options)) == 2
    assert check(path, 64, **options) == 100
    with pytest.raises(IndexError):
        data[12]


def test_a_copy_for_another_process_maps_the_file_itself(folder: Path) -> None:
    real_formats.write_tokens(folder, train=100_000)
    data = Tokens(folder / "train.bin", 8)
    copied = pickle.dumps(data)
    assert len(copied) < 1000
    assert torch.equal(pickle.loads(copied)[7][0], data[7][0])


def test_a_token_above_the_vocabulary(folder: Path) -> None:
    path = real_formats.write_tokens(folder, train=100) / "train.bin"
    tokens = np.fromfile(path, dtype="<u2")
    tokens[41] = 64
    tokens.tofile(path)
    data = Tokens(path, 8, vocabulary=64)
    assert data[0]
    message = f"{path}: byte 82: token 64 is not below the vocabulary's 64: is it of another tokenizer"
    for ask in (lambda: data[5], lambda: data.__getitems__([0, 5]), lambda: check(path, 64)):
        with pytest.raises(TokensError, match=re.escape(message)):
            ask()
    assert check(path, 65) == 100
    np.save(folder / "a.npy", np.array([1, 2, -1], dtype=np.int32))
    with pytest.raises(TokensError, match=r"a.npy: byte 136: token -1"):
        check(folder / "a.npy", 10)


def test_unsound_files(folder: Path) -> None:
    path = real_formats.write_tokens(folder, train=100) / "train.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    for ask in (lambda: Tokens(path, 8), lambda: check(path, 64)):
        with pytest.raises(
            TokensError, match=re.escape(f"{path}: byte 199: the file ends within a token of uint16, 2")
        ):
            ask()
    path.write_bytes(content[:-2])
    with pytest.raises(TokensError, match="byte 198: the file ends within a token of uint32, 4 bytes each"):
        Tokens(path, 8, dtype="uint32")
    path.write_bytes(content[:16])
    with pytest.raises(TokensError, match=r"byte 16: the file ends after 8 tokens; a window of 8 and .* need 9"):
        Tokens(path, 8)
    path.write_bytes(b"")
    with pytest.raises(TokensError, match="byte 0: the file ends after 0 tokens"):
        Tokens(path, 8)
    with pytest.raises(FileNotFoundError, match=r"none.bin"):
        Tokens(folder / "none.bin", 8)


def test_unsound_npy(folder: Path) -> None:
    path = real_formats.write_tokens(folder, train=100, suffix=".npy") / "train.npy"
    content = path.read_bytes()
    for length in (0, 5, 60, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(TokensError, match=rf"train.npy: byte {length}: not a whole .npy"):
            Tokens(path, 8)
    for array in (np.zeros((2, 50), dtype=np.uint16), np.zeros(100, dtype=np.float32)):
        np.save(path, array)
        with pytest.raises(TokensError, match="not one dimension of whole numbers"):
            Tokens(path, 8)
    np.save(path, np.array([None] * 20), allow_pickle=True)
    with pytest.raises(TokensError, match=r"not a whole .npy"):
        Tokens(path, 8)


def test_bad_sizes(folder: Path) -> None:
    path = real_formats.write_tokens(folder) / "train.bin"
    with pytest.raises(ValueError, match="must be at least 1, not 0 and None"):
        Tokens(path, 0)
    with pytest.raises(ValueError, match="must be at least 1, not 8 and 0"):
        Tokens(path, 8, stride=0)
