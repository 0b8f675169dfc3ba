"""Interrupted runs end as if they had not been interrupted: real ranks over gloo, each attempt in new processes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import toy
from ranks import Ranks

from train.environment import JobEnvironment


def run(world_size: int, folder: Path, *arguments: object, **environment: object) -> list[dict]:
    return Ranks(world_size, toy.train, *arguments, folder=folder, **environment).results()


@pytest.mark.parametrize(
    ("kind", "world_size", "workers"), [("plain", 1, 2), ("ddp", 3, 0), ("fsdp", 3, 0)], ids=["one", "ddp", "fsdp2"]
)
def test_two_interruptions_in_one_epoch_change_no_bit(tmp_path: Path, kind: str, world_size: int, workers: int) -> None:
    """Use three ranks: with two, the order in which gradients are added has no effect."""
    whole = run(world_size, tmp_path / "whole", kind, 0, workers)
    parts = [run(world_size, tmp_path / "parts", kind, stop, workers) for stop in (2, 1, 3, 0)]
    assert [[rank["begun"] for rank in part] for part in parts] == [[begun] * world_size for begun in (0, 2, 3, 6)]
    for rank in range(world_size):
        assert [sample for part in parts for sample in part[rank]["seen"]] == whole[rank]["seen"]
        last, expected = parts[-1][rank], whole[rank]
        assert last["noise"] == expected["noise"][6:]
        for name in ("step", "end", "means", "lr", "scale"):
            assert last[name] == expected[name], name
    assert whole[0]["end"] != whole[0]["start"]
    if world_size > 1:
        assert whole[0]["noise"] != whole[1]["noise"]


@pytest.mark.parametrize(("kind", "before", "after"), [("ddp", 4, 2), ("fsdp", 4, 2), ("fsdp", 2, 4), ("ddp", 4, 1)])
def test_another_number_of_ranks(tmp_path: Path, kind: str, before: int, after: int) -> None:
    """The weights are those that were saved, and every sample of the epoch is used exactly once."""
    first = run(before, tmp_path, kind, 2)
    second = run(after, tmp_path, "plain" if after == 1 else kind)
    for rank in range(after):  # each rank has its own batch statistics; a new rank starts with the first rank's
        assert second[rank]["start"] == first[rank if rank < before and kind == "fsdp" else 0]["end"]
    seen = [sample for part in (first, second) for rank in part for sample in rank["seen"]]
    epoch_0 = [index for epoch, index in seen if epoch == 0]
    assert sorted(set(epoch_0)) == list(range(toy.COUNT))
    left = toy.COUNT - 2 * toy.GLOBAL_BATCH
    assert len(epoch_0) - toy.COUNT == math.ceil(left / after) * after - left  # only the documented padding
    noise = [tuple(rank["noise"]) for rank in second]
    assert len(set(noise)) == after  # each rank has its own random numbers, new ranks too


def test_new_ranks_get_the_same_random_numbers_each_time(tmp_path: Path) -> None:
    run(1, tmp_path / "a", "plain", 2)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    results = [[rank["noise"] for rank in run(2, tmp_path / name, "ddp")] for name in "ab"]
    assert results[0] == results[1]


def test_resume_from_the_url_alone(tmp_path: Path) -> None:
    """Use machines with empty disks and another number of ranks."""
    url = f"file://{tmp_path}/a bucket/run"
    first = run(2, tmp_path / "machine 1", "fsdp", 2, CHECKPOINT_URL=url)
    second = run(3, tmp_path / "machine 2", "ddp", 1, CHECKPOINT_URL=url)
    assert [rank["begun"] for rank in second] == [2] * 3
    assert [rank["start"] for rank in second] == [first[rank]["end"] for rank in (0, 1, 0)]
    third = run(1, tmp_path / "machine 3", "plain", 1, CHECKPOINT_URL=url)
    assert (third[0]["begun"], third[0]["start"]) == (3, second[0]["end"])


def test_places_without_an_answer(tmp_path: Path) -> None:
    """An unusable URL ends the run before it trains."""
    from train.checkpoint import CheckpointError, Checkpoints

    for url, message in (("nosuch://bucket", "Protocol not known"), ("gs://bucket", "gcsfs")):
        environment = JobEnvironment.from_environment({"CHECKPOINT_URL": url, "CHECKPOINT_DIRECTORY": str(tmp_path)})
        with pytest.raises(CheckpointError, match=message):
            Checkpoints(environment, {})
