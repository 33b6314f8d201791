"""Ten scripts, each in the manner of a library's first tutorial, are recorded by a few lines.

``scripts/plain`` has them as their authors would write them, ``scripts/recorded`` as they are
recorded.
"""

from __future__ import annotations

import difflib
import os
import re
import runpy
from pathlib import Path

import pytest

import daskperiment

os.environ.setdefault("KERAS_BACKEND", "torch")

pytestmark = [
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in
      ("UserWarning", "FutureWarning", "DeprecationWarning", "PendingDeprecationWarning")),
    pytest.mark.filterwarnings("error::daskperiment.errors.DaskperimentWarning"),
]  # fmt: skip

SCRIPTS = Path(__file__).with_name("scripts")
NAMES = sorted(path.stem for path in (SCRIPTS / "plain").glob("*.py"))
LIBRARY = {name: name.partition("_")[0] for name in NAMES}

# The metrics of each, with the number of their points; kept artifacts stand beside them.
EXPECTED = {
    "jax_loop": ({"loss": 5}, set()),
    "keras_dense": (
        {"loss": 3, "accuracy": 3, "val_loss": 3, "val_accuracy": 3, "test_loss": 1,
         "test_accuracy": 1},
        {"optimizer", "layers"},
    ),
    "lightgbm_train": ({"valid_0 auc": None}, {"booster settings", "importance"}),
    "lightning_autoencoder": ({"train_loss": 8}, set()),
    "optuna_study": ({"value": 5}, {"study", "best parameters"}),
    "sklearn_iris": (
        {"accuracy_score": 1, "test_score": 5, "fit_time": 5, "score_time": 5},
        {"Pipeline parameters", "cross validation"},
    ),
    "sklearn_search": (
        {"best score": 1, "accuracy": 1, "f1": 1},
        {"GridSearchCV parameters", "search", "best parameters", "confusion matrix"},
    ),
    "torch_loop": ({"loss": 5, "accuracy": 5}, set()),
    "transformers_trainer": (
        {"loss": 4, "eval_loss": 2},
        {"training arguments", "model configuration"},
    ),
    "xgboost_train": ({"train-auc": 4, "eval-auc": 4}, {"booster settings", "importance"}),
}  # fmt: skip


def changed(name: str) -> list[str]:
    """Return the lines of a recorded script that are not in the plain one, but for empty lines."""
    plain, recorded = ((SCRIPTS / kind / f"{name}.py").read_text("utf-8").splitlines()
                       for kind in ("plain", "recorded"))  # fmt: skip
    lines = [line for line in difflib.ndiff(plain, recorded) if line[:2] in ("+ ", "- ")]
    added = [line for line in lines if line[0] == "+" and line[2:].strip()]
    removed = [line for line in lines if line[0] == "-" and line[2:].strip()]
    assert len(added) >= len(removed)  # a changed line is both
    return added


def printed(capsys) -> str:
    """Return what was printed, but for what transformers prints itself, with its times."""
    lines = capsys.readouterr().out.splitlines()
    return "\n".join(line for line in lines if not line.startswith("{"))


def test_there_are_ten():
    """Each of ten scripts stands in both folders and in the table."""
    assert len(NAMES) == 10
    assert NAMES == sorted(EXPECTED) == sorted(p.stem for p in (SCRIPTS / "recorded").glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_five_lines_at_most(name):
    """At most five lines of a script are added or changed."""
    assert 1 <= len(changed(name)) <= 5, changed(name)


@pytest.fixture(autouse=True)
def turned_off(monkeypatch):
    """Turn off what scripts turn on: they end with their process."""
    turn_on, handles = daskperiment.Experiment.autolog, []

    def autolog(self, *libraries):
        handles.append(turn_on(self, *libraries))
        return handles[-1]

    monkeypatch.setattr(daskperiment.Experiment, "autolog", autolog)
    yield
    for handle in handles:
        handle.off()


@pytest.mark.parametrize("name", NAMES)
def test_all_its_metrics_are_there(name, tmp_path, monkeypatch, capsys):
    """A recorded script prints what it printed before, and each such number is a point."""
    pytest.importorskip(LIBRARY[name])
    pytest.importorskip("matplotlib")  # which draws some of the artifacts
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(SCRIPTS / "plain" / f"{name}.py"), run_name="__main__")
    before = printed(capsys)
    runpy.run_path(str(SCRIPTS / "recorded" / f"{name}.py"), run_name="__main__")
    assert printed(capsys) == before
    ex = daskperiment.Experiment(name)
    metrics, artifacts = EXPECTED[name]
    points = {metric: ex.load_metric(metric, 1)[1] for metric in ex.get_metrics(1)}
    for metric, count in metrics.items():
        assert len(points[metric]) == (count or len(re.findall(r"\d\.\d{4}", before)))
    saved = {f"{value:.4f}" for series in points.values() for value in series}
    numbers = set(re.findall(r"\b\d+\.\d{4}\b", before))
    assert len(numbers) > 1
    assert numbers <= saved
    assert artifacts <= set(ex.get_artifacts(1)["Name"])
