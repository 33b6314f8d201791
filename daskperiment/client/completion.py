"""What the caller of a computation writes down when the trial's last task cannot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from daskperiment.client.submitted import Beginning
from daskperiment.client.tracker import tracker_of
from daskperiment.errors import StoreError, StoreUnavailableError
from daskperiment.execution.context import halt_steps
from daskperiment.execution.lifecycle import failure_of, has_ended, latest_trials, status_of
from daskperiment.execution.purity import report_conflicts, report_impurities
from daskperiment.recording.recorder import Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Ended, ended_id
from daskperiment.store.protocol import Store

__all__ = ["end_by_caller", "finish_elsewhere"]

_LOOK_BACK = 200
"""Among how many of the latest trials one is looked for that another process began."""


def end_by_caller(
    store: Store, token: str, error: BaseException, secrets: Sequence[Any] = (),
    key: bytes | None = None,
) -> None:  # fmt: skip
    """Write down that a trial ended by an error, unless one of its tasks did.

    Parameters
    ----------
    store : Store
    token : str
        The trial's token.
    error : BaseException
        What the computation raised.
    secrets : sequence of Secret
        What no text may quote.
    key : bytes, optional
        The trial's signing key.
    """
    recorder = recorder_for(store)
    if status_of(error) == "interrupted":
        halt_steps(token)
    if recorder.trials.has_ended(token) or isinstance(error, StoreUnavailableError):
        return
    try:
        found = _find(recorder, token)
        if found is None or has_ended(recorder.store, found.trial):
            return
    except StoreError:
        return  # the user's exception matters more than its record
    now, status = time.time(), status_of(error)
    failure = failure_of(error, secrets=secrets)
    ended = Ended(status, now, max(0.0, now - found.started), failure=failure)
    id = ended_id(status, "caller")
    recorder.write_signed("trials", found.trial, id, ended, found.owner, key)
    recorder.end(token)
    recorder.settle()


def finish_elsewhere(store: Store, token: str) -> None:
    """See to what is left of a trial that succeeded, in other processes or with others' help."""
    recorder = recorder_for(store)
    report_conflicts(recorder)
    if not recorder.trials.has_ended(token):
        _report_elsewhere(recorder, token)
    tracker = tracker_of(recorder)
    if tracker is not None:
        tracker.drop(token)


def _find(recorder: Recorder, token: str) -> Beginning | None:
    """Return a trial by its token: begun by this process or, lately, by another."""
    tracker = tracker_of(recorder)
    if tracker is not None and tracker.follows(token):
        return tracker.find(token)
    for trial, begun in reversed(latest_trials(recorder.store, _LOOK_BACK)):
        if begun.token.partition("/")[0] == token:
            return Beginning(trial, begun.started, begun.token)
    return None


def _report_elsewhere(recorder: Recorder, token: str) -> None:
    """Warn of what other processes noticed in a trial that ended there."""
    try:
        found = _find(recorder, token)
        if found is not None:
            report_impurities(recorder.store, [found.trial])
    except StoreError:
        return  # the result is there; a warning less is no loss
