"""Looking over an experiment's keys in Redis: what is there that no store of it wrote like this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from daskperiment.store.protocol import Fault
from daskperiment.store.redis.client import RedisServer
from daskperiment.store.redis.scripts import SET_ASIDE

__all__ = ["RedisInspection", "count_or_none", "is_count", "pairs"]

_ENTRIES = 1000
"""Entries of a stream that are asked for at once."""
_KINDS = {
    "counters": "hash", "tokens": "hash", "stream": "stream", "index": "hash", "object": "string",
    "aside": "hash", "deleted": "string",
}  # fmt: skip
"""What the name of a key begins with -> the kind that Redis says it is of."""


class RedisInspection:
    """Looks over the keys of one experiment.

    Parameters
    ----------
    server : RedisServer
    prefix : str
        What all its keys begin with.
    address : str
        Of the store, for people.
    index_of : callable
        Returns the key of the index of a stream's records of no trial.
    """

    def __init__(
        self, server: RedisServer, prefix: str, address: str, index_of: Callable[[str], str]
    ) -> None:
        self._server = server
        self._prefix = prefix
        self._address = address
        self._index_of = index_of
        self._counters = f"{prefix}counters"

    def faults(self, seconds: float) -> Iterator[Fault]:
        """Yield keys of another kind, counters that are none, and entries that are missing."""
        deadline = time.monotonic() + seconds
        for key in self.keys("*"):
            if time.monotonic() > deadline:
                return
            if any(self._faults_of(key)):  # or it was deleted between two questions
                yield from self._faults_of(key)

    def _faults_of(self, key: str) -> Iterator[Fault]:
        name = key[len(self._prefix) :]
        kind = self._server.call("TYPE", key)
        kind = kind.decode() if isinstance(kind, bytes) else kind
        wanted = _KINDS.get(name.partition(":")[0])
        if kind not in ("none", wanted):
            yield self._fault(key, f"it is of the kind {kind}, not {wanted}")
        elif name in ("counters", "tokens"):
            yield from self._odd_numbers(key)
        elif name.startswith("index:"):
            yield from self._lost_entries(key)
        elif name.startswith("stream:"):
            yield from self._odd_entries(key)

    def keys(self, pattern: str) -> Iterator[str]:
        """Yield the experiment's keys of a pattern, each once."""
        seen: set[bytes] = set()
        for keys in self._server.scan(self._prefix + pattern):
            fresh = [key.decode(errors="replace") for key in keys if key not in seen]
            seen.update(keys)
            yield from fresh

    def _odd_numbers(self, key: str) -> Iterator[Fault]:
        found = pairs(self._server.call("HGETALL", key))
        odd = [name for name, value in found.items() if not is_count(value)]
        if odd:
            names = ", ".join(repr(name.decode(errors="replace")) for name in odd[:3])
            yield self._fault(key, f"{len(odd)} of its fields are no numbers, such as {names}")

    def _lost_entries(self, key: str) -> Iterator[Fault]:
        stream = f"{self._prefix}stream:{key.split(':')[-2]}"
        places = list(pairs(self._server.call("HGETALL", key)).values())
        lost = [
            place
            for place in places
            if not is_count(place)
            or not self._server.call("XRANGE", stream, place + b"-0", place + b"-0")
        ]
        if lost:
            yield self._fault(key, f"{len(lost)} of the {len(places)} records it names are lost")

    def _odd_entries(self, key: str) -> Iterator[Fault]:
        """Find entries that are no records, or stand where no counter has come to."""
        stream = key.rpartition(":")[2]
        odd, last = [], 0
        for name, member in self._members(key):
            place, _, number = name.partition(b"-")
            if number != b"0" or not is_count(member.partition(b":")[0]):
                odd.append(name)
            else:
                last = max(last, int(place))
        # Asked last, as others may write. What is no number is told of where it stands.
        count = count_or_none(self._server.call("HGET", self._counters, f"stream:{stream}")) or 0
        if odd or last > count:
            what = f"{len(odd)} of its entries are no records, such as {odd[0]!r}" if odd else ""
            what = what or f"its last entry is {last}, and {self._counters!r} says {count}"
            remedy = "run `daskperiment check --repair` while nobody writes, to set that right"
            mend = partial(self._put_right, stream, odd, max(last, count))
            yield Fault(f"{self._address}, key {key!r}", what, remedy, mend)

    def _members(self, key: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield the name of each entry of a stream, and its first field."""
        start = "-"
        while found := self._server.call("XRANGE", key, start, "+", "COUNT", _ENTRIES):
            for name, fields in found:
                yield name, next(iter(fields or ()), b"")
            start = f"({found[-1][0].decode()}"

    def _put_right(self, stream: str, odd: Sequence[bytes], last: int) -> None:
        """Set entries aside, and let the next one come behind those that are left."""
        key = f"{self._prefix}stream:{stream}"
        keys = [key, self._index_of(stream), f"{self._prefix}aside"]
        for name in odd:
            self._server.run(SET_ASIDE, keys, name, stream)
        self._server.call("HSET", self._counters, f"stream:{stream}", last)
        # Redis itself takes no entry below one that was there.
        self._server.call("XSETID", key, f"{last}-0")

    def _fault(self, key: str, what: str) -> Fault:
        remedy = "restore the server's data from a backup, or copy the experiment to another store"
        return Fault(f"{self._address}, key {key!r}", what, remedy, None)


def is_count(text: bytes) -> bool:
    """Return whether a text is a number that a store counts to."""
    return text.isdigit() and len(text) < 16


def count_or_none(text: bytes | None) -> int | None:
    """Return the number that a server has somewhere, None for what damage made of it."""
    return int(text) if text and is_count(text) else None


def pairs(found: Any) -> dict[bytes, bytes]:
    """Return a hash, which the driver gives as a dict or as a list."""
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
