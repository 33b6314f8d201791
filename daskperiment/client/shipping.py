"""What happens when a trial leaves this process: for a cluster, or for a pool of processes.

Code, environment and graph, which may be large, are put into the store from here; what travels is
small. Dask pickles a graph only after it has told the client of its keys, and may do so several
times.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from daskperiment.client.tracker import follow
from daskperiment.codec import Blob
from daskperiment.errors import StoreError
from daskperiment.execution.lifecycle import last_key
from daskperiment.execution.trial import RequestSource, TrialRequest
from daskperiment.recording.patience import patiently
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Store

__all__ = ["LocalRequest", "prepare"]


class LocalRequest(RequestSource):
    """A trial's request in the process that asks for the trial; pickling it ships the trial."""

    def travelling(self) -> TrialRequest:
        """Return the request fit to travel, and see to the trial's end if it goes to a cluster."""
        request = self.request()
        setup = request.setup
        recorder = recorder_for(setup.store)
        key = self.batch or last_key(setup.result, request.token)
        # First: the client knows the key already, and the tracker must not miss a short trial.
        followed = follow(
            recorder, request.token, key, self.in_flight, self.watched, request.secret_values,
            setup.signing_key,
        )  # fmt: skip
        with suppress(StoreError):  # then all of it travels, and the first task says what is wrong
            if not request.missing:
                recorder.delivery.put(*setup.blobs)
                setup = setup.without_content
        return replace(request, setup=setup, followed=followed)


def prepare(store: Store, blobs: tuple[Blob, ...], patience: float) -> None:
    """Put what coming trials have in common into the store, before they go to a cluster.

    For so many seconds it is waited for a store that is away.

    Raises
    ------
    StoreUnavailableError
        If the store is away: whoever submits is told now, and not by the first task.
    """
    patiently(lambda: recorder_for(store).delivery.put(*blobs), patience)
