"""What a cluster's scheduler knows of trials that were given to it: word of them takes its time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.distributed.clusters import wait_until

__all__ = ["wait_for_arrival", "wait_for_departure"]


def wait_for_arrival(client: Any, futures: Iterable[Any]) -> None:
    """Wait until the scheduler has the tasks: what comes later may find no task to share."""
    keys = {future.key for future in futures}
    wait_until(lambda: keys <= _known(client))


def wait_for_departure(client: Any, future: Any) -> None:
    """Wait until the scheduler has heard that nobody wants a task any more."""
    wait_until(lambda: future.key not in _known(client))


def _known(client: Any) -> set[str]:
    found: set[str] = client.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.tasks))
    return found
