"""A store that somebody else might write: dicts in a server process, reached by multiprocessing.

Written against :mod:`daskperiment.store.protocol` alone.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Client, Listener
from threading import Lock, Thread
from typing import Any

from daskperiment.errors import StoreUnavailableError
from daskperiment.store.protocol import Allocation, Buffer, Owner, Record, State, Stored, refused

__all__ = ["ThirdPartyStore", "library"]


class Shelf:
    """Everything of one experiment, in the server process."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.removed: dict[str, int] = {}
        self.streams: dict[str, dict[tuple[int, str], tuple[int, bytes]]] = {}
        self.objects: dict[str, bytes] = {}
        self.written = 0

    def numbered(self, body: bytes) -> tuple[int, bytes]:
        self.written += 1
        return self.written, body


class Librarian:
    """Does one thing at a time, for all experiments."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._shelves: dict[str, Shelf] = {}

    def do(self, work: str, name: str, *arguments: Any) -> Any:
        with self._lock:
            shelf = self._shelves.setdefault(name, Shelf())
            return getattr(self, f"_{work}")(shelf, *arguments)

    def _allocate(self, shelf: Shelf, token: str, body: bytes, known: Record | None) -> Allocation:
        if token in shelf.removed:
            return Allocation(shelf.removed[token], time.time(), False, _stands(shelf, known))
        new = token not in shelf.tokens
        if new:
            shelf.tokens[token] = _latest(shelf) + 1
            self._append(shelf, [Record("trials", shelf.tokens[token], "begun", body)])
        return Allocation(shelf.tokens[token], time.time(), new, _stands(shelf, known))

    def _append(self, shelf: Shelf, records: list[Record]) -> Any:
        owners = {record.owner for record in records} - {None}
        found: dict[Owner, int | None] = {one: shelf.tokens.get(one.token) for one in owners if one}
        found = {one: now for one, now in found.items() if not _is_removed(shelf, one)}
        strangers = {one: number for one, number in found.items() if number != one.trial}
        if strangers:
            return refused("library", strangers)
        standing = []
        for stream, trial, id, body, owner in records:
            if owner and _is_removed(shelf, owner):
                continue
            known = shelf.streams.setdefault(stream, {})
            if (trial, id) in known and stream == "outputs":
                standing.append(Record(stream, trial, id, known[trial, id][1]))
            elif (trial, id) not in known:
                known[trial, id] = shelf.numbered(body)
        return standing

    def _remove(self, shelf: Shelf, markers: list[Record], outputs: set[str]) -> Any:
        owners = {one.owner for one in markers if one.owner}
        left = {one for one in owners if not _is_removed(shelf, one)}
        found = {one: shelf.tokens.get(one.token) for one in left}
        strangers = {one: number for one, number in found.items() if number != one.trial}
        if strangers:
            return refused("library", strangers)
        trials = {one.trial for one in markers}
        for stream, known in shelf.streams.items():
            for trial, id in list(known):
                if trial in trials or (stream == "outputs" and not trial and id in outputs):
                    del known[trial, id]
        for one in markers:
            shelf.streams["trials"][one.trial, one.id] = shelf.numbered(one.body)
        for owner in left:
            shelf.removed[owner.token] = shelf.tokens.pop(owner.token)
        return None

    def _read(self, shelf: Shelf, stream: str, trials: Any, after: int) -> list[Stored]:
        found = shelf.streams.get(stream, {}).items()
        return [
            Stored(position, trial, id, body)
            for (trial, id), (position, body) in found
            if position > after and (trials is None or trial in trials)
        ]

    def _find(self, shelf: Shelf, ids: set[str]) -> list[Record]:
        known = shelf.streams.get("outputs", {})
        return [Record("outputs", 0, id, known[0, id][1]) for id in ids if (0, id) in known]

    def _put(self, shelf: Shelf, digest: str, data: bytes) -> None:
        shelf.objects.setdefault(digest, data)

    def _get(self, shelf: Shelf, digest: str) -> bytes | None:
        return shelf.objects.get(digest)

    def _sizes(self, shelf: Shelf, digests: set[str]) -> dict[str, int]:
        return {digest: len(shelf.objects[digest]) for digest in digests & shelf.objects.keys()}

    def _discard(self, shelf: Shelf, digests: set[str]) -> None:
        for digest in digests:
            shelf.objects.pop(digest, None)

    def _delete(self, shelf: Shelf) -> None:
        shelf.__init__()  # type: ignore[misc]

    def _state(self, shelf: Shelf, known: Record | None) -> State:
        return State(_latest(shelf), time.time(), _stands(shelf, known))


def _latest(shelf: Shelf) -> int:
    return len(shelf.tokens) + len(shelf.removed)


def _is_removed(shelf: Shelf, owner: Owner) -> bool:
    return shelf.removed.get(owner.token) == owner.trial


def _stands(shelf: Shelf, known: Record | None) -> bool:
    if known is None or known.owner is None or _is_removed(shelf, known.owner):
        return True
    there = shelf.tokens.get(known.owner.token) == known.trial
    return there and (known.trial, known.id) in shelf.streams.get(known.stream, {})


def serve(told: Any) -> None:
    """Answer requests, a connection for each, until the process is ended."""
    librarian = Librarian()
    with Listener(("127.0.0.1", 0), backlog=128) as listener:
        told.send(listener.address)
        while True:
            connection = listener.accept()
            Thread(target=_answer, args=(librarian, connection), daemon=True).start()


def _answer(librarian: Librarian, connection: Any) -> None:
    with connection, suppress(EOFError, OSError):
        connection.send(librarian.do(*connection.recv()))


@contextmanager
def library() -> Iterator[Any]:
    """Run a server and give its address."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


class ThirdPartyStore:
    """One experiment, as a client sees it."""

    def __init__(self, place: tuple[str, int], name: str) -> None:
        self._place = place
        self._name = name

    def __reduce__(self) -> Any:
        return ThirdPartyStore, (self._place, self._name)

    @property
    def address(self) -> str:
        host, port = self._place
        return f"library://{host}:{port}/{self._name}"

    def allocate(self, token: str, body: bytes, known: Record | None = None) -> Allocation:
        return self._do("allocate", token, body, known)

    def append(self, records: Sequence[Record]) -> list[Record]:
        found = self._do("append", list(records))
        if isinstance(found, Exception):
            raise found
        return found

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        return self._do("read", stream, None if trials is None else set(trials), after)

    def find(self, ids: Collection[str]) -> list[Record]:
        return self._do("find", set(ids))

    def remove(self, markers: Sequence[Record], outputs: Collection[str] = ()) -> None:
        found = self._do("remove", list(markers), set(outputs))
        if isinstance(found, Exception):
            raise found

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        self._do("put", digest, b"".join(parts))

    def get(self, digest: str) -> Buffer:
        data = self._do("get", digest)
        if data is None:
            raise KeyError(digest)
        return bytearray(data)

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        return self._do("sizes", set(digests))

    def discard(self, digests: Collection[str]) -> None:
        self._do("discard", set(digests))

    def state(self, known: Record | None = None) -> State:
        return self._do("state", known)

    def delete(self) -> None:
        self._do("delete")

    def close(self) -> None:
        """There is no connection that outlives a call."""

    def _do(self, work: str, *arguments: Any) -> Any:
        try:
            with Client(self._place) as connection:
                connection.send((work, self._name, *arguments))
                return connection.recv()
        except (OSError, EOFError) as error:
            raise StoreUnavailableError(f"{self.address} is away ({error})") from error
