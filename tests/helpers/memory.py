"""A store in memory, written against the contract of `daskperiment.store.protocol` alone."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence

from daskperiment.store.protocol import Allocation, Buffer, Record, State, Stored

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keep one experiment in this process, by a clock that stands still until a test moves it.

    A copy made by pickling is the last pickled store of that name.
    """

    def __init__(self, name: str = "", clock: float = 1_700_000_000.0) -> None:
        self.name = name
        self.clock = clock
        self._lock = threading.RLock()
        self.delete()

    def __reduce__(self) -> tuple[object, tuple[str]]:
        _PICKLED[self.name] = self
        return _named, (self.name,)

    @property
    def address(self) -> str:
        return f"memory://{self.name}"

    def allocate(self, token: str, body: bytes) -> Allocation:
        with self._lock:
            new = token not in self._tokens
            trial = self._tokens.setdefault(token, len(self._tokens) + 1)
            if new:
                self.append([Record("trials", trial, "begun", body)])
            return Allocation(trial, self.clock, new)

    def append(self, records: Sequence[Record]) -> list[Record]:
        with self._lock:
            standing = []
            for record in records:
                stream = self._streams.setdefault(record.stream, {})
                identity = (record.trial, record.id)
                if identity not in stream:
                    stream[identity] = record._replace(body=bytes(record.body))
                elif record.stream == "outputs":
                    standing.append(stream[identity])
            return standing

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        with self._lock:
            numbered = list(enumerate(self._streams.get(stream, {}).values(), start=1))
        return [
            Stored(position, one.trial, one.id, one.body)
            for position, one in numbered
            if position > after and (trials is None or one.trial in trials)
        ]

    def find(self, ids: Collection[str]) -> list[Record]:
        with self._lock:
            outputs = self._streams.get("outputs", {})
            return [outputs[0, id] for id in set(ids) if (0, id) in outputs]

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        self._objects.setdefault(digest, b"".join(parts))

    def get(self, digest: str) -> Buffer:
        return bytearray(self._objects[digest])

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        with self._lock:
            there = self._objects.keys() & set(digests)
            return {digest: len(self._objects[digest]) for digest in there}

    def remove(self, markers: Sequence[Record], outputs: Collection[str] = ()) -> None:
        # Positions are counted anew: who follows this store reads it from the beginning then.
        gone = {marker.trial for marker in markers}
        with self._lock:
            for name, stream in self._streams.items():
                kept = {key: one for key, one in stream.items() if key[0] not in gone}
                self._streams[name] = kept
            for id in outputs:
                self._streams.get("outputs", {}).pop((0, id), None)
            self.append(markers)

    def discard(self, digests: Collection[str]) -> None:
        with self._lock:
            for digest in digests:
                self._objects.pop(digest, None)

    def state(self) -> State:
        with self._lock:
            return State(len(self._tokens), self.clock)

    def delete(self) -> None:
        with self._lock:
            self._tokens: dict[str, int] = {}
            self._streams: dict[str, dict[tuple[int, str], Record]] = {}
            self._objects: dict[str, bytes] = {}

    def close(self) -> None:
        pass


_PICKLED: dict[str, MemoryStore] = {}


def _named(name: str) -> MemoryStore:
    return _PICKLED[name]
