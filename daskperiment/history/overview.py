"""Many experiments at a glance, as a DataFrame.

To open a thousand databases takes longer than to look whether any of them changed. So what was
counted of experiments in folders stands in a file of this user's own, by their state at that time.
That file may be deleted at any time; one that is damaged counts for nothing.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from daskperiment.errors import StoreError, StoreWarning
from daskperiment.history.trial_records import Fold, fold_piece
from daskperiment.records import EndStatus
from daskperiment.store import rights
from daskperiment.store.file import FolderState
from daskperiment.store.opening import cache_folder, folder_state, read_at_rest
from daskperiment.store.protocol import Store
from daskperiment.warn import warn_user

if TYPE_CHECKING:
    import pandas as pd

    from daskperiment.history.table_columns import CodedColumn

__all__ = [
    "EXPERIMENT_COLUMNS",
    "ExperimentRow",
    "KnownRows",
    "experiment_row",
    "experiments_frame",
]


EXPERIMENT_COLUMNS = (
    "Experiment", "Trials", "Succeeded", "Running", "Latest Finished", "Address",
)  # fmt: skip
"""Names of what a list says of each experiment."""


class ExperimentRow(NamedTuple):
    """What a list of experiments says of one; numbers are ``None`` if it cannot be read."""

    experiment: str
    address: str
    trials: int | None = None
    succeeded: int | None = None
    running: int | None = None
    finished: float | None = None
    """When the latest trial to end did so, in seconds since the epoch."""


def experiment_row(experiment: str, store: Store) -> ExperimentRow:
    """Return the row of one experiment. One that cannot be read is warned of and hides no other."""
    try:
        return _outline(experiment, store, folder_state(store))[0]
    except StoreError as error:
        return _unreadable(experiment, store, error)


def _unreadable(experiment: str, store: Store, error: StoreError) -> ExperimentRow:
    warn_user(StoreWarning(f"Experiment {experiment!r} cannot be read: {error}"))
    return ExperimentRow(experiment, store.address)


class _ListedStart(Struct, gc=False):
    result: str
    started: float


class _ListedFailure(Struct, gc=False):
    type: str
    description: str


class _ListedEnd(Struct, gc=False):
    status: EndStatus
    finished: float
    elapsed: float
    failure: _ListedFailure | None = None


def _outline(
    experiment: str, store: Store, state: FolderState | None
) -> tuple[ExperimentRow, bool]:
    """Return the row of an experiment, and whether all of its trials have ended."""
    row = _of_ended(experiment, store, state)
    return _of_columns(experiment, store) if row is None else (row, True)


def _of_ended(experiment: str, store: Store, state: FolderState | None) -> ExperimentRow | None:
    """Return the row of a short experiment that is over and whole; of others ``None``."""
    records = read_at_rest(store, "trials", state)
    if records is None:
        return None
    found: Fold[_ListedStart, _ListedEnd] = Fold.of_nothing()
    damaged = fold_piece(found, records, _ListedStart, _ListedEnd, _ListedFailure, warn=False)
    if damaged or not found.begun.keys() <= found.ended.keys():
        return None
    ends = [found.ended[trial] for trial in found.begun]
    succeeded = sum(end.status == "succeeded" for end in ends)
    finished = max((end.finished for end in ends), default=None)
    return ExperimentRow(experiment, store.address, len(ends), succeeded, 0, finished)


def _of_columns(experiment: str, store: Store) -> tuple[ExperimentRow, bool]:
    # With numpy, which short experiments that are over are counted without.
    from daskperiment.history.kept_columns import all_columns  # noqa: PLC0415
    from daskperiment.history.table_columns import NumberColumn, absent  # noqa: PLC0415

    columns = all_columns(store, running=True)
    count = len(columns.trials)
    statuses = columns.fields.get("status", absent(count)).coded()
    finished = columns.fields.get("finished", absent(count))
    ends = finished.values[finished.known()] if isinstance(finished, NumberColumn) else []
    counts = {status: _number(statuses, status) for status in ("succeeded", "running", "lost")}
    row = ExperimentRow(
        experiment=experiment,
        address=store.address,
        trials=count,
        succeeded=counts["succeeded"],
        running=counts["running"],
        finished=_latest(ends),
    )
    return row, not counts["running"] + counts["lost"]


def _number(statuses: CodedColumn, status: str) -> int:
    return int(statuses.truths(lambda one: bool(one == status)).sum())


def _latest(ends: Any) -> float | None:
    import numpy as np  # noqa: PLC0415  # as above

    found = np.asarray(ends, dtype="float64")
    found = found[np.isfinite(found)]  # a damaged record does not say when
    return float(found.max()) if len(found) else None


def experiments_frame(rows: Iterable[ExperimentRow]) -> pd.DataFrame:
    """Return a table of experiments, sorted by name and address; what is not known is missing."""
    import pandas as pd  # noqa: PLC0415  # large, and a list in a shell does without

    from daskperiment.history.columns import column, frame_of, moments  # noqa: PLC0415  # as above

    each = sorted(rows, key=lambda row: (row.experiment, row.address))
    index = pd.RangeIndex(len(each))

    def counts(name: str) -> pd.Series:
        return pd.Series([getattr(row, name) for row in each], index=index, dtype="Int64")

    finished = [math.nan if row.finished is None else row.finished for row in each]
    columns = (
        column([row.experiment for row in each], index),
        counts("trials"),
        counts("succeeded"),
        counts("running"),
        moments(finished, index),
        column([row.address for row in each], index),
    )
    return frame_of(zip(EXPERIMENT_COLUMNS, columns, strict=True), index)


# Rows that are known ------------------------------------------------------------------------------


class _Noted(Struct, array_like=True):
    """What was counted of an experiment, and the state that its folder was in."""

    state: FolderState
    trials: int
    succeeded: int
    finished: float | None


class _Notes(Struct):
    digest: str
    rows: msgspec.Raw


class KnownRows:
    """The rows of experiments of one backend, those that are known and those that are counted.

    Parameters
    ----------
    place : str
        Names the backend, such as the folder of all.
    """

    def __init__(self, place: str) -> None:
        name = hashlib.sha256(os.fsencode(place)).hexdigest()[:32]
        self._path = cache_folder() / "overviews" / f"{name}.json"
        self._known = _read(self._path)
        self._new: dict[str, _Noted] = {}
        self._rows: dict[str, _Noted] = {}

    def row(self, experiment: str, store: Store) -> ExperimentRow | None:
        """Return the row of an experiment that is as it was when it was counted, else ``None``."""
        noted = self._known.get(experiment)
        if noted is None or noted.state != folder_state(store):
            return None
        self._rows[experiment] = noted
        counts = (noted.trials, noted.succeeded, 0, noted.finished)
        return ExperimentRow(experiment, store.address, *counts)

    def count(self, experiment: str, store: Store) -> ExperimentRow:
        """Count an experiment's trials, and return its row; see `experiment_row`."""
        state = folder_state(store)
        try:
            row, complete = _outline(experiment, store, state)
        except StoreError as error:
            return _unreadable(experiment, store, error)
        # Who waits is judged anew each time.
        if state is not None and state.is_settled() and complete and row.trials is not None:
            noted = _Noted(state, row.trials, row.succeeded or 0, row.finished)
            self._new[experiment] = noted
        return row

    def save(self) -> None:
        """Keep what was counted for the next time, if that is possible."""
        if self._new:
            rows = msgspec.json.encode(self._rows | self._new)
            notes = _Notes(hashlib.sha256(rows).hexdigest(), msgspec.Raw(rows))
            with suppress(OSError):
                rights.write(self._path, msgspec.json.encode(notes))


def _read(path: Path) -> dict[str, _Noted]:
    try:
        notes = msgspec.json.decode(path.read_bytes(), type=_Notes)
        if hashlib.sha256(notes.rows).hexdigest() == notes.digest:
            return msgspec.json.decode(notes.rows, type=dict[str, _Noted])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        pass  # there is none, or it is damaged
    return {}
