"""What this process is to a Dask cluster: a client of it, a worker in it, or neither.

Nothing here loads ``distributed``: where nobody has loaded it, there is no cluster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

__all__ = [
    "FutureState",
    "Submission",
    "Worker",
    "clients",
    "is_wanted",
    "log_event",
    "retries",
    "submission",
    "subscribe",
    "unsubscribe",
    "worker",
]


class FutureState(Protocol):
    """What a client knows of a task that it submitted."""

    status: str
    """``pending``, ``finished``, ``error``, ``cancelled`` or ``lost``."""
    exception: BaseException | None
    traceback: Any

    async def wait(self) -> None:
        """Wait until it is known how the task ended."""


class Submission(NamedTuple):
    """A task that a client submitted."""

    client: Any
    state: FutureState
    key: Any = None
    """The task's."""

    def call(self, function: Callable[[], Any]) -> None:
        """Call a function on the client's event loop, where the state changes."""
        self.client.loop.add_callback(function)

    def ask(self, keys: list[Any], tell: Callable[[set[Any] | None], None]) -> None:
        """Ask the cluster which tasks it has, and tell it on the client's event loop.

        Told are those of the keys that the scheduler knows, and the keys of all tasks that workers
        are at, known to the scheduler or not; None if the cluster does not answer.
        """

        async def ask() -> None:
            found = None
            with suppress(Exception):  # whatever a connection that breaks raises
                states = await self.client.scheduler.get_task_status(keys=keys)
                stacks = await self.client.scheduler.call_stack(keys=None)
                known = {key for key in keys if states.get(key)}
                found = known.union(*stacks.values())
            tell(found)

        self.call(ask)

    def has_workers(self) -> bool:
        """Whether the cluster has workers, as far as the client knows."""
        # What the client was last told, without asking again: that would take a round trip.
        info = getattr(self.client, "_scheduler_identity", None) or {}
        count = info.get("n_workers", info.get("workers"))
        return count is None or bool(count)


class Worker(NamedTuple):
    """A worker of a cluster."""

    address: str
    name: str


def worker() -> Worker | None:
    """Return the worker that runs the task of this thread, None where no worker does."""
    found = _worker()
    return None if found is None else Worker(str(found.address), str(found.name))


def retries() -> int:
    """Return how often the task of this thread may be tried again."""
    found = _worker()
    if found is None:
        return 0
    try:
        task = found.state.tasks[found.get_current_task()]
        return int((task.annotations or {}).get("retries") or 0)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0  # a thread that a step made itself, or another version's layout


def is_wanted() -> bool:
    """Whether the task of this thread is still to be run; True where nobody can tell."""
    found = _worker()
    if found is None:
        return True
    try:
        return bool(found.state.tasks[found.get_current_task()].state != "cancelled")
    except (AttributeError, KeyError, TypeError, ValueError):
        return True  # as above


def submission(key: Any) -> Submission | None:
    """Return the task with its client, None if no client of this process submitted it."""
    for client in clients():
        state: FutureState | None = client.futures.get(key)
        if state is not None:
            return Submission(client, state, key)
    return None


def clients() -> list[Any]:
    """The clients of clusters in this process."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return []
    # There is no public list of a process' clients; without this one there are none.
    known = getattr(getattr(distributed, "Client", None), "_instances", ())
    return [client for client in list(known) if client.status != "closed"]


def log_event(topic: str, message: Any) -> bool:
    """Send a message to a topic; False where no worker runs the task of this thread."""
    found = _worker()
    if found is None:
        return False
    found.log_event(topic, message)
    return True


def subscribe(topic: str, handler: Callable[[Any], None]) -> None:
    """Call a function, on the event loops of clients, with each message of a topic."""
    for client in clients():
        with suppress(Exception):  # a client that is about to close
            client.subscribe_topic(topic, handler)


def unsubscribe(topic: str) -> None:
    """End the subscription of all clients to a topic."""
    for client in clients():
        with suppress(Exception):  # nobody had subscribed, or a client is about to close
            client.unsubscribe_topic(topic)


def _worker() -> Any:
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except (AttributeError, ValueError):
        return None
