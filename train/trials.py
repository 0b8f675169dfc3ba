"""Runs a W&B sweep within one job: its trials one after the other, each on all ranks.

hpc/sweep.sh runs a sweep as an array of jobs, which continue after an interruption.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, TypeVar

import torch
import yaml

from .config import TrainingConfig, updated
from .distributed import failed_anywhere
from .distributed_wandb import DistributedWandb, DistributedWandbError
from .environment import JobEnvironment

ConfigType = TypeVar("ConfigType", bound=TrainingConfig)


def sweep(run: Callable[..., int], config: ConfigType, environment: JobEnvironment, device: torch.device) -> int:
    """Create the sweep of config.sweep_config and run its trials. All ranks must call it.

    Checkpoints and outputs of a trial are in a folder named after its W&B run.

    Args:
        run: trains with a configuration, as train.loop.run does.
        config: the settings that the sweep does not change.
        environment: rank and folders of this process.
        device: device of this rank.

    Returns:
        The exit status, the same on every rank: 0, or 1 if a trial failed or the sweep cannot be created.
    """
    problem, content = None, None
    try:
        content = yaml.safe_load(config.sweep_config.read_text(encoding="utf-8")) if config.sweep_config else None
        if not isinstance(content, dict) or "parameters" not in content:
            raise ValueError("no sweep: a mapping with `method` and `parameters` is needed")
        for name in content["parameters"]:
            updated(config, {name: getattr(config, str(name).replace("-", "_"), None)}, "parameters")
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = f"--sweep-config {config.sweep_config}: {' '.join(str(error).split())}"
    if failed_anywhere(problem, environment) or content is None:
        return 1
    wandb = DistributedWandb(
        environment,
        no_wandb=config.no_wandb,
        all_processes=config.wandb_all_processes,
        project=config.wandb_project,
        group=config.wandb_group,
    )
    statuses = []

    def trial() -> None:
        wandb.init()
        ours = updated(config, {**_chosen(wandb.config, content), "sweep": False, "sweep_config": None}, "the sweep")
        name = str(wandb.run_id)
        place = dataclasses.replace(
            environment,
            checkpoint_directory=environment.checkpoint_directory / name,
            output_directory=environment.output_directory / name,
        )
        statuses.append(run(ours, place, device, trial=wandb))

    try:
        count = wandb.agent(wandb.sweep(content), trial)
    except DistributedWandbError as error:
        failed_anywhere(str(error), environment)
        return 1
    if environment.rank == 0:
        print(f"{count} trials, {sum(status != 0 for status in statuses)} of them not finished", flush=True)
    return max(statuses, default=0)


def _chosen(values: Any, content: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return the values that the sweep has chosen, from all values of W&B's configuration."""
    return {name: values[name] for name in content["parameters"]}
