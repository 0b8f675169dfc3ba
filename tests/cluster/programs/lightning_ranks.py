"""Trains a tiny model with Lightning's own trainer. Each rank writes what the trainer found to OUTPUT_PATH/rank_N.json.

lightning_ranks.py --num_nodes N --gpus N
"""

import argparse
import json
import os
from pathlib import Path

import lightning
import torch


class Tiny(lightning.LightningModule):
    """Learns its own rank's number: without the exchange of gradients every rank would end with other weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return ((self.layer(batch) - self.global_rank) ** 2).mean()

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(torch.ones(16, 1), batch_size=2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_nodes", type=int, required=True)
    parser.add_argument("--gpus", type=int, required=True)
    arguments = parser.parse_args()
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(
        num_nodes=arguments.num_nodes,
        devices=arguments.gpus,
        accelerator="cpu",
        strategy="ddp",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Tiny()
    trainer.fit(model)
    cluster = trainer.strategy.cluster_environment
    found = {
        "cluster": type(cluster).__name__,
        "head": cluster.main_address,
        "port": cluster.main_port,
        "rank": trainer.global_rank,
        "local_rank": trainer.local_rank,
        "node_rank": trainer.node_rank,
        "world_size": trainer.world_size,
        "steps": trainer.global_step,
        "weight": model.layer.weight.item(),
        "environment": dict(os.environ),
    }
    path = Path(os.environ["OUTPUT_PATH"]) / f"rank_{trainer.global_rank}.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True))


main()
