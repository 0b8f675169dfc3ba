"""A sweep of W&B within one job: its trials one after the other, each on all ranks.

Of a sweep as an array of jobs, which go on after an interruption, see hpc/sweep.sh.
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
    """Create the sweep of config.sweep_config and run its trials. All ranks call it.

    A trial's checkpoints and outputs lie in a folder of the name of its run of W&B.

    Args:
        run: trains with a configuration, as train.loop.run.
        config: what the sweep leaves as it is.
        environment: this rank's place.
        device: of this rank.

    Returns:
        0; 1 when a trial failed or the sweep cannot be created, the same on every rank.
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
    """What the sweep has decided, of all that W&B's configuration holds."""
    return {name: values[name] for name in content["parameters"]}
