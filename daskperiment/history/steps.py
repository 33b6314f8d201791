"""Step runs: what they cost, and what persisted steps returned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from msgspec import Struct

from daskperiment.codec import check_signature, decode_each, signing_key_in_force
from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
    UntrustedObjectError,
)
from daskperiment.history.columns import column, durations, frame_of, moments
from daskperiment.history.stored_values import MISSING, loaded
from daskperiment.history.trial_records import as_trial_id, intact, require_trial
from daskperiment.records import EndStatus, StepRun, step_run_ids
from daskperiment.store.opening import read_starting
from daskperiment.store.protocol import Store, Stored

__all__ = ["get_persisted", "get_steps"]


class _RunSummary(Struct, gc=False):
    """A step run without its output and traceback, which may be long."""

    key: str
    step: str
    status: EndStatus
    started: float
    wall: float
    cpu: float
    peak: int
    host: str
    pid: int
    thread: str
    inputs: str | None = None
    output: str | None = None
    note: str | None = None
    stochastic: bool = False
    reused: int | None = None
    worker: str | None = None
    worker_name: str | None = None


def get_steps(store: Store, trial_id: int | None = None) -> pd.DataFrame:
    """Return a table of the step runs of a trial, or of all trials, one row each.

    The rows are by trial and then as they were recorded. ``Started`` is in UTC, ``Peak Memory`` is
    the process's in bytes; fingerprints are missing where a value has none. ``Checkable`` is
    whether the step's output can be compared with that of its other runs, ``Stochastic`` whether
    it drew random numbers. ``Reused From`` is the trial that the output was taken from. ``Worker``
    and ``Worker Name`` are missing where no worker of a cluster ran the step.
    """
    trials = None if trial_id is None else [as_trial_id(store, trial_id)]
    runs = list(intact(store.read("steps", trials), _RunSummary))
    if trials and not runs:
        require_trial(store, trials[0])
    runs.sort(key=lambda found: found[0])
    return _frame([trial for trial, _ in runs], [run for _, run in runs])


def _frame(trials: list[int], runs: list[_RunSummary]) -> pd.DataFrame:
    index = pd.RangeIndex(len(runs))

    def plain(name: str, dtype: str | None = None) -> pd.Series:
        values = [getattr(run, name) for run in runs]
        cells = [MISSING if value is None else value for value in values]
        return pd.Series(values, index=index, dtype=dtype) if dtype else column(cells, index)

    checkable = [run.note is None for run in runs]
    columns = [
        ("Trial ID", pd.Series(trials, index=index, dtype="int64")),
        ("Step", plain("step")),
        ("Key", plain("key")),
        ("Status", plain("status")),
        ("Started", moments([run.started for run in runs], index)),
        ("Wall Time", durations([run.wall for run in runs], index)),
        ("CPU Time", durations([run.cpu for run in runs], index)),
        ("Peak Memory", plain("peak", "int64")),
        ("Host", plain("host")),
        ("PID", plain("pid", "int64")),
        ("Worker", plain("worker")),
        ("Worker Name", plain("worker_name")),
        ("Thread", plain("thread")),
        ("Input Fingerprint", plain("inputs")),
        ("Output Fingerprint", plain("output")),
        ("Checkable", pd.Series(checkable, index=index, dtype="bool")),
        ("Stochastic", plain("stochastic", "bool")),
        ("Reused From", plain("reused", "Int64")),
    ]
    return frame_of(columns, index)


# Persisted values ------------------------------------------------------------------------------


def get_persisted(
    store: Store, step: str, trial_id: int, signing_key: str | bytes | None = None
) -> Any:
    """Return the value that a persisted step returned in a trial.

    Loading what is not plain data runs code of whoever wrote it: do so only if you trust the
    store, or set a signing key; by default that of the configuration.

    `step` is the step's name, or where it was called more than once the Key of the call, as
    :func:`get_steps` shows it. The first call's is the name itself; say ``"name#1"``.

    Raises TrialIDNotFoundError, CorruptRecordError, UntrustedObjectError, and
    PersistedResultNotFoundError if the trial kept no such value, or it is not clear which is meant.
    """
    trial = as_trial_id(store, trial_id)
    key = signing_key_in_force(signing_key)
    if key is not None:
        _check_readable(store, trial)
    run = None if key is not None else _found(store, step, trial)
    if run is None:
        runs = _runs(store.read("steps", [trial]))
        if not runs:
            require_trial(store, trial)
        run = _chosen(runs, step, trial)
    value = loaded(run.kept["value"], store, signing_key)
    what = f"The record of step {step!r} in trial {trial}"
    check_signature(what, run, key, store.address, trial)
    return value


def _check_readable(store: Store, trial: int) -> None:
    """Refuse a trial with a record that cannot be read: it may have been changed on purpose."""
    stored = list(store.read("steps", [trial]))
    records = decode_each([one.body for one in stored], StepRun, [trial] * len(stored))
    for one, record in zip(stored, records, strict=True):
        if isinstance(record, CorruptRecordError):
            raise UntrustedObjectError(
                f"The record {one.id!r} of trial {trial} is refused, because a signing key is "
                f"configured and it was changed, or is damaged: {record}"
            ) from record


def _found(store: Store, step: str, trial: int) -> StepRun | None:
    """Return the run that is meant without reading all; None where that is not clear."""
    if type(step) is not str or not step.isprintable():
        return None
    name, _, number = step.partition("#")
    key = name if number == "1" else step
    found = _runs(read_starting(store, "steps", trial, step_run_ids(key))).get(key)
    if found is None or found.kept is None or found.step != name:
        return None
    # A name alone may mean any of several calls.
    several = not number and any(read_starting(store, "steps", trial, f"{name}#"))
    return None if several else found


def _runs(stored: Iterable[Stored]) -> dict[str, StepRun]:
    """Return a trial's step runs by Key; of several, the last that kept its output."""
    runs: dict[str, StepRun] = {}
    for _, run in intact(stored, StepRun):
        if run.key not in runs or run.kept is not None or runs[run.key].kept is None:
            runs[run.key] = run
    return runs


def _chosen(runs: dict[str, StepRun], step: str, trial: int) -> StepRun:
    kept = {key: run for key, run in runs.items() if run.kept is not None}
    calls = [key for key, run in runs.items() if run.step == step]
    if len(calls) > 1:
        keys = sorted(kept.keys() & calls, key=_call_number)
        named = ", ".join(repr(f"{key}#1" if key == step else key) for key in keys)
        raise PersistedResultNotFoundError(
            f"Step {step!r} was called {len(calls)} times in trial {trial}: give the Key of one "
            f"call. Persisted are: {named or 'none'}."
        )
    key = calls[0] if calls else step.removesuffix("#1")
    if key not in kept:
        raise PersistedResultNotFoundError(_nothing_kept(runs, kept, key, step, trial))
    return kept[key]


def _call_number(key: str) -> float:
    number = key.rpartition("#")[2]
    return int(number) if number.isdigit() else -math.inf


def _nothing_kept(
    runs: dict[str, StepRun], kept: dict[str, StepRun], key: str, step: str, trial: int
) -> str:
    names = ", ".join(map(repr, kept)) or "none"
    run = next((run for run in runs.values() if key in (run.key, run.step)), None)
    if run is None:
        return (
            f"Trial {trial} has no run of a step {step!r}. Steps that ran: "
            f"{', '.join(map(repr, runs)) or 'none'}; with a persisted value: {names}."
        )
    if run.status != "succeeded":
        return f"Step {step!r} {run.status} in trial {trial}: it returned nothing to persist."
    return (
        f"Step {step!r} was not persisted in trial {trial}; persisted were: {names}. "
        "Decorate it with @ex.persist, or @ex.result(persist=True), and run a trial."
    )
