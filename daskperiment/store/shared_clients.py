"""Clients of servers, which the stores of a process have in common."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Hashable, Mapping
from contextvars import Context
from typing import Any

__all__ = ["SharedClient", "shared_client"]


class SharedClient:
    """A driver's client, closed when the last store that has it is closed or forgotten.

    A client has connections and threads, and a thousand experiments of one server need no more of
    them than one experiment does.

    Parameters
    ----------
    client : Any
    close : callable
        Closes it.
    """

    def __init__(self, client: Any, close: Callable[[Any], object]) -> None:
        self.client = client
        # The garbage collector may begin while a context variable is set, before Python 3.12.
        # Who then sets another one in the same context ends the interpreter: so not in that.
        weakref.finalize(self, Context().run, close, client)


_CLIENTS: weakref.WeakValueDictionary[Hashable, SharedClient] = weakref.WeakValueDictionary()


def shared_client(
    way: tuple[Any, ...], connect: Callable[[], Any], close: Callable[[Any], object]
) -> SharedClient:
    """Return the client of this process for a way to a server, made if there is none.

    Without a lock, as a forked child may need one too: two threads may make one each at first.
    """
    try:
        key = (os.getpid(), _frozen(way))
        found = _CLIENTS.get(key)
    except TypeError:  # some option is an object that cannot be compared
        return SharedClient(connect(), close)
    return found or _CLIENTS.setdefault(key, SharedClient(connect(), close))


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((name, _frozen(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return value
