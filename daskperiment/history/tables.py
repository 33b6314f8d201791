"""The history of an experiment, as a DataFrame."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import pandas as pd
from msgspec import Struct

from daskperiment.codec import find_record
from daskperiment.history.columns import column, durations, frame_of, moments, objects
from daskperiment.history.stored_values import MISSING, viewed, viewed_all
from daskperiment.history.trial_records import (
    DAMAGED,
    Fold,
    RecordedTrial,
    fold,
    read_trials,
    trial_or_raise,
)
from daskperiment.records import Begun, EndStatus, Environment
from daskperiment.store.protocol import Store

__all__ = ["get_history", "get_parameters"]


class _GivenParameters(Struct, gc=False):
    """What the short history needs of how a trial began."""

    parameters: dict[str, Any]
    sweep: str | None = None
    unreached: list[str] = []


class _ShortFailure(Struct, gc=False):
    """What the history needs of a failure: no traceback, which may be long."""

    type: str
    description: str


class _TrialEnd(Struct, gc=False):
    """What the history needs of how a trial ended."""

    status: EndStatus
    finished: float
    elapsed: float
    type: str | None = None
    value: Any = None
    failure: _ShortFailure | None = None


class _Rows(NamedTuple):
    """The rows of a history, as one list per field."""

    trials: list[int]
    begun: list[Any]
    ended: list[Any]
    """``None`` for a trial without an end."""
    parameters: list[dict[str, Any]]
    endless: dict[int, RecordedTrial]
    """The trials without an end."""

    @property
    def statuses(self) -> list[str]:
        """How each trial ended, or how it stands."""
        ends = zip(self.trials, self.ended, strict=True)
        return [self.endless[trial].status if end is None else end.status for trial, end in ends]


def get_parameters(store: Store, trial_id: int) -> dict[str, Any]:
    """Return the parameters that a trial ran with; what is no plain data is a `StoredObject`."""
    trial = trial_or_raise(store, trial_id)
    return {name: viewed(data, store) for name, data in trial.parameters.items()}


def get_history(
    store: Store, order: Sequence[str], verbose: bool = False, running: bool = False,
    trials: Collection[int] | None = None, sweep: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return a table of the trials that ended, one row each, sorted by trial id.

    It is that of :meth:`Experiment.get_history`, for the trials of one sweep or some trials only.
    `order` names the declared parameters; others that trials had follow them. Nothing is unpickled:
    a value that is not plain data is a :class:`StoredObject`. Trials that still run are no success
    yet, and have neither result nor finishing time. A parameter that a trial did not have, or that
    reached none of its steps, is missing in its row; integers stay integers then, in a column of
    dtype ``Int64``. The result of a trial that did not succeed is NaN.
    """
    rows = _rows(store, Begun if verbose else _GivenParameters, running, trials, sweep)
    index = pd.Index(rows.trials, dtype="int64", name="Trial ID")
    columns = [
        *_parameters(rows, order, index, store),
        *_outcomes(rows, index, store, verbose),
        *(_circumstances(rows, index, store) if verbose else ()),
    ]
    return frame_of(columns, index)


def _rows(
    store: Store, begun_type: type[Any], running: bool,
    trials: Collection[int] | None, sweep: str | None,
) -> _Rows:  # fmt: skip
    found = fold(store, trials, begun_type, _TrialEnd, _ShortFailure)
    if sweep is not None:
        begun = {id: one for id, one in found.begun.items() if one.sweep == sweep}
        found = Fold(begun, found.ended, found.computed)
    pending = found.begun.keys() - found.ended.keys()
    # Judging those without an end takes all of their records; there are few of them.
    rest = read_trials(store, pending) if pending else {}
    endless = {id: trial for id, trial in rest.items() if trial.ended is None}
    late: dict[int, Any] = {id: trial.ended for id, trial in rest.items() if trial.ended}
    ended = found.ended | late
    listed = {id for id, trial in endless.items() if running or trial.status == "lost"}
    shown = sorted(id for id in found.begun if id in ended or id in listed)
    return _Rows(
        trials=shown, begun=[found.begun[id] for id in shown],
        ended=[ended.get(id) for id in shown],
        parameters=_reaching(found, shown), endless=endless,
    )  # fmt: skip


def _reaching(found: Fold[Any, Any], trials: Iterable[int]) -> list[dict[str, Any]]:
    """Return for each trial the parameters that reached its steps."""
    every = [found.parameters(trial) for trial in trials]
    hidden = [found.begun[trial].unreached for trial in trials]
    if not any(hidden):
        return every
    pairs = zip(every, hidden, strict=True)
    return [
        {name: each[name] for name in each if name not in names} if names else each
        for each, names in pairs
    ]


# Columns ---------------------------------------------------------------------------------------

_Columns = list[tuple[str, pd.Series]]


def _parameters(rows: _Rows, order: Sequence[str], index: pd.Index, store: Store) -> _Columns:
    shapes = dict.fromkeys(map(tuple, rows.parameters))
    names = dict.fromkeys([*order, *(name for shape in shapes for name in shape)])
    return [(name, column(viewed_all(_values(rows, name), store), index)) for name in names]


def _values(rows: _Rows, name: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), rows.parameters))
    except KeyError:
        return [parameters.get(name, MISSING) for parameters in rows.parameters]


def _outcomes(rows: _Rows, index: pd.Index, store: Store, verbose: bool) -> _Columns:
    results = column(viewed_all([_result(end) for end in rows.ended], store), index, nullable=False)
    columns = [("Result", results)]
    if verbose:
        seeds = column([begun.seed for begun in rows.begun], index)
        types = objects(list(map(_result_type, rows.ended)), index)
        steps = column([begun.result for begun in rows.begun], index)
        columns = [("Step", steps), ("Seed", seeds), *columns, ("Result Type", types)]
    finished = [math.nan if end is None else end.finished for end in rows.ended]
    elapsed = [math.nan if end is None else end.elapsed for end in rows.ended]
    success = [status == "succeeded" for status in rows.statuses]
    return [
        *columns,
        ("Success", pd.Series(success, index=index, dtype="bool")),
        ("Finished", moments(finished, index)),
        ("Process Time", durations(elapsed, index)),
        ("Description", column(_descriptions(rows), index)),
    ]


def _circumstances(rows: _Rows, index: pd.Index, store: Store) -> _Columns:
    begun: list[Begun] = rows.begun
    commits = {digest: _commit(store, digest) for digest in {one.environment for one in begun}}
    return [
        ("Status", column(rows.statuses, index)),
        ("Started", moments([one.started for one in begun], index)),
        ("Host", column([one.origin.host for one in begun], index)),
        ("User", column([one.origin.user for one in begun], index)),
        ("Git Commit", column([commits[one.environment] for one in begun], index)),
        *_birthplaces(rows, index),
    ]


def _birthplaces(rows: _Rows, index: pd.Index) -> _Columns:
    """Where trials were recorded, unless all are a copy of one store, under the ids they had."""
    born = [begun.birthplace for begun in rows.begun]
    copied = [(one, trial) for one, trial in zip(born, rows.trials, strict=True) if one]
    places = {one.address for one, _ in copied}
    if len(places) < 2 and all(one.trial == trial for one, trial in copied):
        return []
    texts = [str(one) if one else MISSING for one in born]
    return [("Copied From", column(texts, index))]


def _result(end: Any) -> Any:
    if end is None or end.status != "succeeded" or end.finished == DAMAGED:
        return MISSING
    return end.value


def _result_type(end: Any) -> str | None:
    return None if end is None or end.status != "succeeded" else end.type


def _descriptions(rows: _Rows) -> list[Any]:
    ends = zip(rows.trials, rows.ended, strict=True)
    return [_of_endless(rows.endless[id]) if end is None else _of_end(end) for id, end in ends]


def _of_endless(trial: RecordedTrial) -> str:
    return f"lost: {trial.reason}" if trial.status == "lost" else trial.status


def _of_end(end: Any) -> Any:
    cause = end.failure
    if cause is None:
        return MISSING if end.status == "succeeded" else end.status
    if end.status == "failed" and end.finished != DAMAGED:
        return cause.description
    return f"{end.status}: {cause.description}"


def _commit(store: Store, digest: str) -> Any:
    """Return the commit that a trial ran on; `MISSING` if its environment cannot be read."""
    environment = find_record(store.get, digest, Environment)
    git = environment.categories.get("git", {}) if environment else {}
    return git.get("commit") or MISSING
