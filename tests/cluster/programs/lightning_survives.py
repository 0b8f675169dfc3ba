"""Lightning's own trainer, made resumable by train/lightning_callback.py. Prints each step's loss.

lightning_survives.py STEPS [NODES DEVICES]   With several ranks each step takes a while, so that it can be interrupted.
"""

import sys
import time
from pathlib import Path

import lightning
import torch

from train.lightning_callback import Survive


class Tiny(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = (self.layer(batch) - batch.sum(1, keepdim=True)).square().mean()
        if self.trainer.world_size > 1:
            time.sleep(0.1)
        print(f"batch {batch_idx} step {self.global_step + 1} loss {loss.item():.9g}", flush=True)
        return loss

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        data = torch.rand(48, 4, generator=torch.Generator().manual_seed(0))
        return torch.utils.data.DataLoader(data, batch_size=4)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


steps, nodes, devices = (*map(int, sys.argv[1:]), 1, 1)[:3]
lightning.seed_everything(0, verbose=False)
survive = Survive()
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
place = {"accelerator": "cpu", "devices": devices, "num_nodes": nodes, "strategy": "ddp" if nodes > 1 else "auto"}
trainer = lightning.Trainer(callbacks=[survive], max_steps=steps, **place, **quiet)
model = Tiny()
trainer.fit(model, ckpt_path=survive.newest())
if trainer.is_global_zero and nodes == 1:
    torch.save(model.state_dict(), Path("ckpt.pt"))
