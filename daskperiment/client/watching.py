"""What the caller of a computation writes down when the trial's last task cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from daskperiment.client.tracker import followed
from daskperiment.errors import StoreError, StoreUnavailableError
from daskperiment.execution.lifecycle import failure_of, has_ended, status_of
from daskperiment.planning.changes import (
    LOOK_BACK,
    latest_trials,
    report_conflicts,
    report_impurities,
)
from daskperiment.recording.recorder import Recorder
from daskperiment.records import Begun, Ended

__all__ = ["watching"]


@contextmanager
def watching(recorder: Recorder, token: str) -> Iterator[None]:
    """See to the end of a trial that this process computes.

    Parameters
    ----------
    recorder : Recorder
        Of the trial's store.
    token : str
        The trial's token.
    """
    try:
        yield
    except BaseException as error:
        with suppress(Warning):  # made an error by a filter, it must not hide the user's
            _close(recorder, token, error)
        raise
    report_conflicts(recorder)
    if not recorder.trials.has_ended(token):
        _report_elsewhere(recorder, token)
    flights = followed(recorder)
    if flights is not None:
        flights.drop(token)


def _close(recorder: Recorder, token: str, error: BaseException) -> None:
    if recorder.trials.has_ended(token) or isinstance(error, StoreUnavailableError):
        return
    try:
        found = _find(recorder, token)
        if found is None or has_ended(recorder.store, found[0]):
            return
    except StoreError:
        return  # the user's exception matters more than its record
    trial, started = found
    now, status = time.time(), status_of(error)
    ended = Ended(status, now, max(0.0, now - started), failure=failure_of(error))
    recorder.write("trials", trial, f"ended-{status}-caller", ended)
    recorder.trials.ended(token)
    recorder.settle()


def _find(recorder: Recorder, token: str) -> tuple[int, float] | None:
    """Find a trial by its token: begun by this process or, lately, by another."""
    flights = followed(recorder)
    if flights is not None and flights.follows(token):
        return flights.find(token)
    for trial, begun in reversed(latest_trials(recorder.store, 10 * LOOK_BACK)):
        if _belongs(begun, token):
            return trial, begun.started
    return None


def _belongs(begun: Begun, token: str) -> bool:
    return begun.token.partition("/")[0] == token


def _report_elsewhere(recorder: Recorder, token: str) -> None:
    try:
        found = _find(recorder, token)
        if found is not None:
            report_impurities(recorder.store, [found[0]])
    except StoreError:
        return  # the result is there; a warning less is no loss
