"""What happens when a trial leaves this process: for a cluster, or for a pool of processes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from daskperiment.client.tracker import follow
from daskperiment.cluster import clients
from daskperiment.codec import Blob
from daskperiment.errors import StoreError
from daskperiment.execution.lifecycle import last_key
from daskperiment.execution.request import Plan, Request
from daskperiment.recording.recorder import Recorder, recorder_for
from daskperiment.store.protocol import Store

__all__ = ["prepare", "ship"]


def ship(request: Request, plan: Plan) -> Request:
    """Make a request fit to travel: small, and seen to from here if it goes to a cluster.

    Code, environment and graph, which may be large, are put into the store from here. Dask pickles
    a graph only after it has told the client of its keys, and may do so several times.

    Parameters
    ----------
    request : Request
        Settled in this process.
    plan : Plan
        The plan that it was settled for.
    """
    common = request.common
    recorder = recorder_for(common.store)
    key = last_key(common.result, request.token)
    followed = follow(recorder, request.token, key, plan.keep, plan.witnessed)
    with suppress(StoreError):  # then all of it travels, and the first task says what is wrong
        if not request.missing:
            _put(recorder, common.blobs)
            common = common.lightened
    return replace(request, common=common, followed=followed)


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
        recorder.put(blob)
