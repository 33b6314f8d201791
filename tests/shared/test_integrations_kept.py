"""What libraries for training report is kept by each store, as what steps save themselves."""

from __future__ import annotations

import copy
import math
import multiprocessing
import tempfile
from pathlib import Path

import pytest

import daskperiment
from daskperiment.integrations.step_report import StepReport

optuna = pytest.importorskip("optuna")


def test_a_study_in_a_step(place, tmp_path):
    """Values, intermediate values and the table of an Optuna study are in the store that asked."""
    from daskperiment.integrations.optuna import OptunaCallback

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ex = daskperiment.Experiment("studied", backend=place.backend)

    def objective(trial):
        x = trial.suggest_float("x", -1, 1)
        for step in range(3):
            trial.report(x + step, step)
        return x * x

    @ex.result
    def search():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(objective, n_trials=3, callbacks=[OptunaCallback("a/")])
        report = StepReport("b/")
        report.series("loss", [(epoch, 1 / (epoch + 1), 1e9 + epoch) for epoch in range(4)])
        report.points({"odd": math.nan, "text": "no number"}, 0)
        report.settings("settings", {"rate": 0.1, "far": math.inf})
        return [trial.value for trial in study.trials]

    values = search().compute(scheduler="threads")
    again = daskperiment.Experiment("studied", backend=place.backend)
    assert again.load_metric("a/value", 1)[1].tolist() == values
    assert len(again.load_metric("a/trial 2", 1)) == 3
    assert again.load("a/study", 1)["value"].tolist() == values
    assert again.load_metric("b/loss", 1)[1].tolist() == [1.0, 1 / 2, 1 / 3, 1 / 4]
    assert math.isnan(again.load_metric("b/odd", 1).loc[0, 1])
    assert "b/text" not in again.get_metrics(1)
    assert again.load("b/settings", 1) == {"rate": 0.1, "far": "inf"}


def tell(report):
    """Report from another process, and end before the last word is out."""
    step, trial = report.place
    report.points({"loss": 0.5, "trial": trial}, 1)
    report.settings("settings", {"step": step})
    report.points({"loss": 0.25}, 2)


def test_a_process_that_a_step_starts(tmp_path, monkeypatch):
    """What it reports is the step's, with the times at which it did; no file of it stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "told"))
    (tmp_path / "told").mkdir()
    ex = daskperiment.Experiment("processes", backend=tmp_path / "store")

    @ex.result
    def train():
        report = StepReport("a/")
        copy.deepcopy(report).points({"loss": 1.0}, 0)
        process = multiprocessing.get_context("spawn").Process(target=tell, args=(report,))
        process.start()
        process.join()
        with open(next(Path(tempfile.gettempdir()).glob("daskperiment-*")), "ab") as file:
            file.write(b"\x80\x05")  # as a process leaves it that is killed
        return process.exitcode

    assert train().compute(scheduler="threads") == 0
    assert ex.load_metric("a/loss", 1)[1].tolist() == [1.0, 0.5, 0.25]
    assert ex.load_metric("a/trial", 1).loc[1, 1] == 1
    assert ex.load("a/settings", 1) == {"step": "train"}
    assert list((tmp_path / "told").iterdir()) == []
