"""The benchmark `cifar` of run.sh: the kit's cifar10 beside the program of PyTorch's tutorial.

    python cifar.py --rounds N --folder DIRECTORY [--images N]

Both use the same network, batches of 4, float32 and SGD. The tutorial's way
(https://pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html): single images go through ToTensor and Normalize in
two worker processes. It runs without Pillow and torchvision, so their cost is not measured. Each trains in its own
process for one pass over the images, by default a tenth of CIFAR's. Start-up, reading and evaluation are not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).resolve().parents[2]
FULL = 50_000


def plain(folder: Path) -> float:
    """Return the seconds for each image."""
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, Dataset

    class Images(Dataset):
        def __init__(self) -> None:
            batches = []
            for number in range(1, 6):
                with (folder / "cifar-10-batches-py" / f"data_batch_{number}").open("rb") as file:
                    batches.append(pickle.load(file, encoding="latin1"))
            self.data = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
            self.data = self.data.transpose(0, 2, 3, 1)
            self.labels = [label for batch in batches for label in batch["labels"]]
            self.half = torch.full((3, 1, 1), 0.5)

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            image = torch.from_numpy(self.data[index]).permute(2, 0, 1).contiguous().float().div(255)
            return image.sub_(self.half).div_(self.half), self.labels[index]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.pool(F.relu(self.conv1(x)))
            x = self.pool(F.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    images = Images()
    loader = DataLoader(images, batch_size=4, shuffle=True, num_workers=2)
    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    running_loss, begun = 0.0, 0.0
    for number, (inputs, labels) in enumerate(loader):
        begun = begun or time.monotonic()  # the workers have started
        optimizer.zero_grad()
        loss = criterion(net(inputs), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if number % 2000 == 1999:
            running_loss = 0.0
    return (time.monotonic() - begun) / len(images)


def kit(folder: Path, **environment: str) -> float:
    """Return the seconds for each image."""
    outputs = folder / "outputs"
    command = [sys.executable, "-m", "train", "cifar10", "--epochs=1", "--cpu", "--no-wandb", f"--data-dir={folder}"]
    places = {"OUTPUT_PATH": str(outputs), "CHECKPOINT_DIRECTORY": str(folder / "checkpoints")}
    (outputs / "metrics.jsonl").unlink(missing_ok=True)
    subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **places, **environment}, check=True, stdout=subprocess.DEVNULL
    )
    return 1 / json.loads((outputs / "metrics.jsonl").read_text())["samples_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=FULL // 10)
    parser.add_argument("--plain", action="store_true", help="only the tutorial's program, in this process")
    options = parser.parse_args()
    if options.plain:
        print(plain(options.folder))
        return
    sys.path += [str(CHECKOUT), str(CHECKOUT / "tests/train")]
    import real_formats

    real_formats.write_cifar10(options.folder, per_batch=options.images // 5, test=100)
    this = [sys.executable, __file__, "--folder", str(options.folder), "--plain"]
    ways = {
        "the tutorial's program": lambda: float(subprocess.check_output(this)),
        "python -m train cifar10": lambda: kit(options.folder),
        "the same with OMP_NUM_THREADS=1": lambda: kit(options.folder, OMP_NUM_THREADS="1"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            times[name].append(FULL * way())
    first = next(iter(times.values()))
    print(f"\n| seconds for an epoch of 50,000 images, {options.rounds} rounds | median | fastest | slowest | ratio |")
    print("|---|---|---|---|---|")
    for name, mine in times.items():
        ratio = median(a / b for a, b in zip(mine, first))
        print(f"| {name} | {median(mine):.1f} | {min(mine):.1f} | {max(mine):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
