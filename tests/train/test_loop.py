from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import loop_toy
import pytest
import torch
from ranks import Ranks
from torch import nn

from train import loop
from train.environment import JobEnvironment
from train.parallel import Parallelism, ParallelismError, repeated_blocks, units_by_size


def train(world_size: int, folder: Path, **settings: object) -> dict:
    return Ranks(world_size, loop_toy.train, settings, folder=folder).results()[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Return the losses of one process that takes each batch in one piece."""
    done = train(1, tmp_path_factory.mktemp("alone"))
    assert done["status"] == 0
    assert len(done["losses"]) == 6
    assert done["losses"][-1] < done["losses"][0] - 0.1
    return done["losses"]


@pytest.mark.parametrize(
    ("world_size", "settings", "tolerance"),
    [
        (1, {"gradient_accumulation": 3}, 1e-5),
        (1, {"checkpoint_activations": True}, 1e-5),
        (1, {"workers": 1}, 1e-5),
        (2, {}, 1e-5),
        (2, {"gradient_accumulation": 2}, 1e-5),
        (2, {"parallelism": "fsdp", "shard_above": 100}, 1e-5),
        (2, {"parallelism": "fsdp", "shard_above": 1000, "gradient_accumulation": 3}, 1e-5),
        (3, {"parallelism": "fsdp", "checkpoint_activations": True}, 1e-5),
        (2, {"precision": "bfloat16"}, 3e-2),
        (2, {"parallelism": "fsdp", "precision": "bfloat16"}, 3e-2),
    ],
)
def test_the_same_losses_in_each_way(
    tmp_path: Path, alone: list[float], world_size: int, settings: dict, tolerance: float
) -> None:
    """All have the same global batches, whose samples have unequal weights; the tolerance is relative."""
    done = train(world_size, tmp_path, **settings)
    assert done["status"] == 0
    assert done["losses"] == pytest.approx(alone, rel=tolerance)
    if settings.get("precision"):
        assert done["losses"] != pytest.approx(alone, rel=1e-5)


def test_norms_with_statistics_under_fsdp_in_bfloat16(tmp_path: Path) -> None:
    """They refuse weights of bfloat16: "expected scalar type BFloat16 but found Float"."""
    for kept in Ranks(2, loop_toy.step_with_norm, folder=tmp_path).results():
        assert kept == ["torch.float32", "torch.bfloat16"]


@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(3, 3), nn.ReLU()), loop_toy.Block(3)])
def test_a_model_is_compiled(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    """Use the eager back-end, because inductor takes half a minute."""
    compiled = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", compiled)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    x_BF = torch.rand(2, 3)
    names, expected = list(model.state_dict()), model(x_BF)
    applied = Parallelism(compile=True).apply(model, JobEnvironment.from_environment({}), torch.device("cpu"))
    torch.testing.assert_close(applied(x_BF), expected)
    assert torch._dynamo.utils.counters["frames"]["ok"] >= 1
    assert list(applied.state_dict()) == names


def test_the_whole_model_is_saved_by_bare_names(tmp_path: Path) -> None:
    states = []
    for name, settings in (("ddp", {}), ("fsdp", {"parallelism": "fsdp", "shard_above": 100})):
        train(2, tmp_path / name, checkpoint_activations=name == "fsdp", **settings)
        (final,) = (tmp_path / name).rglob("final.pt")
        states.append(torch.load(final, weights_only=True))
    model = loop_toy.Toy(loop_toy.Config(), JobEnvironment.from_environment({}), torch.device("cpu")).model()
    model.load_state_dict(states[1])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)


def test_all_ranks_evaluate_with_the_statistics_of_rank_0(tmp_path: Path) -> None:
    shares = Ranks(2, loop_toy.evaluate_with_norm, folder=tmp_path).results()
    assert shares[0] == shares[1] == 1.0


def test_clipped_gradients_make_small_steps(tmp_path: Path, alone: list[float]) -> None:
    clipped = train(1, tmp_path, clip_gradients=1e-6)["losses"]
    assert clipped[0] == pytest.approx(alone[0])
    assert all(loss > other for loss, other in zip(clipped[2:], alone[2:]))


def test_a_dry_run_takes_one_step_and_saves_nothing(tmp_path: Path) -> None:
    done = train(2, tmp_path, dry_run=True, save_every=1)
    assert (done["status"], len(done["losses"])) == (0, 1)
    assert "dry run" in done["said"]
    assert not [
        path for path in tmp_path.rglob("*") if "step_" in path.name or path.name in ("final.pt", "result.json")
    ]


def test_the_cost_of_a_run(tmp_path: Path) -> None:
    done = train(1, tmp_path, rate_per_hour=3600.0)
    (result,) = (json.loads(path.read_text()) for path in tmp_path.rglob("result.json"))
    assert result["cost"] == pytest.approx(result["seconds"])
    assert done["said"].splitlines()[-1].endswith(f", cost {result['cost']:.4f}")


@pytest.mark.parametrize("count", [1, 5, 7])
def test_evaluation_counts_each_sample_once(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Simulate 1 to 5 ranks: all do the same number of forward passes, and the sums are those of a single process."""
    config, cpu = loop_toy.Config(test_batch_size=2), torch.device("cpu")
    task = loop_toy.Toy(config, JobEnvironment.from_environment({}), cpu)
    task.test_data = loop_toy.Tensors(*task.test_data[:count])
    torch.manual_seed(0)
    model = task.model()
    whole = loop.evaluate(task, model, Parallelism())
    assert whole["samples"] == count
    monkeypatch.setattr(loop, "sum_over_ranks", lambda share: share)
    for world_size in range(1, 6):
        shares, passes = [], []
        for rank in range(world_size):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
            environ = {name: str(value) for name, value in place.items()}
            environ.update(MASTER_ADDR="localhost", MASTER_PORT="20001")
            task.environment = JobEnvironment.from_environment(environ)
            calls: list[int] = []
            handle = model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
            shares.append(loop.evaluate(task, model, Parallelism()))
            handle.remove()
            passes.append(len(calls))
        assert len(set(passes)) == 1
        for name, total in whole.items():
            assert sum(share[name] for share in shares).item() == pytest.approx(total.item())


def test_units_of_fsdp_by_their_size() -> None:
    blocks = nn.Sequential(*[loop_toy.Block(16) for _ in range(2)])  # 1,104 parameters each
    model = nn.ModuleDict({"blocks": blocks, "head": nn.Linear(16, 11)})
    assert units_by_size(model, 1000) == list(blocks)
    assert units_by_size(model, 2000) == [blocks]
    assert units_by_size(model, 10_000) == []
    tied = nn.ModuleDict(
        {"in": nn.Embedding(100, 16), "out": nn.Linear(16, 100, bias=False), "more": nn.Linear(40, 40)}
    )
    tied["out"].weight = tied["in"].weight
    assert units_by_size(tied, 1000) == [tied["more"]]


def test_repeated_blocks() -> None:
    model = loop_toy.Toy(loop_toy.Config(), JobEnvironment.from_environment({}), torch.device("cpu")).model()
    assert repeated_blocks(model) == list(model[1])
    alone = JobEnvironment.from_environment({})
    with pytest.raises(ParallelismError, match="no repeated blocks"):
        Parallelism(checkpoint_activations=True).apply(nn.Linear(2, 2), alone, torch.device("cpu"))


def test_a_loss_that_is_no_number(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = loop_toy.train(
        JobEnvironment.from_environment({"OUTPUT_PATH": str(tmp_path), "CHECKPOINT_DIRECTORY": str(tmp_path)}),
        {"learning_rate": 1e30},
    )
    assert done["status"] == 1
    assert "in epoch 1: try a --learning-rate below 1e+30" in capfd.readouterr().err
    assert math.isfinite(done["losses"][0])


class Augmented(loop_toy.Toy):
    """Records the numbers of its generators: the augmentation's and the process's own."""

    drawn: list[tuple[float, float]]

    def augment(self, batch: object, generator: torch.Generator) -> object:
        self.drawn.append((torch.rand((), generator=generator).item(), torch.rand(()).item()))
        return batch


def test_any_seed_of_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seed gives other numbers, also if two seeds differ only in their higher bits."""
    monkeypatch.chdir(tmp_path)
    drawn, orders = [], []
    for seed in (0, 1, 2**24, 20261121, 2**32, 2**32 + 1, 2**63, 2**64 - 1):
        monkeypatch.setattr(Augmented, "drawn", [], raising=False)
        config = loop_toy.Config(seed=seed, epochs=1)
        environment = JobEnvironment.from_environment({"CHECKPOINT_DIRECTORY": str(tmp_path / str(seed))})
        assert loop.run(Augmented, config, environment, torch.device("cpu")) == 0
        assert len(set(Augmented.drawn)) == 3  # and each step has others
        drawn += Augmented.drawn
        orders.append((tmp_path / str(seed) / "final.pt").read_bytes())
    assert len({augmented for augmented, _ in drawn}) == len({own for _, own in drawn}) == len(drawn)
    assert len(set(orders)) == 8
