"""A network that processes of their own can import."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule

__all__ = ["SpawnedLine"]


class SpawnedLine(LightningModule):
    def __init__(self):
        super().__init__()
        self.save_hyperparameters({"rate": 0.1})
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, index):
        loss = ((self.layer(batch) - 1) ** 2).mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
