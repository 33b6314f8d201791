from __future__ import annotations

import pandas as pd
import pytest

from daskperiment.errors import CorruptRecordError, StoreWarning
from daskperiment.history.overview import ExperimentRow, experiment_row, experiments_frame
from tests.history.lab import ELSEWHERE, NOW

COLUMNS = ["Experiment", "Trials", "Succeeded", "Running", "Latest Finished", "Address"]


def test_experiment_row(lab):
    """An experiment is counted by how its trials ended."""
    lab.succeed(lab.begin(), 1, finished=NOW + 5)
    lab.succeed(lab.begin(), 2, finished=NOW + 1)
    lab.fail(lab.begin(), ValueError())
    lab.begin()
    lab.beat(lab.begin(origin=ELSEWHERE), NOW - 1000)
    expected = ExperimentRow("iris", "memory://lab", 5, 2, 1, NOW + 5)
    assert experiment_row("iris", lab.store) == expected


def test_experiment_without_end(lab):
    """An experiment in which nothing ended has no latest time."""
    assert experiment_row("iris", lab.store).trials == 0
    lab.begin()
    assert experiment_row("iris", lab.store).finished is None


def test_experiments_frame(lab):
    """The table has a row per experiment, sorted by name."""
    empty = experiment_row("wine", lab.store)
    lab.run(1)
    frame = experiments_frame([empty, experiment_row("iris", lab.store)])
    assert frame.columns.tolist() == COLUMNS
    assert frame["Experiment"].tolist() == ["iris", "wine"]
    assert frame["Trials"].tolist() == [1, 0]
    assert frame["Latest Finished"][0] == pd.Timestamp(NOW, unit="s", tz="UTC")
    assert pd.isna(frame["Latest Finished"][1])
    assert frame["Address"].tolist() == ["memory://lab"] * 2


def test_no_experiments():
    """Without experiments the columns are the same."""
    assert experiments_frame([]).columns.tolist() == COLUMNS


def test_experiment_that_cannot_be_read(lab):
    """A damaged experiment is a row without numbers and a warning."""

    def refuse(*arguments, **keywords):
        raise CorruptRecordError("page 7 is damaged")

    lab.store.read = refuse
    with pytest.warns(StoreWarning, match="'iris' cannot be read: page 7"):
        row = experiment_row("iris", lab.store)
    assert experiments_frame([row])["Trials"].isna().all()
