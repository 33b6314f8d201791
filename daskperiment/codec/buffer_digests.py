"""Digests of large buffers, each taken once, and several at a time.

The fingerprint of an array is made of the digest of its memory, and so is the digest of the object
that keeps it: who keeps an array reads it once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from xxhash import xxh3_128

from daskperiment.codec.object_layout import large_buffers

__all__ = ["BufferDigests", "digest_of", "digest_of_object", "has_digest", "threads_beside"]

Buffer = Any

LARGE = 1 << 20
"""Bytes from which on a buffer in an object has a digest of its own."""
_BESIDE = 4 << 20
"""Bytes from which on a thread pays for itself."""
_THREADS = 4
"""More do not read memory faster."""


class BufferDigest:
    """The digest of one large buffer, taken when it is asked for or by a thread before."""

    __slots__ = ("_data", "_found", "_thread")

    def __init__(self, data: Any) -> None:
        self._data = data
        """Held, so that no other buffer gets its place."""
        self._found: bytes | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Let a thread take it, unless it was taken; where there can be none, `value` does."""
        if self._found is not None:
            return
        thread = threading.Thread(target=self._take, name="daskperiment-digest", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _take(self) -> None:
        state = xxh3_128()
        state.update(self._data)  # which lets other threads run meanwhile
        self._found = state.digest()

    @property
    def is_running(self) -> bool:
        """Whether a thread is taking it."""
        return self._thread is not None and self._thread.is_alive()

    def value(self) -> bytes:
        """Return the digest."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._found is None:
            self._take()
        assert self._found is not None
        return self._found


class BufferDigests:
    """The digests of large buffers, for as long as nobody changes them: each is taken once.

    It holds the buffers, and so their memory.
    """

    known: dict[tuple[int, int], BufferDigest] | None = None
    """Place in memory -> digest; None where no large buffer was met."""
    _next: BufferDigest | None = None
    """The latest, which waits for one more: a thread pays only where there are several."""

    def get(self, data: Any) -> BufferDigest:
        """Return the digest of a contiguous buffer, which is taken or being taken."""
        if self.known is None:  # most values have no large buffers
            self.known = {}
        place = _place(data)
        known = self.known.get(place)
        if known is None:
            known = self.known[place] = BufferDigest(data)
            if place[1] >= _BESIDE:
                self._begin(self.known.values())
                self._next = known
        return known

    def so_far(self) -> BufferDigests:
        """Return what is known by now: what is added later is not part of it."""
        found = BufferDigests()
        if self.known:
            found.known = dict(self.known)
        return found

    def _begin(self, known: Iterable[BufferDigest]) -> None:
        """Have the one taken that waits: by a thread, or here where enough of them run."""
        if self._next is None:
            return
        if sum(digest.is_running for digest in known) < threads_beside():
            self._next.begin()
        else:
            self._next.value()


def threads_beside() -> int:
    """Return how many threads may read memory beside this one, and gain something."""
    affinity = getattr(os, "sched_getaffinity", None)
    processors = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    return min(processors, _THREADS) - 1


def _place(data: Any) -> tuple[int, int]:
    np: Any = sys.modules.get("numpy")
    if np is None:
        return id(data), len(data)
    array = np.frombuffer(data, "u1")
    return array.__array_interface__["data"][0], array.nbytes


def digest_of(parts: Iterable[Any]) -> str:
    """Return the digest of the bytes of some parts, one behind the other."""
    state = xxh3_128()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def digest_of_object(
    parts: Sequence[Buffer], size: int, buffers: BufferDigests | None = None
) -> str:
    """Return the digest under which a store keeps these parts of an object.

    Large buffers in it stand there for their digests, with their sizes, if the first part says
    where they are, and each is a part.

    Parameters
    ----------
    parts : sequence of buffer
    size : int
        Of all of them, in bytes.
    buffers : BufferDigests, optional
        Digests that are known, which those found here are added to.
    """
    large = large_buffers(memoryview(parts[0]), size, LARGE) if size > LARGE else []
    places = {(place.start, place.stop) for place in large}
    apart, end = [], 0
    for part in parts if places else ():
        start, end = end, end + memoryview(part).nbytes
        apart.append((start, end) in places)
    if not places or sum(apart) < len(places):
        return digest_of(parts)
    return _joined(parts, apart, buffers or BufferDigests())


def _joined(parts: Sequence[Buffer], apart: Sequence[bool], buffers: BufferDigests) -> str:
    """Return a digest in which some parts stand for their own."""
    pairs = list(zip(parts, apart, strict=True))
    # All are asked for first, so that several are taken at a time.
    digests = [buffers.get(part) for part, is_apart in pairs if is_apart]
    state, taken = xxh3_128(), iter(digests)
    for part, is_apart in pairs:
        if is_apart:
            state.update(b"%016x" % memoryview(part).nbytes + next(taken).value())
        else:
            state.update(part)
    return state.hexdigest()


def has_digest(view: memoryview, digest: str) -> bool:
    """Whether an object's bytes have a digest: that of their large buffers' digests, or of all.

    Objects of earlier versions, and those that do not say where their buffers are, have the latter.
    """
    large = large_buffers(view, view.nbytes, LARGE) if view.nbytes > LARGE else []
    if not large:
        return digest_of([view]) == digest
    cuts = [0, *(cut for place in large for cut in (place.start, place.stop)), view.nbytes]
    parts = [view[start:stop] for start, stop in pairwise(cuts)]
    apart = [number % 2 == 1 for number in range(len(parts))]
    return _joined(parts, apart, BufferDigests()) == digest or digest_of([view]) == digest
