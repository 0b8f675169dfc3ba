"""Downloads or checks a data set once, before any job.

    python -m train.prepare digits                      writes the digits
    python -m train.prepare cifar10 /data/cifar         downloads missing files, and checks all
    python -m train.prepare mnist --url https://…/mnist uses another server
    python -m train.prepare imagenet /data/ilsvrc       checks files that the user has put there

Standard output has only the destination; notes go to standard error. Exit status: 0 the data set is there and valid, 1
it is not, 2 invalid arguments.

The digits are the UCI handwritten digits (https://doi.org/10.24432/C50P49, CC BY 4.0; the 1,797 of its test set). They
come from the package scikit-learn, of which one file is read and nothing is imported. This is enough:
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

from ..data.fetch import FetchError
from ..data.idx import encode
from ..environment import JobEnvironment
from ..files import replaced

SPLIT_SEED = 0
TEST_EVERY = 5
# SHA-256 of the files written here, to recognize a finished destination.
CHECKSUMS = {
    "train-images-idx3-ubyte": "05457544513695e9dfe9cfcf6587c3ba775597509a9a5a88181edb7dae409a85",
    "train-labels-idx1-ubyte": "d6d2a1d98424d5eca9e2a4548c13106759e3830af7ebe81a22cd0af655ea1d94",
    "t10k-images-idx3-ubyte": "329ac9dd3d56b292c27097d9be622a394c8fed66de523c4c6c1c7bf6e01c585c",
    "t10k-labels-idx1-ubyte": "af0e157444436a6f4c6c184b08225568841ab47f5a6eafdb79797c7e5017a116",
}

COMMAND = f"python -m {__name__.partition('.')[0]}.prepare"


class PrepareError(RuntimeError):
    """The data set cannot be prepared. The message says what to do."""


def prepare_digits(destination: Path) -> bool:
    """Write the digits to `destination` in MNIST's layout. Return False if they were there already.

    The images are 8 x 8 (uint8), 1,437 for training and 360 for tests (t10k), with the same split for each label. UCI's
    grey levels v, 0 to 16, are written as round(255 v / 16); v = round(16 u / 255) restores them.

    Raises:
        PrepareError: scikit-learn is missing, or contains other data.
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
    # A row has 64 grey levels, then the label.
    rows = [[int(value) for value in line.split(",")] for line in _digits_csv().splitlines()]
    # random() is the only method whose sequence for a seed Python guarantees.
    generator = random.Random(SPLIT_SEED)
    order = sorted(range(len(rows)), key=lambda index: (rows[index][-1], generator.random()))
    test = set(order[::TEST_EVERY])  # Every fifth sample of each label, because they are sorted by label.
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
        f"scikit-learn, then PYTHONPATH=FOLDER {COMMAND} digits"
    )


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def prepare_published(name: str, destination: Path, url: str | None, verify_only: bool) -> str:
    """Download missing files of a public data set, and check all in `destination`. Return a summary.

    Raises:
        PrepareError: it is missing, and cannot be downloaded or must not be (`verify_only`).
        FetchError: the download failed.
        ValueError: a file is invalid (errors of the readers), or not the published one (VerifyError).
        OSError: a file cannot be read or written.
    """
    from ..data.published import DATA_SETS, fetch_missing

    published = DATA_SETS[name]
    try:
        return f"already there: {published.verify(destination)}"
    except FileNotFoundError as error:
        if not published.files:
            raise PrepareError(f"{error}; {name} is not fetched here: {published.how}") from error
        if verify_only:
            raise PrepareError(f"{error}; without --verify it is fetched") from error
    fetch_missing(name, destination, url or published.address)
    return f"fetched: {published.verify(destination)}"


def _verify_digits(destination: Path) -> str:
    for name, expected in CHECKSUMS.items():
        if _checksum(destination / name) != expected:
            raise PrepareError(f"{destination / name} is missing or not as it was made: without --verify it is written")
    return "already there"


def _refuse_several(environment: JobEnvironment) -> None:
    """Refuse to run as several ranks. All of them exit before any has started."""
    if environment.world_size > 1:
        raise PrepareError(
            f"rank {environment.rank} of {environment.world_size}: a data set is prepared by one process; call it "
            "without torchrun, or by srun --ntasks=1"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Download or check a data set, once, before any job.",
    )
    fetched, put = ["mnist", "fashion_mnist", "cifar10", "cifar100"], ["imagenet", "coco", "ag_news"]
    parser.add_argument("dataset", choices=["digits", *fetched, *put])
    parser.add_argument("destination", nargs="?", type=Path, help="default: scratch_dir/datasets/DATASET")
    parser.add_argument("--url", help="download from this address, of the folder with the files or of the only file")
    parser.add_argument("--verify", action="store_true", help="only check existing files; write and download nothing")
    options = parser.parse_args(arguments)
    if options.url and (options.verify or options.dataset not in fetched):
        parser.error(f"--url is for fetching {', '.join(fetched)}, without --verify")
    try:
        environment = JobEnvironment.from_environment()
        _refuse_several(environment)
        destination = options.destination or environment.dataset_directory(options.dataset)
        if options.dataset != "digits":
            told = prepare_published(options.dataset, destination, options.url, options.verify)
        elif options.verify:
            told = _verify_digits(destination)
        else:
            told = "written" if prepare_digits(destination) else "already there"
    # All errors of the readers are ValueErrors, and so is JobEnvironmentError.
    except (PrepareError, FetchError, ValueError, OSError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 1
    print(f"{options.dataset}: {told}", file=sys.stderr)
    print(destination)
    return 0
