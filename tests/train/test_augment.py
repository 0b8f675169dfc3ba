from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from train.data.augment import cutmix, mixup, random_crop_flip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_image_is_some_crop_of_itself(dtype: torch.dtype) -> None:
    images = torch.randint(1, 255, (60, 3, 6, 5), generator=generator()).to(dtype)
    cropped = random_crop_flip(images, generator(1), padding=2)
    assert (cropped.shape, cropped.dtype) == (images.shape, dtype)
    padded = F.pad(images, (2, 2, 2, 2))
    seen = set()
    for before, after in zip(padded, cropped):
        found = [
            (top, left, flipped)
            for top in range(5)
            for left in range(5)
            for flipped in (False, True)
            if torch.equal(after.flip(2) if flipped else after, before[:, top : top + 6, left : left + 5])
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 30
    assert {flipped for _, _, flipped in seen} == {False, True}
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))


def test_no_padding_and_no_mirror_changes_nothing() -> None:
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(random_crop_flip(images, generator(), padding=0, mirrored=0), images)
    assert torch.equal(random_crop_flip(images, generator(), padding=0, mirrored=1), images.flip(3))


@pytest.mark.parametrize(
    "augment",
    [
        random_crop_flip,
        lambda images, g: mixup(images, torch.arange(8), 8, g)[0],
        lambda images, g: cutmix(images, torch.arange(8), 8, g)[0],
    ],
)
def test_randomness_is_the_generator_s(augment) -> None:
    images = torch.randn(8, 3, 16, 16)
    torch.manual_seed(0)
    first = augment(images, generator(5))
    torch.manual_seed(1)
    assert torch.equal(augment(images, generator(5)), first)
    assert not torch.equal(augment(images, generator(6)), first)
    state = torch.get_rng_state()
    augment(images, generator(5))
    assert torch.equal(torch.get_rng_state(), state)


def test_mixup() -> None:
    images = torch.eye(6).view(6, 1, 1, 6)
    shares = []
    for seed in range(30):
        mixed, targets = mixup(images, torch.arange(6), 6, generator(seed), alpha=0.5)
        # Image i is the i-th unit vector, so the mixed images show their sources.
        torch.testing.assert_close(mixed.view(6, 6), targets)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        shares.append(float(targets.diagonal().min()))
    assert min(shares) < 0.2
    assert max(shares) > 0.8


def test_cutmix() -> None:
    labels = torch.tensor([0, 1, 2, 3, 1, 0])
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 20, 30)
    boxes = set()
    for seed in range(30):
        mixed, targets = cutmix(images, labels, 4, generator(seed))
        for index in range(6):
            values, counts = mixed[index, 0].unique(return_counts=True)
            expected = torch.zeros(4)
            for value, count in zip(values, counts):
                expected[labels[int(value)]] += count / 600
            torch.testing.assert_close(targets[index], expected)
        taken = (mixed[:, 0] != images[:, 0]).any(0)
        boxes.add(int(taken.sum()))
        rows, columns = taken.any(1).sum(), taken.any(0).sum()
        assert taken.sum() == rows * columns
    assert len(boxes) > 15
    assert torch.equal(images[5], torch.full((3, 20, 30), 5.0))


def test_soft_targets_are_mixed_too() -> None:
    images, soft = torch.rand(4, 3, 8, 8), torch.tensor([[0.9, 0.1]] * 4)
    for _, targets in (mixup(images, soft, 2, generator()), cutmix(images, soft, 2, generator())):
        torch.testing.assert_close(targets, soft)


def test_shares_are_of_the_beta_distribution() -> None:
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    draws = [mixup(images, torch.arange(2), 2, generator(seed), alpha=2.0)[1].max().item() for seed in range(400)]
    mixed = [draw for draw in draws if draw < 1]  # a sample may be its own partner
    # The mean of max(s, 1 - s) for Beta(2, 2) is 11/16.
    assert abs(sum(mixed) / len(mixed) - 11 / 16) < 0.05


def test_what_cannot_be_mixed() -> None:
    with pytest.raises(
        ValueError, match=r"mixup blends images of a floating type, not torch.uint8: normalise them first"
    ):
        mixup(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), 2, generator())
    with pytest.raises(ValueError, match="alpha must be above 0, not 0"):
        cutmix(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), 2, generator(), alpha=0)
