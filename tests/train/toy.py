"""A training program with all kinds of state, small enough to run many times."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from train.checkpoint import Checkpoints
from train.distributed import data_parallel
from train.environment import JobEnvironment
from train.metrics import MetricsTracker
from train.sampler import ResumableSampler

COUNT, EPOCHS, GLOBAL_BATCH = 53, 3, 12  # no rank's last batch has a single sample, which BatchNorm refuses


def model_of(kind: str, environment: JobEnvironment) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 33), nn.BatchNorm1d(33), nn.Dropout(0.2), nn.ReLU(), nn.Linear(33, 5))
    if kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (environment.world_size,))
        for layer in (model[0], model[4]):
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    return data_parallel(model, environment)


def digest(model: nn.Module) -> str:
    """Return a digest of all parameters and buffers, put together from their shards."""
    state = {name: v.full_tensor() if hasattr(v, "full_tensor") else v for name, v in model.state_dict().items()}
    content = b"".join(value.detach().numpy().tobytes() for value in state.values())
    return hashlib.sha256(content).hexdigest()


def train(environment: JobEnvironment, kind: str, stop_after: int = 0, workers: int = 0) -> dict[str, Any]:
    """Train from the newest checkpoint to the end, or for `stop_after` steps."""
    model = model_of(kind, environment)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=4)
    sampler = ResumableSampler(COUNT, environment, seed=3)
    tracker = MetricsTracker()
    torch.manual_seed(environment.rank)
    random.seed(environment.rank)
    numpy.random.seed(environment.rank)
    data = TensorDataset(torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(9)), torch.arange(COUNT))

    items = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    checkpoints = Checkpoints(environment, {**items, "sampler": sampler, "tracker": tracker})
    step = begun = checkpoints.resume()
    seen, noise, start = [], [], digest(model)
    for epoch in range(sampler.epoch, EPOCHS):
        with sampler.in_epoch(epoch):
            options = (
                {"num_workers": workers, "multiprocessing_context": "fork", "prefetch_factor": 4} if workers else {}
            )
            # Use a separate generator: a loader draws a number at each start, so once more after a resume.
            options["generator"] = torch.Generator()
            for x_BF, index_B in DataLoader(data, GLOBAL_BATCH // environment.world_size, sampler=sampler, **options):
                noise.append(random.random() + numpy.random.rand())
                loss = nn.functional.cross_entropy(model(x_BF * noise[-1]), index_B % 5)
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                scheduler.step()
                sampler.advance(len(index_B))
                tracker.update({"loss": loss}, len(index_B))
                seen += [(epoch, index) for index in index_B.tolist()]
                step += 1
                if step - begun == stop_after:
                    checkpoints.save(step)
                    assert checkpoints.wait()
                    return {"step": step, "begun": begun, "seen": seen, "start": start, "end": digest(model)}
    end = {"step": step, "begun": begun, "seen": seen, "noise": noise, "start": start, "end": digest(model)}
    return {**end, "means": tracker.means(), "lr": scheduler.get_last_lr(), "scale": scaler.get_scale()}
