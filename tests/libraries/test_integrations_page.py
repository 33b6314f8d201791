"""The examples of docs/integrations.rst run as they stand, and add few lines to a training."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import daskperiment
from tests.libraries.small_models import (
    boosting_data,
    lightning_parts,
    transformers_trainer,
)

for name in ("torch", "sklearn", "matplotlib"):
    pytest.importorskip(name)

os.environ.setdefault("KERAS_BACKEND", "torch")

pytestmark = [
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in
      ("UserWarning", "FutureWarning", "DeprecationWarning", "PendingDeprecationWarning")),
    pytest.mark.filterwarnings("error::daskperiment.errors.DaskperimentWarning"),
]  # fmt: skip

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.rst").read_text(encoding="utf-8")
BLOCKS = [
    re.sub("^    ", "", text, flags=re.MULTILINE).strip()
    for text in re.findall(r"code-block:: python\n\n((?:    .*\n|\n)+)", PAGE)
]
# What stands there for each: the library, a metric that its trial has, and an artifact.
EXPECTED = [
    ("sklearn", "accuracy", "confusion matrix"),
    ("lightning", "train_loss", None),
    ("transformers", "loss", "model configuration"),
    ("keras", "loss", "layers"),
    ("xgboost", "train-rmse", "importance"),
    ("lightgbm", "training l2", "importance"),
    ("optuna", "value", "study"),
    ("optuna", "loss", None),
    ("tensorboard", "loss", None),
]


def test_each_example_is_expected():
    """The page has as many examples as this table, in its order, each of at most ten lines."""
    assert len(BLOCKS) == len(EXPECTED)
    for block, (library, _, _) in zip(BLOCKS, EXPECTED, strict=True):
        assert f"from daskperiment.integrations.{library} import" in block
        assert len([line for line in block.splitlines() if line.strip()]) <= 10, block


@pytest.mark.parametrize("block", BLOCKS)
def test_two_lines_are_added(block):
    """Besides the step, an example has two lines for the record, the import included."""
    names = re.search(r"integrations\.\w+ import (\w+)", block)
    assert names is not None
    assert len([line for line in block.splitlines() if names[1] in line]) == 2


@pytest.mark.parametrize("number", range(len(EXPECTED)), ids=lambda n: f"{n}-{EXPECTED[n][0]}")
def test_examples_run(number, tmp_path, monkeypatch):
    """What the example trains is recorded, with the metric and the artifact that the page names."""
    library, metric, artifact = EXPECTED[number]
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    ex = daskperiment.Experiment("training")
    X, y = boosting_data()
    names = {"ex": ex, "X": X, "y": y}
    if library == "lightning":
        _, model, rows = lightning_parts(False, tmp_path)
        names.update(model=model, rows=rows)
    if library == "transformers":
        trainer = transformers_trainer(tmp_path, "none", [])
        names.update(model=trainer.model, rows=trainer.train_dataset)
    if library == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter("runs") as writer:
            writer.add_scalar("loss", 0.5, 0)
    exec(compile(BLOCKS[number], "page.py", "exec"), names)
    if "objective" in names:
        import optuna

        study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=0.5))
        study.optimize(names["objective"], n_trials=3)
    else:
        step = next(names[name] for name in ("fit", "search", "imported") if name in names)
        step().compute(scheduler="synchronous")
    assert metric in ex.get_metrics(1)
    if artifact is not None:
        assert artifact in set(ex.get_artifacts(1)["Name"])
