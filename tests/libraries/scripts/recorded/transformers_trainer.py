"""In the manner of the fine-tuning tutorial of transformers, without its downloads."""

import tempfile

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

import daskperiment

ex = daskperiment.Experiment("transformers_trainer")
ex.autolog("transformers")


def main():
    set_seed(1)
    dataset = [{"input_ids": torch.tensor([1, 2, 3, i]), "labels": torch.tensor(i % 2)}
               for i in range(16)]  # fmt: skip
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=8,
    )  # fmt: skip
    training_args = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=2, eval_strategy="epoch",
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=BertForSequenceClassification(config), args=training_args,
        train_dataset=dataset, eval_dataset=dataset,
    )  # fmt: skip
    trainer.train()
    for entry in trainer.state.log_history:
        for name in ("loss", "eval_loss"):
            if name in entry:
                print(f"step {entry['step']}: {name} {float(entry[name]):.4f}")


if __name__ == "__main__":
    ex.result(main)().compute()
