from __future__ import annotations

import dataclasses
import fcntl
import gzip
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import real_formats
import torch
from runner import Runner

from train.data import fetch, idx, prepare, published


def test_the_files(digits: Path) -> None:
    assert sorted(path.name for path in digits.iterdir()) == [
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]
    train_images, train_labels = idx.read_split(digits, "train")
    test_images, test_labels = idx.read_split(digits, "t10k")
    assert train_images.shape == (1437, 8, 8)
    assert test_images.shape == (360, 8, 8)
    shares = test_labels.bincount(minlength=10) / (train_labels.bincount() + test_labels.bincount())
    assert shares.min() > 0.19
    assert shares.max() < 0.21


def test_the_pixels_are_uci_s(digits: Path, scikit_learn: Path) -> None:
    rows = gzip_rows(scikit_learn / "sklearn/datasets/data/digits.csv.gz")
    images, labels = (
        torch.cat(parts) for parts in zip(idx.read_split(digits, "train"), idx.read_split(digits, "t10k"))
    )
    levels = (images.view(-1, 64).float() * 16 / 255).round().int()
    assert sorted(torch.cat([levels, labels.int().unsqueeze(1)], 1).tolist()) == sorted(rows)


def gzip_rows(path: Path) -> list[list[int]]:
    return [
        [int(value) for value in line.split(",")] for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]


def test_again_without_scikit_learn_and_repair(
    python: Runner, digits: Path, scikit_learn: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "a copy"
    shutil.copytree(digits, copy)
    times = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    again = python("-S", "-m", "train.prepare", "digits", copy)  # -S: no installed packages
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{copy}\n", "digits: already there\n")
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == times

    damaged = copy / "t10k-labels-idx1-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    missing = python("-S", "-m", "train.prepare", "digits", copy)
    assert missing.returncode == 1
    assert missing.stdout == ""
    assert "pip install --no-deps --target FOLDER scikit-learn" in missing.stderr
    assert missing.stderr.count("\n") == 1
    path = os.pathsep.join((python.environment["PYTHONPATH"], str(scikit_learn)))
    repaired = python("-S", "-m", "train.prepare", "digits", copy, PYTHONPATH=path)
    assert (repaired.returncode, repaired.stdout, repaired.stderr) == (0, f"{copy}\n", "digits: written\n")
    assert damaged.read_bytes() == (digits / damaged.name).read_bytes()


def test_default_destination(python: Runner, scikit_learn: Path) -> None:
    path = os.pathsep.join((python.environment["PYTHONPATH"], str(scikit_learn)))
    scratch = python.work / "scratch of mine"
    done = python("-m", "train.prepare", "digits", PYTHONPATH=path, SCRATCH=str(scratch))
    assert done.stdout == f"{scratch}/some body's project/datasets/digits\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["cats"], 2, "invalid choice: 'cats'"),
        ([], 2, "required: dataset"),
        (["digits", "/dev/null/x"], 1, "Not a directory"),
        (["digits", "--url", "https://x/y"], 2, "--url is for fetching mnist, fashion_mnist, cifar10, cifar100"),
        (["cifar10", "x", "--verify", "--url", "https://x/y"], 2, "without --verify"),
        (["digits", "/nonexistent", "--verify"], 1, "train-images-idx3-ubyte is missing or not as it was made"),
        (["cifar10", "/nonexistent", "--verify"], 1, "neither cifar-10-batches-py nor cifar-10-python.tar.gz in"),
        (["mnist", "there", "--url", "ftp://x/y"], 1, "ftp://x/y/train-images-idx3-ubyte.gz is no http:// or https://"),
    ],
)
def test_bad_arguments(python: Runner, scikit_learn: Path, arguments: list[str], status: int, message: str) -> None:
    path = os.pathsep.join((python.environment["PYTHONPATH"], str(scikit_learn)))
    done = python("-m", "train.prepare", *arguments, PYTHONPATH=path)
    assert done.returncode == status
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks the connection after `whole` bytes, `breaks` times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.whole, self.breaks, self.parts, self.refusals = 0, 0, True, 0
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        start_of_range = self.headers.get("Range", "")
        self.server.asked.append((self.path, start_of_range))
        content = self.server.files.get(self.path)
        if self.server.refusals:
            self.server.refusals -= 1
            self.send_error(503)
        elif content is None:
            self.send_error(404)
        else:
            self._send(content, int(start_of_range[6:-1] or 0) if self.server.parts else 0)

    def _send(self, content: bytes, start: int) -> None:
        if start >= len(content) > 0 and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if self.server.breaks:
            self.server.breaks -= 1
            end = start + self.server.whole
        self.wfile.write(content[start:end])

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def small_cifar(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return a small archive that the tables list as the published one, and that the server has."""
    content = real_formats.write_cifar10(tmp_path / "made", compressed=True).read_bytes()
    files = {"cifar-10-python.tar.gz": hashlib.md5(content).hexdigest()}
    monkeypatch.setitem(published.CIFAR10_MD5, "cifar-10-python.tar.gz", files["cifar-10-python.tar.gz"])
    changed = dataclasses.replace(published.DATA_SETS["cifar10"], files=files, address=f"{server.address}/kriz")
    monkeypatch.setitem(published.DATA_SETS, "cifar10", changed)
    server.files["/kriz/cifar-10-python.tar.gz"] = content
    return content


def test_fetched_once_and_verified(
    tmp_path: Path, server: Server, small_cifar: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "the data"
    assert prepare.main(["cifar10", str(folder)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{folder}\n"
    assert told.err.endswith("cifar10: fetched: cifar-10-python.tar.gz known by MD5\n")
    assert [path.name for path in folder.iterdir()] == ["cifar-10-python.tar.gz"]
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == small_cifar
    assert prepare.main(["cifar10", str(folder)]) == 0
    assert prepare.main(["cifar10", str(folder), "--verify"]) == 0
    assert capsys.readouterr().err == 2 * "cifar10: already there: cifar-10-python.tar.gz known by MD5\n"
    assert len(server.asked) == 1
    # The user's own files are not replaced.
    (folder / "cifar-10-python.tar.gz").write_bytes(small_cifar[:-1])
    assert prepare.main(["cifar10", str(folder)]) == 1
    assert "cifar-10-python.tar.gz: has the MD5 " in capsys.readouterr().err
    assert len(server.asked) == 1


@pytest.mark.parametrize("parts", [True, False])
def test_a_broken_connection_is_taken_up_again(tmp_path: Path, server: Server, small_cifar: bytes, parts: bool) -> None:
    server.whole, server.breaks, server.parts, server.refusals = 1000, 2, parts, 1
    url = f"{server.address}/kriz/cifar-10-python.tar.gz"
    assert prepare.main(["cifar10", str(tmp_path / "a"), "--url", url]) == 0
    assert (tmp_path / "a/cifar-10-python.tar.gz").read_bytes() == small_cifar
    assert [asked for _, asked in server.asked] == ["", "", "bytes=1000-", "bytes=2000-" if parts else "bytes=1000-"]


def test_what_came_is_kept_for_the_next_call(
    tmp_path: Path, server: Server, small_cifar: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server.whole, server.breaks = 100, 4
    assert prepare.main(["cifar10", str(tmp_path / "a")]) == 1
    told = capsys.readouterr().err
    assert f"the connection ended at byte 400 of {len(small_cifar)}; what came is kept" in told
    assert not (tmp_path / "a/cifar-10-python.tar.gz").exists()
    assert prepare.main(["cifar10", str(tmp_path / "a")]) == 0
    assert server.asked[-1][1] == "bytes=400-"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["cifar-10-python.tar.gz"]


@pytest.mark.parametrize("left", [b"of another file", b"x" * 10**6])
def test_what_was_left_of_another_file(tmp_path: Path, small_cifar: bytes, left: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.cifar-10-python.tar.gz.partial").write_bytes(left)
    assert prepare.main(["cifar10", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a/cifar-10-python.tar.gz").read_bytes() == small_cifar


def test_servers_that_do_not_have_it(
    tmp_path: Path, server: Server, small_cifar: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(["cifar10", str(tmp_path / "a"), "--url", f"{server.address}/elsewhere"]) == 1
    assert "/elsewhere/cifar-10-python.tar.gz: 404 Not Found: give another address by --url" in capsys.readouterr().err
    assert list((tmp_path / "a").iterdir()) == []
    server.files["/kriz/cifar-10-python.tar.gz"] = b"<html>moved</html>"
    assert prepare.main(["cifar10", str(tmp_path / "a")]) == 1
    assert f"not {hashlib.md5(small_cifar).hexdigest()} as published" in capsys.readouterr().err
    assert list((tmp_path / "a").iterdir()) == []
    server.refusals = 9
    assert prepare.main(["cifar10", str(tmp_path / "a")]) == 1
    assert ": 503 Service Unavailable" in capsys.readouterr().err


def test_without_internet(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    address = server.address
    server.server_close()
    assert prepare.main(["fashion_mnist", str(tmp_path / "a"), "--url", address]) == 1
    assert "call again where there is internet, or give --url" in capsys.readouterr().err


def test_another_process_fetches_the_same(
    tmp_path: Path, small_cifar: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_cifar
    (tmp_path / "a").mkdir()
    with (tmp_path / "a/.cifar-10-python.tar.gz.partial").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert prepare.main(["cifar10", str(tmp_path / "a")]) == 1
    assert "another process is fetching" in capsys.readouterr().err


def test_one_process_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ranks = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**ranks, "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert prepare.main(["digits", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "rank 1 of 2: a data set is prepared by one process; call it without torchrun" in told.err


def test_mnist_by_structure_and_by_md5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mnist of mine"
    for split, count in (("train", 60_000), ("t10k", 10_000)):
        idx.write(folder / f"{split}-images-idx3-ubyte", torch.zeros(count, 28, 28, dtype=torch.uint8))
        idx.write(folder / f"{split}-labels-idx1-ubyte", torch.full((count,), 9, dtype=torch.uint8))
    assert prepare.main(["mnist", str(folder), "--verify"]) == 0
    assert capsys.readouterr().err.endswith("60,000 + 10,000 images of 28 x 28; 0 of 4 files known by MD5\n")
    labels = folder / "t10k-labels-idx1-ubyte"
    idx.write(labels, torch.full((10_000,), 10, dtype=torch.uint8))
    assert prepare.main(["mnist", str(folder), "--verify"]) == 1
    assert "a t10k label is 10, not from 0 to 9" in capsys.readouterr().err
    labels.write_bytes(labels.read_bytes()[:-1])
    assert prepare.main(["mnist", str(folder)]) == 1
    assert "t10k-labels-idx1-ubyte: byte 10007: the file ends here" in capsys.readouterr().err
    labels.with_name(labels.name + ".gz").write_bytes(gzip.compress(b"other"))
    labels.unlink()
    assert prepare.main(["fashion_mnist", str(folder)]) == 1
    assert "not bb300cfdad3c16e7a12a480ee83cd310 as published" in capsys.readouterr().err
    small = real_formats.write_mnist(tmp_path / "small")
    assert prepare.main(["mnist", str(small)]) == 1
    assert "train images of shape (64, 28, 28), not (60000, 28, 28)" in capsys.readouterr().err


def test_cifar_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = real_formats.write_cifar100(tmp_path)
    for name in ("train", "test"):  # the third is the published one
        monkeypatch.setitem(published.CIFAR100_MD5, name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    assert prepare.main(["cifar100", str(tmp_path), "--verify"]) == 0
    assert capsys.readouterr().err == "cifar100: already there: 3 files known by MD5\n"
    (folder / "train").write_bytes(b"")
    assert prepare.main(["cifar100", str(folder)]) == 1
    assert "cifar-100-python/train: has the MD5 d41d8cd98f00b204e9800998ecf8427e" in capsys.readouterr().err


def test_what_is_only_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["imagenet", str(tmp_path / "none")]) == 1
    assert "imagenet is not fetched here: unpack ILSVRC 2012 to train/CLASS/*.JPEG" in capsys.readouterr().err
    images = real_formats.write_class_folders(tmp_path / "images")
    coco = real_formats.write_coco(tmp_path / "coco")
    news = real_formats.write_ag_news(tmp_path / "news")
    for name, folder, told, victim, problem in (
        (
            "imagenet",
            images,
            "3 classes, 24 + 12 images; ILSVRC 2012 has others",
            "val/n01443537/n01443537_2.JPEG",
            "cannot be decoded",
        ),
        (
            "coco",
            coco,
            "8 images (2017 has 118,287) + 4 images (2017 has 5,000), 4 classes",
            "val2017/000000000003.jpg",
            "cannot be decoded",
        ),
        (
            "ag_news",
            news,
            "64 (AG has 120,000) + 32 (AG has 7,600) texts of 4 classes",
            "test.csv",
            "line 32: not sound CSV",
        ),
    ):
        assert prepare.main([name, str(folder)]) == 0
        assert capsys.readouterr().err == f"{name}: already there: {told}\n"
        content = (folder / victim).read_bytes()
        (folder / victim).write_bytes(content[:-70])
        assert prepare.main([name, str(folder), "--verify"]) == 1
        error = capsys.readouterr().err
        assert str(folder / victim) in error
        assert problem in error
    (news / "test.csv").write_text('"1","a"\n"2","b"\n"4","c"\n')
    assert prepare.main(["ag_news", str(news)]) == 1
    assert "test.csv: has no text of class 3" in capsys.readouterr().err


def test_digits_verify(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "a copy"
    shutil.copytree(digits, copy)
    assert prepare.main(["digits", str(copy), "--verify"]) == 0
    assert capsys.readouterr().out == f"{copy}\n"
    (copy / "t10k-labels-idx1-ubyte").unlink()
    assert prepare.main(["digits", str(copy), "--verify"]) == 1
    assert "t10k-labels-idx1-ubyte is missing or not as it was made" in capsys.readouterr().err
