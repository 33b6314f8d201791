"""Many experiments at a glance."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd
from msgspec import Struct

from daskperiment.errors import StoreError, StoreWarning
from daskperiment.history.columns import column, frame_of, moments
from daskperiment.history.reading import DAMAGED, fold, read_trials
from daskperiment.records import EndStatus, Failure
from daskperiment.store.protocol import Store

__all__ = ["ExperimentRow", "experiment_row", "experiments_frame"]


class ExperimentRow(NamedTuple):
    """What a list of experiments tells about one; numbers are ``None`` if it cannot be read."""

    experiment: str
    address: str
    trials: int | None = None
    succeeded: int | None = None
    running: int | None = None
    finished: float | None = None
    """When the latest trial to end did so, in seconds since the epoch."""


class _Begun(Struct, gc=False):
    """All that counting needs of how a trial began: that it did."""


class _Ended(Struct, gc=False):
    status: EndStatus
    finished: float
    elapsed: float
    failure: Failure | None = None


def experiment_row(experiment: str, store: Store) -> ExperimentRow:
    """Look at one experiment. One that cannot be read is warned of and hides no other."""
    try:
        return _outline(experiment, store)
    except StoreError as error:
        warnings.warn(
            f"Experiment {experiment!r} cannot be read: {error}", StoreWarning, stacklevel=2
        )
        return ExperimentRow(experiment, store.address)


def _outline(experiment: str, store: Store) -> ExperimentRow:
    found = fold(store, None, _Begun, _Ended, Failure)
    pending = found.begun.keys() - found.ended.keys()
    rest = read_trials(store, pending) if pending else {}
    ended = [found.ended[trial] for trial in found.begun.keys() & found.ended.keys()]
    finished = [end.finished for end in ended if end.finished != DAMAGED]
    return ExperimentRow(
        experiment=experiment,
        address=store.address,
        trials=len(found.begun),
        succeeded=sum(end.status == "succeeded" for end in ended),
        running=sum(trial.status == "running" for trial in rest.values()),
        finished=max(finished, default=None),
    )


def experiments_frame(rows: Iterable[ExperimentRow]) -> pd.DataFrame:
    """Make a table of experiments, sorted by name and address.

    Returns
    -------
    DataFrame
        Columns ``Experiment``, ``Trials``, ``Succeeded``, ``Running`` (dtype ``Int64``),
        ``Latest Finished`` (UTC) and ``Address``. What cannot be told is missing.
    """
    each = sorted(rows, key=lambda row: (row.experiment, row.address))
    index = pd.RangeIndex(len(each))

    def counts(name: str) -> pd.Series:
        return pd.Series([getattr(row, name) for row in each], index=index, dtype="Int64")

    finished = [math.nan if row.finished is None else row.finished for row in each]
    columns = [
        ("Experiment", column([row.experiment for row in each], index)),
        ("Trials", counts("trials")),
        ("Succeeded", counts("succeeded")),
        ("Running", counts("running")),
        ("Latest Finished", moments(finished, index)),
        ("Address", column([row.address for row in each], index)),
    ]
    return frame_of(columns, index)
