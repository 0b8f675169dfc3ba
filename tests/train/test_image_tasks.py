"""The tasks with images: their networks and settings, that they learn, and their messages for wrong data and flags.

test_tasks.py tests for all tasks that they train, and that they resume with the same bits.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import real_formats
import torch
from torch import nn

import train.loop
from train.config import parse
from train.data.idx import IdxError
from train.environment import JobEnvironment
from train.models.lamb import Lamb
from train.models.resnet import ResNet, decayed_but_norms
from train.tasks import cifar10, cifar100_resnet50, fashion_mnist, imagenet_resnet50, mnist

CPU = torch.device("cpu")
ALONE = JobEnvironment.from_environment({})


@pytest.mark.parametrize(
    ("make", "shape", "classes", "parameters"),
    [
        # These are the published numbers of parameters.
        (mnist.network, (1, 28, 28), 10, 1_199_882),
        (lambda: fashion_mnist.network(0.2), (1, 28, 28), 10, 34_740),
        (cifar10.cifarnet, (3, 32, 32), 10, 62_006),
        (cifar10.ResNet9, (3, 32, 32), 10, 6_573_120),
        (lambda: ResNet((3, 4, 6, 3), 1000), (3, 64, 64), 1000, 25_557_032),
        (lambda: ResNet((3, 4, 6, 3), 100, small_images=True), (3, 32, 32), 100, 23_705_252),
    ],
)
def test_networks(make, shape: tuple[int, ...], classes: int, parameters: int) -> None:
    model = make().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model(torch.zeros(2, *shape)).shape == (2, classes)


def test_resnet_halves_the_image_five_times_or_three() -> None:
    for small_images, side in ((False, 2), (True, 8)):
        model = ResNet((1, 1, 1, 1), 10, small_images=small_images, width=2).eval()
        seen: list[torch.Size] = []
        model.layer4.register_forward_hook(lambda *a, seen=seen: seen.append(a[2].shape))
        model(torch.zeros(1, 3, 64, 64))
        assert seen == [(1, 64, side, side)]


def test_neither_norms_nor_biases_are_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decayed, rest = decayed_but_norms(model, 0.1)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert {id(one) for one in decayed["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert len(decayed["params"]) + len(rest["params"]) == len(list(model.parameters()))


def test_lamb_by_hand() -> None:
    """Two steps of a matrix with one element, of a vector, and of a matrix of zeros."""
    matrix, vector, zeros = (nn.Parameter(torch.tensor(value)) for value in ([[2.0]], [2.0], [[0.0]]))
    optimizer = Lamb([matrix, vector, zeros], 0.1, betas=(0.5, 0.75), eps=0.0, weight_decay=0.25)
    for gradient in (1.0, -3.0):
        for parameter in (matrix, vector, zeros):
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        optimizer.zero_grad()
    # Step 1: moments 1 / 2 and 1 / 4, corrected 1 and 1; the update is 1 + 0.25 * 2 = 1.5.
    # The matrix moves by its own length, 2, times the rate; it has only one element.
    # Step 2: moments 0.25 - 1.5 = -1.25, corrected by 1 - 0.25, and 0.1875 + 2.25 = 2.4375, corrected by 1 - 0.5625.
    ratio = (-1.25 / 0.75) / math.sqrt(2.4375 / 0.4375)
    assert ratio + 0.25 * 1.8 < 0  # the sign of the matrix's second step
    assert matrix.item() == pytest.approx(1.8 + 0.1 * 1.8)
    first = 2 - 0.1 * 1.5
    assert vector.item() == pytest.approx(first - 0.1 * (ratio + 0.25 * first))
    # Zeros have no length: AdamW steps them to -0.1, and then they move by that length times the rate.
    assert zeros.item() == pytest.approx(-0.1 + 0.1 * 0.1)


def test_lamb_moves_each_matrix_by_its_length() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(scale * torch.randn(5, 7)) for scale in (0.01, 1.0, 100.0)]
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = Lamb(parameters, 0.02)
    for parameter in parameters:
        parameter.grad = torch.randn(5, 7)
    optimizer.step()
    for old, new in zip(before, parameters):
        assert ((new - old).norm() / old.norm()).item() == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("arguments", [{"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": -1e-9}, {"weight_decay": -0.1}])
def test_lamb_refuses(arguments: dict) -> None:
    with pytest.raises(ValueError, match="lamb cannot take"):
        Lamb([nn.Parameter(torch.zeros(1))], **arguments)


def test_settings_of_each_model_of_cifar10() -> None:
    def settings(*flags: str) -> tuple:
        config = parse(cifar10.Config, list(flags), "cifar10")
        return config.epochs, config.batch_size, config.learning_rate

    assert settings() == (10, 4, 1e-3)
    assert settings("--model=resnet") == (24, 512, 0.4)
    assert settings("--model=resnet", "--epochs=3", "--learning-rate=0.1") == (3, 512, 0.1)


@pytest.mark.parametrize(
    ("module", "argument", "message"),
    [
        (mnist, "--gamma=0", "--gamma must be above 0 and at most 1, not 0.0"),
        (fashion_mnist, "--dropout=1", "--dropout must be at least 0 and below 1, not 1.0"),
        (cifar10, "--model=vgg", "--model: invalid choice: 'vgg'"),
        (cifar10, "--momentum=1", "--momentum must be at least 0 and below 1, not 1.0"),
        (cifar10, "--epochs=-1", "--epochs must be at least 1, not -1"),
        (cifar10, "--width=0", "--width must be at least 1, not 0"),
        (cifar100_resnet50, "--label-smoothing=2", "--label-smoothing must be at least 0 and below 1, not 2.0"),
        (imagenet_resnet50, "--optimizer=adam", "--optimizer: invalid choice: 'adam'"),
        (imagenet_resnet50, "--mixup=-1", "--mixup must be at least 0, not -1.0"),
        (imagenet_resnet50, "--image-size=32", "--image-size must be at least 64, not 32"),
    ],
)
def test_refused_flags(capsys: pytest.CaptureFixture[str], module, argument: str, message: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(module.Config, [argument], "task")
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_mnist_of_another_size(tmp_path: Path) -> None:
    real_formats.write_mnist(tmp_path, size=20)
    for module in (mnist, fashion_mnist):
        with pytest.raises(IdxError, match="the train images are 20 x 20 pixels, not 28 x 28"):
            module.Task(module.Config(data_dir=tmp_path), ALONE, CPU)


def test_mnist_is_standardized_and_its_rate_falls_after_each_epoch(tmp_path: Path) -> None:
    real_formats.write_mnist(tmp_path)
    task = mnist.Task(mnist.Config(data_dir=tmp_path), ALONE, CPU)
    plain = fashion_mnist.Task(fashion_mnist.Config(data_dir=tmp_path), ALONE, CPU)
    assert torch.equal(task.test_data.tensors[0], (plain.test_data.tensors[0] - 0.1307) / 0.3081)
    optimizer = task.optimizer(task.model())
    schedule = task.schedule(optimizer, 6, 3)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 1, 1, 0.7, 0.7, 0.7])


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.0, 0.0), (0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixed_images_have_mixed_targets(tmp_path: Path, mixup: float, cutmix: float) -> None:
    real_formats.write_class_folders(tmp_path, classes=3, train=2, val=1)
    config = imagenet_resnet50.Config(data_dir=tmp_path, image_size=64, mixup=mixup, cutmix=cutmix)
    task = imagenet_resnet50.Task(config, ALONE, CPU)
    batch = (torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8), torch.tensor([0, 0, 1, 1, 2, 2]))
    images, targets = task.augment(batch, torch.Generator().manual_seed(5))
    again, _ = task.augment(batch, torch.Generator().manual_seed(5))
    assert torch.equal(images, again)
    if mixup == cutmix == 0:
        assert torch.equal(targets, batch[1])
    else:
        assert targets.shape == (6, 3)
        assert torch.allclose(targets.sum(1), torch.ones(6))
    assert math.isfinite(task.loss(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3)), (images, targets)).item())


@pytest.mark.parametrize(
    ("module", "write", "flags"),
    [
        (fashion_mnist, real_formats.write_mnist, {"epochs": 60, "learning_rate": 3e-3}),
        (mnist, real_formats.write_mnist, {"epochs": 3, "batch_size": 8}),
        (cifar10, real_formats.write_cifar10, {"epochs": 8, "learning_rate": 0.01}),
        (cifar10, real_formats.write_cifar10, {"model": "resnet", "width": 8, "epochs": 20, "batch_size": 10}),
    ],
    ids=["fashion_mnist", "mnist", "cifarnet", "resnet"],
)
def test_learns_patterns_under_noise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], module, write, flags: dict
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    config = module.Config(data_dir=tmp_path / "data", no_wandb=True, **flags)
    assert train.loop.run(module.Task, config, ALONE, CPU) == 0
    final = capsys.readouterr().out.splitlines()[-1]
    assert float(final.split()[2]) >= 0.5, final  # 0.1 by chance


def test_images_are_moved_and_mirrored_for_resnet_alone(tmp_path: Path) -> None:
    real_formats.write_cifar10(tmp_path, per_batch=2, test=2)
    for model, same in (("cifarnet", True), ("resnet", False)):
        task = cifar10.Task(cifar10.Config(data_dir=tmp_path, model=model), ALONE, CPU)
        images, labels = task.train_data.tensors
        moved, kept = task.augment((images, labels), torch.Generator().manual_seed(0))
        assert torch.equal(moved, images) == same
        assert torch.equal(kept, labels)
