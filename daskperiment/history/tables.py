"""The history of an experiment, as a DataFrame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from daskperiment.errors import FilterError
from daskperiment.history.columns import (
    column,
    durations,
    frame_of,
    moments,
    numbers,
    objects,
    texts,
)
from daskperiment.history.curated import curated
from daskperiment.history.filtering.language import path_text
from daskperiment.history.history_table import SAID, HistoryTable
from daskperiment.history.kept_columns import all_columns, latest_columns
from daskperiment.history.stored_values import MISSING, as_number_held, viewed, viewed_all
from daskperiment.history.table_columns import CodedColumn, Column, NumberColumn, absent
from daskperiment.history.trial_columns import (
    endless_columns,
    fold_trials,
    settled,
)
from daskperiment.history.trial_records import trial_or_raise
from daskperiment.records import Birthplace
from daskperiment.store.protocol import Store

__all__ = ["get_history", "get_parameters", "read_table"]

_Columns = list[tuple[str, pd.Series]]
_SHOWN = ("result", "status", "finished", "elapsed", "description")
"""Fields that a table shows which is not verbose: the others are not held while it is made."""
_NEWEST_FIRST = ("-Trial ID", "-`Trial ID`")


def get_parameters(store: Store, trial_id: int) -> dict[str, Any]:
    """Return the parameters that a trial ran with; what is no plain data is a `StoredObject`."""
    trial = trial_or_raise(store, trial_id)
    return {name: viewed(data, store) for name, data in trial.parameters.items()}


def get_history(
    store: Store, order: Sequence[str], verbose: bool = False, running: bool = False,
    trials: Collection[int] | None = None, sweep: str | None = None, *,
    where: str | None = None, sort: str | Sequence[str] | None = None, limit: int | None = None,
    last: int | None = None, expand: bool = False, metrics: bool = False, archived: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Return a table of the trials that ended, one row each, sorted by trial id.

    It is that of :meth:`Experiment.get_history`, for the trials of one sweep or some trials only.
    `order` names the declared parameters; others that trials had follow them. Nothing is unpickled:
    a value that is not plain data is a :class:`StoredObject`. Trials that still run are no success
    yet, and have neither result nor finishing time. A parameter that a trial did not have, or that
    reached none of its steps, is missing in its row; integers stay integers then, in a column of
    dtype ``Int64``. The result of a trial that did not succeed is NaN. Of those that `where` finds
    only the `last` ones are sorted. What was said of trials stands in the last columns, if anything
    was; those that are `archived` may be left out.
    """
    latest = last
    if where is None and last is None and sort in _NEWEST_FIRST:
        latest = _checked(limit)
    elif where is not None:
        latest = None
    table = read_table(store, order, running, trials, sweep, latest)
    if not archived:
        every, table = table, table.listed()
        if latest is not None and len(table) < min(latest, len(every)):
            table = read_table(store, order, running, trials, sweep).listed()
    # All of a million rows are not copied once more.
    if any(one is not None for one in (where, sort, limit, last)):
        table = table.take(table.select(where, sort, _checked(limit), last))
    table = table if verbose else table.with_fields(_SHOWN)
    index = pd.Index(table.columns.trials, dtype="int64", name="Trial ID")
    columns = [
        *_parameters(table, order, index, expand),
        *_outcomes(table, index, verbose, expand),
        *(_circumstances(table, index) if verbose else ()),
        *(_latest_metrics(table, index) if metrics else ()),
        *_remarks(table, index),
    ]
    return frame_of(columns, index)


def read_table(
    store: Store, order: Sequence[str], running: bool = False,
    trials: Collection[int] | None = None, sweep: str | None = None, latest: int | None = None,
) -> HistoryTable:  # fmt: skip
    """Return the trials that ended or are lost, and if asked for those that run.

    Where only so many of the `latest` are needed, older ones may be missing.
    """
    if trials is not None:
        found = fold_trials(store, store.read("trials", trials), ())
        columns = settled([*found.parts, endless_columns(store, found.pending, running)])
    elif latest is not None and sweep is None:
        columns = latest_columns(store, latest, running)
    else:
        columns = all_columns(store, running)
    if sweep is not None:
        of = columns.fields.get("sweep", absent(len(columns.trials))).coded()
        rows = np.flatnonzero(of.truths(lambda one: one == sweep))
        columns = columns.take(rows).without_empty()
    few = trials is not None or (latest is not None and sweep is None)
    said = partial(curated, store, columns.trials.tolist() if few else None)
    return HistoryTable(columns, store, order, cache(said))


def _checked(limit: Any) -> int | None:
    if limit is None or (type(limit) is int and limit >= 0):
        return limit
    raise FilterError(f"limit is {limit!r}; expected the number of rows to return, from 0.")


# Columns ---------------------------------------------------------------------------------------


def _series(
    found: Column | None, index: pd.Index, table: HistoryTable, nullable: bool = True
) -> pd.Series:
    if isinstance(found, NumberColumn):
        series = numbers(found.values, found.present, index, nullable)
        if series is not None:
            return series
    if isinstance(found, CodedColumn) and len(found) > found.count:
        values = found.values
        if set(map(type, values)) == {str} and bool((found.codes >= 0).any()):
            return texts(values, found.codes, index)
    return column(_values(found, table), index, nullable)


def _values(found: Column | None, table: HistoryTable) -> list[Any]:
    """Return the values of a column, of those that can be changed one for each row."""
    if found is None:
        return [MISSING] * len(table)
    if isinstance(found, NumberColumn):
        return found.to_list()
    forms = found.to_list()
    kinds = set(map(type, forms if len(forms) < found.count else found.values))
    return viewed_all(forms, table.store) if kinds & {dict, list} else forms


def _parameters(
    table: HistoryTable, order: Sequence[str], index: pd.Index, expand: bool
) -> _Columns:
    found = table.columns.parameters
    columns: _Columns = []
    for name in dict.fromkeys([*order, *found]):
        columns.append((name, _series(found.get(name), index, table)))
        columns += _expanded(name, table, index) if expand else ()
    return columns


def _outcomes(table: HistoryTable, index: pd.Index, verbose: bool, expand: bool) -> _Columns:
    fields = table.columns.fields
    results = _results(fields.get("result"), index, table)
    columns = [("Result", results), *(_expanded("Result", table, index) if expand else ())]
    if verbose:
        types = _values(fields.get("type"), table)
        columns = [
            ("Step", _series(fields.get("step"), index, table)),
            ("Seed", _series(fields.get("seed"), index, table)),
            *columns,
            ("Result Type", objects([None if one is MISSING else one for one in types], index)),
        ]
    return [
        *columns,
        (
            "Success",
            pd.Series(table.column(("Success",)).values, index=index, dtype="bool", copy=True),
        ),
        ("Finished", moments(_seconds(fields.get("finished"), len(table)), index)),
        ("Process Time", durations(_seconds(fields.get("elapsed"), len(table)), index)),
        ("Description", _series(fields.get("description"), index, table)),
    ]


def _results(found: Column | None, index: pd.Index, table: HistoryTable) -> pd.Series:
    if isinstance(found, NumberColumn):
        return _series(found, index, table, nullable=False)
    return column([as_number_held(one) for one in _values(found, table)], index, nullable=False)


def _seconds(found: Column | None, count: int) -> Any:
    if isinstance(found, NumberColumn):
        return (
            found.values if found.present is None else np.where(found.present, found.values, np.nan)
        )
    return np.full(count, np.nan)


def _circumstances(table: HistoryTable, index: pd.Index) -> _Columns:
    fields = table.columns.fields
    return [
        ("Status", _series(fields.get("status"), index, table)),
        ("Started", moments(_seconds(fields.get("started"), len(table)), index)),
        ("Host", _series(fields.get("host"), index, table)),
        ("User", _series(fields.get("user"), index, table)),
        ("Git Commit", _series(table.column(("Git Commit",)), index, table)),
        *_resumed(table, index),
        *_birthplaces(table, index),
    ]


def _resumed(table: HistoryTable, index: pd.Index) -> _Columns:
    """Which trials others go on from, if any does."""
    values = _values(table.columns.fields.get("resumes"), table)
    if all(one is MISSING for one in values):
        return []
    return [("Resumes", column(values, index))]


def _birthplaces(table: HistoryTable, index: pd.Index) -> _Columns:
    """Where trials were recorded, unless all are a copy of one store, under the ids they had."""
    found = table.columns.fields.get("birthplace")
    if not isinstance(found, CodedColumn) or not len(found) or (found.codes < 0).all():
        return []
    born = found.to_list()
    copied = [
        (one, id) for one, id in zip(born, table.columns.trials, strict=True) if one is not MISSING
    ]
    if len({address for (address, _), _ in copied}) < 2 and all(one[1] == id for one, id in copied):
        return []
    texts = [MISSING if one is MISSING else str(Birthplace(*one)) for one in born]
    return [("Copied From", column(texts, index))]


def _remarks(table: HistoryTable, index: pd.Index) -> _Columns:
    """What people said of the trials: a column for each thing that was said of any of them."""
    # No set of all trials: nothing was said of most.
    here = np.isin([*table.said], table.columns.trials) if table.said else ()
    said = [one for one, shown in zip(table.said.values(), here, strict=True) if shown]
    shown = [name for name, read in SAID.items() if any(read(one) not in _NOTHING for one in said)]
    values = {name: _values(table.column((name,)), table) for name in shown}
    # A tuple of tags is one value, and not several.
    return [
        (name, objects(each, index) if name == "Tags" else column(each, index))
        for name, each in values.items()
    ]


_NOTHING = (MISSING, (), False)


def _expanded(name: str, table: HistoryTable, index: pd.Index) -> _Columns:
    """Return a column for each part of the values of a column, such as ``Result.f1``."""
    paths = table.paths(name)
    told = Counter(map(".".join, paths))
    return [
        (
            # As a filter says them, where the parts of a dict are called like those in another.
            ".".join(path) if told[".".join(path)] == 1 else path_text(path),
            _series(table.column(path), index, table, name != "Result"),
        )
        for path in paths
    ]


def _latest_metrics(table: HistoryTable, index: pd.Index) -> _Columns:
    names = sorted({name for each in table.metrics for name in each})
    return [
        (f"metrics.{name}", _series(table.column(("metrics", name)), index, table))
        for name in names
    ]
