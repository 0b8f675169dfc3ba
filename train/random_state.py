"""The state of a rank's random generators, in a form that `torch.load(weights_only=True)` can read."""

from __future__ import annotations

import hashlib
import random
import sys
from typing import Any

import torch


def capture() -> dict[str, Any]:
    """Return the state of Python, torch, this rank's CUDA device if it is used, and numpy if it is imported."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state(), "seed": torch.initial_seed()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        kind, keys, *rest = numpy.random.get_state()
        state["numpy"] = [kind, keys.tolist(), *rest]
    return state


def restore(state: dict[str, Any]) -> None:
    """Restore the generators that `capture` has saved. The others do not change."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "numpy" in state:
        import numpy

        kind, keys, *rest = state["numpy"]
        numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), *rest))


def seed_of(*parts: object) -> int:
    """Return a seed of 64 bits for `parts`: the first 8 bytes of SHA-256 of their texts, joined by spaces."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8], "big")


def folded(seed: int) -> int:
    """Return `seed` in 32 bits, because torch's CPU generator ignores the higher bits."""
    return seed if seed < 2**32 else seed_of(seed) % 2**32


def derive(state_of_rank_0: dict[str, Any], step: int, rank: int) -> None:
    """Seed all generators of a rank that did not exist when the state was made.

    The seed depends on that of rank 0's torch generator, the step and the rank. It is reproducible and differs for
    each rank.
    """
    seed = seed_of(state_of_rank_0["seed"], step, rank)
    random.seed(seed)
    torch.manual_seed(seed)  # CUDA's too.
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
