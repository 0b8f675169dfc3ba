"""Set-up: writes a task's data set once, before any job. `python -m train.prepare digits [DESTINATION]`.

Standard output carries the destination alone; notes go to standard error.

The digits are the UCI handwritten digits (https://doi.org/10.24432/C50P49, CC BY 4.0; the 1,797 of its test
set) out of scikit-learn's package, of which one file is read and nothing imported. So this is enough:
`pip install --no-deps --target FOLDER scikit-learn`, then `PYTHONPATH=FOLDER python -m train.prepare digits`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import random
import sys
from importlib.util import find_spec
from pathlib import Path

from train.data.idx import encode
from train.environment import JobEnvironment, JobEnvironmentError
from train.files import replaced

SPLIT_SEED = 0
TEST_EVERY = 5
# SHA-256 of the files made here. They tell a finished destination from any other.
CHECKSUMS = {
    "train-images-idx3-ubyte": "05457544513695e9dfe9cfcf6587c3ba775597509a9a5a88181edb7dae409a85",
    "train-labels-idx1-ubyte": "d6d2a1d98424d5eca9e2a4548c13106759e3830af7ebe81a22cd0af655ea1d94",
    "t10k-images-idx3-ubyte": "329ac9dd3d56b292c27097d9be622a394c8fed66de523c4c6c1c7bf6e01c585c",
    "t10k-labels-idx1-ubyte": "af0e157444436a6f4c6c184b08225568841ab47f5a6eafdb79797c7e5017a116",
}


class PrepareError(RuntimeError):
    """The data set cannot be made. Says what to do."""


def prepare_digits(destination: Path) -> bool:
    """Write the digits to `destination` in the layout of MNIST. False if they were there already.

    8 x 8 images of uint8, 1,437 to train and 360 to test (t10k), every label split alike. UCI's grey levels
    v, 0 to 16, are written as round(255 v / 16), so that v = round(16 u / 255) gives them back.

    Raises:
        PrepareError: scikit-learn is not there, or carries other data.
        OSError: `destination` cannot be written.
    """
    if all(_checksum(destination / name) == expected for name, expected in CHECKSUMS.items()):
        return False
    files = _digits_files()
    if {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} != CHECKSUMS:
        raise PrepareError("scikit-learn's digits are other than they were: install scikit-learn 1.9.1")
    for name, content in files.items():
        with replaced(destination / name) as file:
            file.write(content)
    return True


def _digits_files() -> dict[str, bytes]:
    # A row: 64 grey levels, then the label.
    rows = [[int(value) for value in line.split(",")] for line in _digits_csv().splitlines()]
    # random() is the generator's one method whose sequence Python promises to keep for a seed.
    generator = random.Random(SPLIT_SEED)
    order = sorted(range(len(rows)), key=lambda index: (rows[index][-1], generator.random()))
    test = set(order[::TEST_EVERY])  # Every fifth of those of one label, as they lie by label.
    files = {}
    for split, is_test in (("train", False), ("t10k", True)):
        chosen = [row for index, row in enumerate(rows) if (index in test) == is_test]
        pixels = bytes((255 * value + 8) // 16 for row in chosen for value in row[:-1])
        labels = bytes(row[-1] for row in chosen)
        files[f"{split}-images-idx3-ubyte"] = encode("uint8", (len(chosen), 8, 8), pixels)
        files[f"{split}-labels-idx1-ubyte"] = encode("uint8", (len(chosen),), labels)
    return files


def _digits_csv() -> str:
    spec = find_spec("sklearn")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return gzip.decompress(path.read_bytes()).decode("ascii")
    raise PrepareError(
        "the digits come with scikit-learn, which this Python does not find: pip install --no-deps --target FOLDER "
        "scikit-learn, then PYTHONPATH=FOLDER python -m train.prepare digits"
    )


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.prepare", description="Write a data set once, at set-up.")
    parser.add_argument("dataset", choices=["digits"])
    parser.add_argument("destination", nargs="?", type=Path, help="default: scratch_dir/datasets/DATASET")
    options = parser.parse_args(arguments)
    try:
        destination = options.destination or JobEnvironment.from_environment().dataset_directory(options.dataset)
        written = prepare_digits(destination)
    except (PrepareError, JobEnvironmentError, OSError) as error:
        print(f"python -m train.prepare: {error}", file=sys.stderr)
        return 1
    print(f"{options.dataset}: {'written' if written else 'already there'}", file=sys.stderr)
    print(destination)
    return 0


if __name__ == "__main__":
    sys.exit(main())
