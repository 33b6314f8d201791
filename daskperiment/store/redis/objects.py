"""Objects of an experiment in Redis: whole from the moment when they can be found."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from toolz import partition_all

from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.store.protocol import Buffer, flat
from daskperiment.store.redis.client import RedisServer
from daskperiment.store.redis.scripts import CHUNK, ROOM, SEAL, SIZES

__all__ = ["RedisObjects"]

_MANY = 5000
"""Objects that are measured in one call: a server does nothing else meanwhile."""
_FEW = 100
"""Objects that are removed in one call: a large one has many keys."""
_CHUNK = 4 << 20
"""Bytes of an object in one string."""
_MOST = 1 << 17
"""Chunks of one object: 512 GB."""
_ATTEMPTS = 10
_HEAD = re.compile(rb"#([0-9]{1,15}) ([1-9][0-9]{0,9})")
"""Of an object in chunks: its size and theirs."""


class RedisObjects:
    """The objects of one experiment.

    All its keys begin with `prefix`; `corrupt` returns the error for what is damaged.
    """

    def __init__(
        self,
        server: RedisServer,
        prefix: str,
        corrupt: Callable[[str], CorruptRecordError],
    ) -> None:
        self._server = server
        self._prefix = prefix
        self._corrupt = corrupt

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Keep an object unless it is there: up to 4 MB in one string, else in chunks."""
        views = [flat(part) for part in parts]
        size = sum(map(len, views))
        key = f"{self._prefix}object:{digest}"
        if size <= _CHUNK:
            # One command: the object appears whole, and one that is there stays.
            self._server.call("SET", key, b"".join((b"=", *views)), "NX")
        # Asked before a piece is sent: tried again each second, it would take the room of others.
        elif not self._server.run(ROOM, [key], size):
            self._put_chunks(key, views, size)

    def get(self, digest: str) -> Buffer:
        """Return an object's bytes, in a buffer that is the caller's own."""
        key = f"{self._prefix}object:{digest}"
        head = self._server.call("GET", key)
        if head is None:
            raise KeyError(digest)
        if head[:1] == b"=":
            return memoryview(bytearray(head))[1:]
        found = _HEAD.fullmatch(head)
        if found is None:
            raise self._corrupt(f"The key {key!r} holds no object")
        size, step = map(int, found.groups())
        # Grown as chunks arrive: what a head says of the size may be wrong by any amount.
        buffer = bytearray()
        while len(buffer) < size:
            chunk = self._get_chunk(key, len(buffer))
            if len(chunk) != min(step, size - len(buffer)):
                raise self._corrupt(
                    f"The chunk '{key}:{len(buffer)}' of an object is missing or cut"
                )
            buffer += chunk
        return memoryview(buffer)

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those objects that are there."""
        heads = self._heads(digests, _MANY)
        for digest, (size, _) in heads.items():
            if size < -1:
                raise self._corrupt(f"The key '{self._prefix}object:{digest}' holds no object")
        return {digest: size for digest, (size, _) in heads.items() if size >= 0}

    def discard(self, digests: Collection[str]) -> None:
        """Remove objects, each with its chunks at one moment."""
        for batch in partition_all(_FEW, dict.fromkeys(digests)):
            keys = []
            for digest, (size, step) in self._heads(batch, _FEW).items():
                key = f"{self._prefix}object:{digest}"
                keys += [key, *_chunk_keys(key, size, step)]
            self._server.unlink(keys)

    def _heads(self, digests: Iterable[str], count: int) -> dict[str, tuple[int, int]]:
        """Return size and chunk size of objects, as the server tells them."""
        heads: dict[str, tuple[int, int]] = {}
        wanted = list(dict.fromkeys(digests))  # in slices: toolz lays out whole batches
        for start in range(0, len(wanted), count):
            batch = wanted[start : start + count]
            keys = [f"{self._prefix}object:{digest}" for digest in batch]
            found = self._server.run(SIZES, keys)
            heads.update(zip(batch, zip(found[::2], found[1::2], strict=True), strict=True))
        return heads

    def _put_chunks(self, key: str, views: Sequence[memoryview], size: int) -> None:
        # Somebody else may keep the same object meanwhile, and discard it with our chunks.
        for _ in range(_ATTEMPTS):
            try:
                for offset, chunk in _chunks(views):
                    self._server.call("SET", f"{key}:{offset}", chunk)
            except StoreError:
                # A server that is full has room for records, and for smaller ones, without them.
                self._take_back(key, size)
                raise
            if self._server.run(SEAL, [key, *_chunk_keys(key, size, _CHUNK)], size, _CHUNK):
                return
        raise StoreError(
            f"The object {key!r} lost chunks while it was written. Check the server's"
            " maxmemory-policy, and that nobody removes the object all the time."
        )

    def _take_back(self, key: str, size: int) -> None:
        """Remove the chunks of an object that could not be written to the end."""
        with suppress(StoreError):  # away: whoever writes the object again writes over them
            if not self._server.call("EXISTS", key):
                # Who writes the same object meanwhile finds that they are gone, and starts anew.
                self._server.unlink(_chunk_keys(key, size, _CHUNK))

    def _get_chunk(self, key: str, offset: int) -> bytes:
        chunk = self._server.call("GET", f"{key}:{offset}")
        if chunk is None:
            # Discarded meanwhile, and kept again perhaps: what is there at one moment is whole.
            there, chunk = self._server.run(CHUNK, [key, f"{key}:{offset}"])
            if not there:
                raise KeyError(key.rpartition(":")[2])
        return chunk or b""


def _chunk_keys(key: str, size: int, step: int) -> list[str]:
    # A head may be damaged: of one that tells of too many chunks, none is believed.
    believed = step > 0 and size <= step * _MOST
    return [f"{key}:{offset}" for offset in range(0, size, step)] if believed else []


def _chunks(views: Sequence[memoryview]) -> Iterator[tuple[int, Buffer]]:
    """Cut the views, taken as one, into chunks; only a chunk that spans views is copied."""
    offset, pieces, free = 0, [], _CHUNK
    for view in views:
        while view:
            piece, view = view[:free], view[free:]
            pieces.append(piece)
            free -= len(piece)
            if not free:
                yield offset, pieces[0] if len(pieces) == 1 else b"".join(pieces)
                offset, pieces, free = offset + _CHUNK, [], _CHUNK
    if pieces:
        yield offset, b"".join(pieces)
