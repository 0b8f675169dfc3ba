"""Runs one check of run.sh, or says whether this Python can run them.

    python check.py NAME --device cpu|cuda --folder DIRECTORY --rows FILE [--small]
    python check.py probe --device cpu|cuda

A check adds its rows to FILE as it runs: STATE, NAME, WHAT and FIGURES, separated by tabs. Exit status: 0, also when
rows failed; 1 when the check itself broke or this Python cannot run the checks.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from importlib import import_module
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests/train"), str(CHECKOUT / "tests/benchmarks")]

MODULES = {
    "nccl": "groups",
    "ddp": "groups",
    "fsdp": "groups",
    "checkpoint": "states",
    "interruption": "states",
    "usage": "sampling",
    "channels_last": "layout",
    "resnet": "speed",
    "compile": "speed",
}


def probe(device: str) -> int:
    """Print the versions of what the checks need, or what is missing."""
    missing = [name for name in ("torch", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"has no {' and no '.join(missing)}")
        return 1
    import torch

    if device == "cpu":
        print(f"torch {torch.__version__}")
        return 0
    if torch.version.cuda is None:
        print(f"its torch {torch.__version__} is a build without CUDA")
        return 1
    if not torch.cuda.is_available():
        print(f"its torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU: is the driver recent enough?")
        return 1
    properties = torch.cuda.get_device_properties(0)
    print(
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, {properties.name}, "
        f"{properties.total_memory / 2**30:.0f} GiB"
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["probe", *MODULES])
    parser.add_argument("--device", choices=["cpu", "cuda"], required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.name == "probe":
        return probe(options.device)
    from kit import Check

    check = Check(options.name, options.device, options.folder, options.rows, options.small)
    try:
        getattr(import_module(MODULES[options.name]), options.name)(check)
    except Exception as error:  # noqa: BLE001  (any error becomes a row)
        traceback.print_exc()
        text = str(error).strip().splitlines() or [""]
        check.row("failed", "the check broke", f"{type(error).__name__}: {text[0][:200]}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
