"""What happens when a trial leaves this process: for a cluster, or for a pool of processes.

Code, environment and graph, which may be large, are put into the store from here; what travels is
small. Dask pickles a graph only after it has told the client of its keys, and may do so several
times.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from daskperiment.client.tracker import follow
from daskperiment.cluster import clients
from daskperiment.codec import Blob
from daskperiment.errors import StoreError
from daskperiment.execution.lifecycle import last_key
from daskperiment.execution.trial import ArrivedRequest, RequestSource, TrialRequest
from daskperiment.recording.recorder import Recorder
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Store

__all__ = ["LocalRequest", "prepare"]


class LocalRequest(RequestSource):
    """A trial's request in the process that asks for the trial; pickling it ships the trial.

    Parameters
    ----------
    make : callable
        Returns the request: the same one every time, or one of that moment.
    in_flight : frozenset of str
        Cache keys whose content the trial makes.
    watched : bool
        Whether whoever submits the trial tells the tracker what became of it, so that no client's
        event loop has to.
    """

    def __init__(
        self, make: Callable[[], TrialRequest], in_flight: frozenset[str] = frozenset(),
        watched: bool = False,
    ) -> None:  # fmt: skip
        self._make = make
        self._in_flight = in_flight
        self._watched = watched

    def request(self) -> TrialRequest:
        """Return the request."""
        return self._make()

    def ship(self) -> TrialRequest:
        """Return the request fit to travel, and see to the trial's end if it goes to a cluster."""
        request = self._make()
        setup = request.setup
        recorder = recorder_for(setup.store)
        key = last_key(setup.result, request.token)
        followed = follow(recorder, request.token, key, self._in_flight, self._watched)
        with suppress(StoreError):  # then all of it travels, and the first task says what is wrong
            if not request.missing:
                _put(recorder, setup.blobs)
                setup = setup.without_content
        return replace(request, setup=setup, followed=followed)

    def for_step(self, place: str, step: str) -> RequestSource:
        """Return a source of the same request that names one step only."""
        return _LocalStepRequest(self, place, step)

    def __repr__(self) -> str:
        return "<Request of a trial>"

    def __reduce__(self) -> Any:
        return _arrived(self.ship())


class _LocalStepRequest(RequestSource):
    """The request by which a shared task joins the trial that it is recorded in."""

    def __init__(self, whole: LocalRequest, place: str, step: str) -> None:
        self._whole = whole
        self._names = place, step

    def request(self) -> TrialRequest:
        """Return the request."""
        return self._whole.request().for_step(*self._names)

    def __reduce__(self) -> Any:
        return _arrived(self._whole.ship().for_step(*self._names))


def _arrived(request: TrialRequest) -> Any:
    return ArrivedRequest, (request.setup.pickled, request.own)


def prepare(store: Store, *blobs: Blob) -> None:
    """Put what coming trials have in common into the store, if they may go to a cluster.

    Raises
    ------
    StoreUnavailableError
        If the store is away: whoever submits is told now, and not by the first task.
    """
    if clients():
        _put(recorder_for(store), blobs)


def _put(recorder: Recorder, blobs: tuple[Blob, ...]) -> None:
    for blob in blobs:
        recorder.delivery.put(blob)
