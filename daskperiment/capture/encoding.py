"""Turn a value into bytes that differ whenever the value does, and digest them.

Each value is written as a tag for its type and then its content, length-prefixed, so that no two
values share an encoding. Nested values follow one another in the same buffer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from daskperiment.capture.digest import BULK, PERSON, SIZE, bulk_digest, digest

__all__ = ["Encoder", "Handler", "NoFingerprintError", "encode_double"]

_DEPTH = 150
_WALKS = 5000


class NoFingerprintError(TypeError):
    """A value has no fingerprint that would be the same in another process.

    Attributes
    ----------
    reason : str
        Why, in a few words for people.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Encoder:
    """Write values one after the other and digest them.

    Parameters
    ----------
    find : callable
        Gives the handler for a type: a function of the encoder and the value.
    code : dict, optional
        Digests of the code of classes and functions that are known to be unchanged, by their id.
    """

    __slots__ = (
        "_find",
        "_flushed",
        "_hash",
        "_inner",
        "_open",
        "_walks",
        "bulk",
        "code",
        "coding",
        "out",
    )

    exact = False
    """Whether values that are equal, and yet may lead to other outputs, are told apart."""

    def __init__(
        self, find: Callable[[type], Handler], code: dict[int, tuple[Any, bytes]] | None = None
    ) -> None:
        self.out = bytearray()
        self.bulk = 0
        """Bytes of content that are cheap to digest."""
        self.code: dict[int, tuple[Any, bytes]] = {} if code is None else code
        self.coding: set[int] = set()
        """Functions and classes whose code is being written."""
        self._find = find
        self._hash: blake2b | None = None
        self._flushed = 0
        self._inner = 0
        self._open: set[int] = set()
        self._walks = 0

    @property
    def written(self) -> int:
        """Bytes that were written so far, and need a slow digest."""
        return self._flushed + len(self.out)

    def feed(self, value: Any) -> None:
        """Write one value."""
        self._find(type(value))(self, value)

    def digest(self) -> bytes:
        """Digest all that was written."""
        if self._hash is None:
            return blake2b(self.out, digest_size=SIZE, person=PERSON).digest()
        self._hash.update(self.out)
        return self._hash.digest()

    def tag(self, tag: bytes, count: int = 0) -> None:
        """Start a value: the name of its kind, and how many parts follow."""
        self.out += b"<%b %x>" % (tag, count)

    def text(self, text: str) -> None:
        """Write text, length-prefixed."""
        self.raw(text.encode("utf-8", "surrogatepass"))

    def raw(self, data: Any) -> None:
        """Write the bytes of a contiguous buffer, length-prefixed."""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if size > 512:
            self.bulk += min(size, BULK)
        self.out += b"%x:" % size
        if size <= BULK:
            self.out += data
        else:
            self.out += bulk_digest(data)
            self.bulk += size - BULK
        if len(self.out) > BULK:
            self._flush()

    def _flush(self) -> None:
        if not self._inner:
            if self._hash is None:
                self._hash = blake2b(digest_size=SIZE, person=PERSON)
            self._hash.update(self.out)
            self._flushed += len(self.out)
            self.out.clear()

    def detached(self, value: Any) -> bytes:
        """Encode a value apart from the others."""
        return self._apart(self.feed, value)

    def apart(self, write: Callable[[Encoder], None]) -> bytes:
        """Digest what a function writes, apart from the rest."""
        return b"<code>" + digest(self._apart(write, self))

    def _apart(self, write: Callable[[Any], None], argument: Any) -> bytes:
        before, self.out = self.out, bytearray()
        self._inner += 1
        try:
            write(argument)
            return bytes(self.out)
        finally:
            self.out = before
            self._inner -= 1

    def enter(self, value: Any) -> bool:
        """Note that a container is being written; False if it is within itself.

        A function that reads a container that it is itself in is no contradiction: its name
        stands for it then. Other containers within themselves have no fingerprint.
        """
        key = id(value)
        if key in self._open:
            if self.coding:
                self.tag(b"again")
                return False
            raise NoFingerprintError(f"a {type(value).__qualname__} contains itself")
        if len(self._open) >= _DEPTH:
            raise NoFingerprintError(f"nested more than {_DEPTH} deep")
        self._open.add(key)
        return True

    def leave(self, value: Any) -> None:
        """Note that a container was written."""
        self._open.discard(id(value))

    @contextmanager
    def within(self, value: Any) -> Iterator[bool]:
        """Do what ``enter`` and ``leave`` do, for rarer containers."""
        entered = self.enter(value)
        try:
            yield entered
        finally:
            if entered:
                self.leave(value)

    def sequence(self, tag: bytes, values: Iterable[Any], count: int) -> None:
        """Write several values in their order."""
        self.tag(tag, count)
        for value in values:
            self._find(type(value))(self, value)

    def mapping(self, values: dict[Any, Any]) -> None:
        """Write keys and values, in the order of the keys' encodings."""
        self.tag(b"dict", len(values))
        if all(type(key) is str for key in values):
            for name in sorted(values):
                self.text(name)
                self.feed(values[name])
            return
        items = [(self.detached(key), value) for key, value in values.items()]
        for key, value in sorted(items, key=_first):
            self.out += b"k"
            self.out += key
            self.feed(value)

    def count_walk(self) -> None:
        """Keep what a single fingerprint may cost within bounds."""
        self._walks += 1
        if self._walks > _WALKS:
            raise NoFingerprintError("uses too many functions that use one another")


Handler = Callable[[Encoder, Any], None]

_first = itemgetter(0)
_DOUBLE = struct.Struct("<d")


def encode_double(value: float) -> bytes:
    """Encode a float; every nan is the same one."""
    return _DOUBLE.pack(value if value == value else float("nan"))
