"""Models and data as small as libraries for training take them; nothing is downloaded."""

from __future__ import annotations

import numpy as np

__all__ = ["boosting_data", "lightning_parts", "transformers_trainer"]


def boosting_data():
    """Return 60 rows of three features, of which the first one tells the label most often."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, (X[:, 0] + rng.normal(scale=0.5, size=60) > 0).astype(int)


def lightning_parts(logger, folder, **options):
    """Return a trainer for two epochs of two steps, a module and its data."""
    import torch
    from lightning.pytorch import LightningModule, Trainer

    class Line(LightningModule):
        def __init__(self, rate, sizes):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(*sizes)

        def training_step(self, batch, index):
            loss = ((self.layer(batch) - 1) ** 2).mean()
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, index):
            self.log("val_loss", ((self.layer(batch) - 1) ** 2).mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)

    trainer = Trainer(
        max_epochs=2, logger=logger, log_every_n_steps=1, default_root_dir=folder,
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, **options,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=4)
    return trainer, Line(rate=0.1, sizes=[2, 1]), data


def transformers_trainer(folder, report_to, callbacks):
    """Return a Trainer for two epochs of two steps with a BERT of a few hundred weights."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(1)
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=8,
    )  # fmt: skip
    rows = [{"input_ids": torch.tensor([1, 2, 3, i]), "labels": torch.tensor(i % 2)}
            for i in range(8)]  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=2, per_device_train_batch_size=4,
        logging_steps=2, eval_strategy="epoch", save_strategy="no", report_to=report_to,
        use_cpu=True, disable_tqdm=True, seed=1,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    return Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows,
                   callbacks=callbacks)  # fmt: skip
