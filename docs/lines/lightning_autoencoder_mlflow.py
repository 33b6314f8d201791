"""In the manner of Lightning in 15 minutes."""

import logging

import mlflow
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn, utils

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
mlflow.autolog()


class LitAutoEncoder(LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 16))

    def training_step(self, batch, batch_idx):
        x_hat = self.decoder(self.encoder(batch))
        loss = nn.functional.mse_loss(x_hat, batch)
        self.log("train_loss", loss)
        print(f"train_loss {loss:.4f}")
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main():
    torch.manual_seed(0)
    train_loader = utils.data.DataLoader(torch.rand(32, 16), batch_size=8)
    trainer = Trainer(
        max_epochs=2, log_every_n_steps=1, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model=LitAutoEncoder(), train_dataloaders=train_loader)


if __name__ == "__main__":
    main()
