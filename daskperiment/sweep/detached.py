"""Sweeps that outlive their client: a task of the cluster runs them, which others can follow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from distributed import Client, Future, worker_client

from daskperiment.records import Sweep
from daskperiment.store.protocol import Store
from daskperiment.sweep.jobs import SweepBar
from daskperiment.sweep.sweep_plan import trials_of

__all__ = ["conductor_of", "detach", "follow"]

_PAUSE = 0.5
"""Seconds between looks at a sweep that others run."""
_LONG_PAUSE = 5.0
"""The same, where trials of a worker that died are waited for until they count as lost."""


def detach(client: Client, id: str, run: Callable[[], bool]) -> None:
    """Let a cluster run a sweep, whatever becomes of this process.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    id : str
        The sweep's id.
    run : callable
        Runs what is left of the sweep, and returns whether others run trials of it still. It is
        called once more if the worker that called it dies.
    """
    future = client.submit(_conduct, id, run, key=_name(id), pure=False)
    # What is published is held by the scheduler.
    client.publish_dataset(future, name=_name(id), override=True)


def conductor_of(client: Client, id: str) -> Future[Any] | None:
    """Return the future of the task that runs a sweep on a cluster, None if there is none."""
    if _name(id) not in client.list_datasets():
        return None
    future: Future[Any] = client.get_dataset(_name(id))
    if future.status in ("cancelled", "lost"):
        client.unpublish_dataset(_name(id))
        return None
    return future


def follow(client: Client, future: Future[Any], store: Store, sweep: Sweep, bar: SweepBar) -> None:
    """Wait until a sweep that a cluster runs has ended, and show how far it is.

    Raises what ended it early.
    """
    try:
        known = 0
        while not future.done():
            time.sleep(_PAUSE)
            ended = [one for one in trials_of(store, sweep) if one.status != "running"]
            for one in ended[known:]:
                bar.ended(one.status != "succeeded")
            known = max(known, len(ended))
        if future.status == "error":
            client.unpublish_dataset(_name(sweep.id))
        future.result()
    finally:
        bar.close()


def _conduct(id: str, run: Callable[[], bool]) -> None:
    """Run a sweep: the task of the cluster."""
    # It leaves the thread of the worker to the trials.
    with worker_client() as client:
        while run():
            time.sleep(_LONG_PAUSE)
        client.unpublish_dataset(_name(id))


def _name(id: str) -> str:
    return f"daskperiment-sweep-{id}"
