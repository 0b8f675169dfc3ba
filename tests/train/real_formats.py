"""Makes small data sets in the exact formats of the public ones, which tests cannot download.

Each class has its own pattern under noise, so that a network learns something in a few steps.
"""

from __future__ import annotations

import csv
import io
import json
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from train.data import idx


def _words(text: str) -> list[str]:
    return text.split()


CIFAR10_NAMES = _words("airplane automobile bird cat deer dog frog horse ship truck")
CIFAR100_FINE_NAMES = _words(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
    "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm "
)
CIFAR100_COARSE_NAMES = _words(
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices "
    "household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees "
    "vehicles_1 vehicles_2 "
)
AG_NEWS_NAMES = ["World", "Sports", "Business", "Sci/Tech"]
IMAGENET_FOLDERS = ["n01440764", "n01443537", "n01484850", "n01491361", "n01494475", "n01496331"]
# Identifiers have gaps, as in COCO.
COCO_CATEGORIES = {1: "person", 3: "car", 18: "dog", 90: "toothbrush"}
COCO_COLOURS = {1: (220, 40, 40), 3: (40, 220, 40), 18: (40, 40, 220), 90: (220, 220, 40)}


def images_of(labels: Sequence[int], shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return uint8 images of `shape` each: two thirds the pattern of the class, one third noise."""
    noise = np.random.default_rng(seed)
    patterns = {label: np.random.default_rng(1000 + label).integers(0, 256, shape) for label in set(labels)}
    images = [patterns[label] * 2 // 3 + noise.integers(0, 86, shape) for label in labels]
    return np.array(images, dtype=np.uint8).reshape(len(labels), *shape)


def write_mnist(folder: Path, train: int = 64, test: int = 32, size: int = 28, compressed: bool = False) -> Path:
    """Write the four files of MNIST (or Fashion-MNIST): `size` x `size` pixels, 10 classes. Return `folder`."""
    import gzip

    for seed, (split, count) in enumerate((("train", train), ("t10k", test))):
        labels = [index % 10 for index in range(count)]
        images = torch.from_numpy(images_of(labels, (size, size), seed))
        for name, tensor in (("images-idx3", images), ("labels-idx1", torch.tensor(labels, dtype=torch.uint8))):
            path = folder / f"{split}-{name}-ubyte"
            idx.write(path, tensor)
            if compressed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
                path.unlink()
    return folder


class _Python2Pickle:
    """Pickle with protocol 2 as Python 2's cPickle does: str as byte strings, and the names of numpy 1.x."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.memos = 0

    def dump(self, value: object) -> bytes:
        self._save(value)
        return bytes(self.out + b".")

    def _put(self) -> None:
        self.memos += 1
        self.out += struct.pack("<BB", 0x71, self.memos) if self.memos < 256 else struct.pack("<BI", 0x72, self.memos)

    def _save(self, value: object) -> None:
        if isinstance(value, dict):
            self.out += b"}"
            self._put()
            self.out += b"("
            for key, item in value.items():
                self._save(key)
                self._save(item)
            self.out += b"u"
        elif isinstance(value, list):
            self.out += b"]"
            self._put()
            for start in range(0, len(value), 1000):
                self.out += b"("
                for item in value[start : start + 1000]:
                    self._save(item)
                self.out += b"e"
        elif isinstance(value, str):
            self._string(value.encode("ascii"))
            self._put()
        elif isinstance(value, int):
            self._integer(value)
        else:
            assert isinstance(value, np.ndarray)
            self._array(value)

    def _string(self, value: bytes) -> None:
        self.out += (b"U" + bytes([len(value)]) if len(value) < 256 else struct.pack("<BI", 0x54, len(value))) + value

    def _integer(self, value: int) -> None:
        if 0 <= value < 256:
            self.out += struct.pack("<BB", 0x4B, value)
        else:
            self.out += struct.pack("<BH", 0x4D, value) if 0 <= value < 65536 else struct.pack("<Bi", 0x4A, value)

    def _array(self, array: np.ndarray) -> None:
        assert array.dtype == np.uint8
        assert array.ndim == 2
        self.out += b"cnumpy.core.multiarray\n_reconstruct\n"
        self._put()
        self.out += b"cnumpy\nndarray\n"
        self._put()
        self.out += b"K\x00\x85U\x01b\x87R"
        self._put()
        self.out += b"(K\x01"
        for size in array.shape:
            self._integer(size)
        self.out += b"\x86cnumpy\ndtype\n"
        self._put()
        self.out += b"U\x02u1K\x00K\x01\x87R"
        self._put()
        self.out += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        self._string(array.tobytes())
        self.out += b"tb"


def python2_pickle(value: object) -> bytes:
    return _Python2Pickle().dump(value)


def _cifar_rows(labels: Sequence[int], seed: int) -> np.ndarray:
    """Return one row for each image: 1,024 bytes of red, of green and of blue."""
    return images_of(labels, (3, 32, 32), seed).reshape(-1, 3072)


def _write_members(folder: Path, name: str, archive: str, members: dict[str, bytes], compressed: bool) -> Path:
    if not compressed:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for member, content in members.items():
            (folder / name / member).write_bytes(content)
        return folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / archive, "w:gz") as file:
        for member, content in members.items():
            information = tarfile.TarInfo(f"{name}/{member}")
            information.size = len(content)
            file.addfile(information, io.BytesIO(content))
    return folder / archive


def write_cifar10(folder: Path, per_batch: int = 20, test: int = 20, compressed: bool = False) -> Path:
    """Write five batches and the test batch into `folder`/cifar-10-batches-py, or into the published .tar.gz; return
    its path.
    """
    members = {}
    for number in range(6):
        count, name = (test, "test_batch") if number == 5 else (per_batch, f"data_batch_{number + 1}")
        labels = [index % 10 for index in range(count)]
        batch = {
            "batch_label": "testing batch 1 of 1" if number == 5 else f"training batch {number + 1} of 5",
            "labels": labels,
            "data": _cifar_rows(labels, number),
            "filenames": [f"{CIFAR10_NAMES[label]}_s_{number:06}{index}.png" for index, label in enumerate(labels)],
        }
        members[name] = python2_pickle(batch)
    names = {"num_cases_per_batch": 10000, "label_names": CIFAR10_NAMES, "num_vis": 3072}
    members["batches.meta"] = python2_pickle(names)
    return _write_members(folder, "cifar-10-batches-py", "cifar-10-python.tar.gz", members, compressed)


def write_cifar100(folder: Path, train: int = 200, test: int = 100, compressed: bool = False) -> Path:
    """Write `folder`/cifar-100-python with train, test and meta, or the published .tar.gz; return its path."""
    members = {}
    for seed, (name, count) in enumerate((("train", train), ("test", test))):
        labels = [index % 100 for index in range(count)]
        members[name] = python2_pickle(
            {
                "filenames": [f"{CIFAR100_FINE_NAMES[label]}_s_{index:06}.png" for index, label in enumerate(labels)],
                "batch_label": f"{name}ing batch 1 of 1",
                "fine_labels": labels,
                "coarse_labels": [label // 5 for label in labels],
                "data": _cifar_rows(labels, seed),
            }
        )
    members["meta"] = python2_pickle(
        {"fine_label_names": CIFAR100_FINE_NAMES, "coarse_label_names": CIFAR100_COARSE_NAMES}
    )
    return _write_members(folder, "cifar-100-python", "cifar-100-python.tar.gz", members, compressed)


def write_class_folders(folder: Path, classes: int = 3, train: int = 8, val: int = 4, size: int = 40) -> Path:
    """Write train/n01440764/n01440764_0.JPEG and so on, `train` and `val` images for each class. Return `folder`."""
    from PIL import Image

    for split, count in (("train", train), ("val", val)):
        for label, name in enumerate(IMAGENET_FOLDERS[:classes]):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for index, cells in enumerate(images_of([label] * count, (4, 5, 3), 100 * label + (split == "val"))):
                # Use wide cells, which JPEG keeps.
                image = Image.fromarray(cells).resize((size * 5 // 4, size), Image.Resampling.NEAREST)
                image.save(folder / split / name / f"{name}_{index}.JPEG", quality=90)
    return folder


_WORDS = [
    _words("minister election border treaty president"),
    _words("goal season coach league striker"),
    _words("shares profit oil market investors"),
    _words("software satellite chip browser researchers"),
]


def _sentence(label: int, index: int, words: int) -> str:
    picked = np.random.default_rng(1000 * label + index).integers(0, 5, words)
    return " ".join(_WORDS[label][word] for word in picked).capitalize()


def write_ag_news(folder: Path, train: int = 64, test: int = 32) -> Path:
    """Write train.csv and test.csv as AG News has them, with every field quoted, and classes.txt. Return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(AG_NEWS_NAMES) + "\n", encoding="utf-8")
    for split, count, first in (("train", train, 0), ("test", test, 500)):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            for index in range(count):
                label = index % 4
                title = f'{_sentence(label, first + index, 3)} "now" (Reuters)'
                writer.writerow(
                    [label + 1, title, f"Reuters - {_sentence(label, first + index, 12)}, it said\\on Friday."]
                )
    return folder


def write_jsonl(folder: Path, train: int = 64, test: int = 32, names: bool = False) -> Path:
    """Write train.jsonl and test.jsonl; a label is a number, or with `names` a name. Return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, first in (("train", train, 0), ("test", test, 500)):
        lines = [
            json.dumps(
                {
                    "text": _sentence(index % 4, first + index, 12) + " \u2013 caf\u00e9",
                    "label": AG_NEWS_NAMES[index % 4] if names else index % 4,
                }
            )
            for index in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_tokens(
    folder: Path, train: int = 4096, val: int = 1024, vocabulary: int = 64, suffix: str = ".bin", dtype: str = "uint16"
) -> Path:
    """Write train and val: tokens as nanoGPT's prepare.py writes them (.bin) or as numpy.save does (.npy). Return
    `folder`.

    A token determines the next one, except for every eighth, so that there is something to learn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        generator = np.random.default_rng(seed)
        tokens = np.zeros(count, dtype=np.dtype(dtype).newbyteorder("<"))
        for place in range(1, count):
            follows = (int(tokens[place - 1]) * 5 + 3) % vocabulary
            tokens[place] = generator.integers(0, vocabulary) if place % 8 == 0 else follows
        if suffix == ".npy":
            np.save(folder / f"{split}.npy", tokens)
        else:
            tokens.tofile(folder / f"{split}{suffix}")
    return folder


def compressed_rle(counts: Sequence[int]) -> str:
    """Encode run lengths as pycocotools does: differences to the one before the last, five bits in each character."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 0x1F, value >> 5
            more = value != -1 if bits & 0x10 else value != 0
            text += chr((bits | (0x20 if more else 0)) + 48)
            if not more:
                break
    return text


def run_lengths(mask_HW: np.ndarray) -> list[int]:
    """Return COCO's run lengths: down the columns, starting with a run of zeros, which may have length 0."""
    values = [0, *mask_HW.T.reshape(-1).tolist()]
    changes = [place for place in range(1, len(values)) if values[place] != values[place - 1]]
    edges = [1, *changes, len(values)]
    return [end - start for start, end in zip(edges, edges[1:])]


def write_coco(folder: Path, train: int = 8, val: int = 4, width: int = 64, height: int = 48) -> Path:
    """Write annotations/instances_train2017.json, train2017/000000000001.jpg and so on, and val2017. Return `folder`.

    An image has one to three rectangles in the colour of their class, outlined by polygons. Every fourth image also has
    a crowd as run lengths, and every fifth image has no objects.
    """
    from PIL import Image

    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate((("train2017", train), ("val2017", val))):
        generator = np.random.default_rng(seed)
        (folder / split).mkdir(exist_ok=True)
        images, annotations = [], []
        for number in range(1, count + 1):
            pixels = generator.integers(90, 130, (height, width, 3)).astype(np.uint8)
            for _ in range(0 if number % 5 == 0 else int(generator.integers(1, 4))):
                category = list(COCO_CATEGORIES)[int(generator.integers(0, len(COCO_CATEGORIES)))]
                w, h = int(generator.integers(10, width // 2)), int(generator.integers(10, height // 2))
                x, y = int(generator.integers(0, width - w + 1)), int(generator.integers(0, height - h + 1))
                pixels[y : y + h, x : x + w] = COCO_COLOURS[category]
                annotations.append(
                    {
                        "segmentation": [[float(v) for v in (x, y, x + w, y, x + w, y + h, x, y + h)]],
                        "area": float(w * h),
                        "iscrowd": 0,
                        "image_id": number,
                        "bbox": [float(x), float(y), float(w), float(h)],
                        "category_id": category,
                        "id": 1000 + len(annotations),
                    }
                )
            if number % 4 == 0:
                crowd = np.zeros((height, width), dtype=np.uint8)
                crowd[: height // 4, width // 2 :] = 1
                annotations.append(
                    {
                        "segmentation": {"counts": run_lengths(crowd), "size": [height, width]},
                        "area": float(crowd.sum()),
                        "iscrowd": 1,
                        "image_id": number,
                        "bbox": [width / 2, 0.0, width / 2, height / 4],
                        "category_id": 1,
                        "id": 900100000000 + number,
                    }
                )
            name = f"{number:012}.jpg"
            images.append({"license": 1, "file_name": name, "height": height, "width": width, "id": number})
            Image.fromarray(pixels).save(folder / split / name, quality=95, subsampling=0)
        categories = [
            {"supercategory": "thing", "id": identifier, "name": name} for identifier, name in COCO_CATEGORIES.items()
        ]
        content = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": annotations}
        path = folder / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps({**content, "categories": categories}), encoding="utf-8")
    return folder
