"""An experiment as tables that other tools read: one Parquet file for each.

::

    <folder>/
        daskperiment.json    which experiment this is
        history.parquet      a row for each trial
        metrics.parquet      a row for each point of a metric
        steps.parquet        a row for each step run
        artifacts.parquet    a row for each artifact
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from daskperiment.cli import output
from daskperiment.cli.listings import check_parquet, write_parquet
from daskperiment.cli.lookup import find, store_of
from daskperiment.cli.maintenance import prepare_folder
from daskperiment.codec import PointRecord
from daskperiment.experiment import Experiment
from daskperiment.history.stored_values import viewed
from daskperiment.history.trial_records import intact
from daskperiment.records import Point
from daskperiment.store.protocol import Store

__all__ = ["export_tables"]


class _TimedPoints(PointRecord[Point], gc=False):
    """The points of a batch, with their times."""


def export_tables(backend: str | None, id: str, folder: Path) -> None:
    """Write history, metrics, steps and artifacts of an experiment to a folder, as Parquet."""
    experiment, store = find(backend, id), store_of(backend, id)
    check_parquet(folder)
    prepare_folder(folder, id)
    rows = []
    for name, frame in _tables(experiment, store):
        frame = frame.loc[:, ~frame.columns.duplicated(keep="last")]
        frame.columns = pd.Index([str(column) for column in frame.columns], dtype=object)
        write_parquet(frame, list(frame.columns), folder / f"{name}.parquet")
        rows.append(f"{len(frame)} {'row' if len(frame) == 1 else 'rows'} of {name}")
    output.print_text(f"{', '.join(rows)} written to {folder}.")


def _tables(experiment: Experiment, store: Store) -> Iterator[tuple[str, pd.DataFrame]]:
    history = experiment.get_history(
        verbose=True, running=True, archived=True, expand=True, metrics=True
    )
    yield "history", history.reset_index()
    yield "metrics", _points(store)
    yield "steps", experiment.get_steps().reset_index(drop=True)
    yield "artifacts", experiment.get_artifacts().reset_index(drop=True)


def _points(store: Store) -> pd.DataFrame:
    """Return all points of all trials; what is no number stands as text beside the numbers."""
    rows = [
        (trial, point.metric, *_cell(point.epoch, store), *_cell(point.value, store), point.time)
        for trial, batch in intact(store.read("points"), _TimedPoints)
        for point in batch.each()
    ]
    names = ["Trial ID", "Metric", "Epoch", "Epoch Text", "Value", "Value Text", "Time"]
    frame = pd.DataFrame(rows, columns=names, dtype=object)  # texts may hold half characters
    types = {"Trial ID": "int64", "Metric": "str", "Epoch": "Float64", "Value": "Float64"}
    frame = frame.astype(types)
    frame["Time"] = pd.to_datetime(frame["Time"].astype(float), unit="s", utc=True)
    return frame


def _cell(form: Any, store: Store) -> tuple[float | None, str | None]:
    """Return a value as a number or, where it is none, as text."""
    value = viewed(form, store)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value), None
    return None, output.exact(value)
