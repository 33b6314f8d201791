"""Stores that earlier versions wrote stay readable."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path

import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import EnvironmentChangedWarning

DATA = Path(__file__).with_name("data")


@pytest.fixture(params=["format1"])
def sample(request, tmp_path):
    """Open a copy of a stored sample."""
    shutil.copytree(DATA / request.param, tmp_path / "store")
    return daskperiment.Experiment("sample", backend=tmp_path / "store")


def test_history(sample):
    """Every column of every trial is as it was written."""
    history = sample.get_history(verbose=True)
    assert history.index.tolist() == [1, 2, 3]
    assert history["lr"].iloc[0] == 0.5
    assert pd.isna(history["lr"].iloc[1])
    assert history["lr"].iloc[2] == 10**30
    assert history["Seed"].tolist() == [1, 2, 3]
    assert history["Status"].tolist() == ["succeeded", "failed", "interrupted"]
    assert history["Result"].iloc[0] == {"score": (1, 2)}
    assert history["Description"].iloc[1] == "ValueError(bad)"
    assert history["Finished"].iloc[0] == pd.Timestamp(1_750_000_002, unit="s", tz="UTC")
    assert history["Process Time"].tolist() == [pd.Timedelta(seconds=1)] * 3
    assert history[["Host", "User", "Git Commit"]].iloc[0].tolist() == ["host", "user", "c0ffee"]


def test_everything_else(sample):
    """Steps, metrics, persisted values, code and environment are as they were written."""
    assert sample.get_steps(1)["Output Fingerprint"].tolist() == ["1" * 32]
    metric = sample.load_metric("loss", 1)[1]
    assert metric.iloc[0] == 1.5
    assert pd.isna(metric.iloc[1])
    assert sample.get_persisted("prepare", 2) == OrderedDict(a=1.5)
    assert "def prepare(lr)" in sample.get_code(1)
    assert sample.get_python_packages(3) == "numpy==2.0.0"
    assert "prepare" in sample.compare(1, 2).explanation


def test_it_goes_on(sample):
    """A new trial in an old store gets the next id."""

    @sample.result
    def one():
        return 1

    with pytest.warns(EnvironmentChangedWarning, match=r"numpy 2\.0\.0 -> .* and \d+ more$"):
        one().compute()
    assert sample.get_history().index.tolist() == [1, 2, 3, 4]
