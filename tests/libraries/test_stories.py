"""The stories of users among the examples that need more than scikit-learn: they run, and hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import daskperiment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(name, folder):
    """Run an example in a folder, and return what it printed; it warns of no step."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")], cwd=folder, text=True,
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ImpureStepWarning" not in done.stderr
    return done.stdout


def opened(id, folder):
    return daskperiment.Experiment(id, backend=folder / "daskperiment_cache")


def test_figures_and_notes(tmp_path):
    """Three models have scores and figures without a line in the training; one is chosen."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    shown = run("figures_and_notes", tmp_path)
    ex = opened("figures-and-notes", tmp_path)
    history = ex.get_history(verbose=True)
    assert list(history["kind"]) == ["logistic", "forest", "svm"]
    assert [trial for trial in (1, 2, 3) if history.loc[trial, "Tags"]] == [ex.best("Result")]
    assert "Fewest mistakes" in history.loc[ex.best("Result"), "Notes"]
    for trial in (1, 2, 3):
        assert ex.load_metric("accuracy", trial)[trial].tolist() == [history.loc[trial, "Result"]]
        kept = ex.get_artifacts(trial).set_index("Name")["Format"]
        assert {"errors by size", "confusion matrix", "roc curve"} <= set(kept[kept == "png"].index)
    assert "Its f1 is 0.9" in shown


def test_pruned_search(tmp_path):
    """Trials that Optuna's callback pruned have their curves so far, the others whole ones."""
    for name in ("xgboost", "optuna_integration", "sklearn"):
        pytest.importorskip(name)
    shown = run("pruned_search", tmp_path)
    ex = opened("pruned-search", tmp_path)
    status = ex.get_history(verbose=True)["Status"]
    assert set(status) == {"succeeded", "pruned"}
    assert len(status) == 12
    curves = ex.load_metric("test-logloss", list(status.index)).count()
    assert (curves[status == "succeeded"] == 20).all()
    assert curves[status == "pruned"].between(4, 19).all()
    assert f"Trial {ex.best('Result', mode='min')} is the best" in shown
    assert ex.get_steps().query("Step == 'load'")["Reused From"].notna().sum() == 11


def test_frames(tmp_path):
    """Nothing is read a second time; after a change of one file only what takes it runs again."""
    pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    run("frames", tmp_path)
    shown = run("frames", tmp_path)
    assert "12 hot days" in shown
    week = tmp_path / "measurements" / "week2.csv"
    week.write_text(week.read_text().replace("lake,", "lake,9", 1))
    run("frames", tmp_path)
    ex = opened("frames", tmp_path)
    ran = ex.get_steps().query("`Reused From`.isna()").groupby("Trial ID")["Step"].agg(set)
    every = {"weeks", "stations", "hot_days", "monthly", "report"}
    assert ran.tolist() == [every, {"report"}, every - {"stations"}]
    assert ex.get_history()["Result"].tolist() == [12, 12, 13]
    assert list(ex.load("table", 3)["hot days"]) == [1, 2, 10]
