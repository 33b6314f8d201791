"""Values and texts turned into bytes that differ whenever they do, and digested.

Everything is length-prefixed, so that ``("ab", "c")`` and ``("a", "bc")`` differ, and every digest
is personalised with the version of the scheme, so that one of another version never seems equal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from xxhash import xxh3_128, xxh3_128_digest

from daskperiment.codec.buffer_digests import BufferDigest, BufferDigests

__all__ = [
    "BULK",
    "CyclicValueError",
    "Encoder",
    "GraphEncoder",
    "Handler",
    "NoFingerprintError",
    "by_attributes",
    "by_parts",
    "by_text",
    "combine",
    "new_hash",
]

BULK = 64 * 1024
"""Larger buffers are digested with XXH3, in 16 bytes as well.

It is ten times as fast as a cryptographic digest, which would cost more than many a step. Equal
digests of unequal data are as unlikely; only somebody who constructs them on purpose could make
them, and would deceive nobody but himself.
"""

# The person names the scheme and its version; to be raised when an encoding changes.
new_hash = functools.partial(blake2b, digest_size=16, person=b"daskperiment-1")
"""A BLAKE2b hash of 16 bytes, with the buffer that it is given."""


def combine(*parts: str) -> str:
    """Return the digest of several texts together, in their order.

    Examples
    --------
    >>> combine("ab", "c") == combine("a", "bc")
    False
    """
    out = bytearray()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        out += b"%d:" % len(data)
        out += data
    return new_hash(out).hexdigest()


def _digest(data: Any, size: int) -> bytes:
    if size < _LARGE:
        return xxh3_128_digest(data)
    state = xxh3_128()
    state.update(data)  # which lets other threads run meanwhile
    return state.digest()


# Values ------------------------------------------------------------------------------------------

_LARGE = 1 << 20
_TAKEN = bytes(16)
"""Stands for a digest that is still being taken."""
_DEPTH = 150
_WALKS = 5000


class NoFingerprintError(TypeError):
    """A value has no fingerprint that would be the same in another process.

    Its `reason` says why, in a few words for people.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def within(self, where: str) -> NoFingerprintError:
        """Return the same error, with the place where it was found."""
        return type(self)(f"{where}: {self.reason}")


class CyclicValueError(NoFingerprintError):
    """A value contains itself, so that it cannot be written from one end to the other."""


class KnownCode(NamedTuple):
    """A function or class whose code was written, by its id."""

    value: Any
    """The object itself, held so that no other one gets its id."""
    written: bytes
    walk: Any = None
    """What its code was found to read: it is unchanged while all of that is."""


class Encoder:
    """Writes values one after the other and digests them.

    `find` returns the handler for a type: a function of the encoder and the value. `code` holds
    digests of the code of classes and functions that are known to be unchanged, by their id.
    `buffers` are digests of large buffers that are known to be unchanged.
    """

    __slots__ = (
        *("_buffers", "_find", "_hash", "_inner", "_open", "_taken", "_walks"),
        *("code", "coding", "exact", "out", "path"),
    )

    def __init__(
        self, find: Callable[[type], Handler], code: dict[int, KnownCode] | None = None,
        exact: bool = False, path: Callable[[Any], str] = str,
        buffers: BufferDigests | None = None,
    ) -> None:  # fmt: skip
        self.exact = exact
        """Whether values that are equal, and yet may lead to other outputs, are told apart."""
        self.out = bytearray()
        self.code: dict[int, KnownCode] = {} if code is None else code
        self.coding: set[int] = set()
        """Functions and classes whose code is being written."""
        self.path = path
        """What a path stands for: its text, or what is there."""
        self._find = find
        self._buffers = buffers
        self._taken: list[tuple[int, BufferDigest]] = []
        """Digests that are being taken, and where in `out` they belong."""
        self._hash: blake2b | None = None
        self._inner = 0
        self._open: set[int] = set()
        self._walks = 0

    def feed(self, value: Any) -> None:
        """Write one value."""
        self._find(type(value))(self, value)

    def digest(self) -> bytes:
        """Return the digest of all that was written."""
        if self._taken:
            self._settle()
        if self._hash is None:
            return new_hash(self.out).digest()
        self._hash.update(self.out)
        return self._hash.digest()

    def tag(self, tag: bytes, count: int = 0) -> None:
        """Start a value: the name of its kind, and how many parts follow."""
        self.out += b"<%b %x>" % (tag, count)

    def tag_text(self, tag: bytes, text: str, count: int = 0) -> None:
        """Start a value that begins with text."""
        self.tag(tag, count)
        self.text(text)

    def text(self, text: str) -> None:
        """Write text, length-prefixed."""
        self.raw(text.encode("utf-8", "surrogatepass"))

    def raw(self, data: Any) -> None:
        """Write the bytes of a contiguous buffer, length-prefixed."""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        self.out += b"%x:" % size
        self.append(data if size <= BULK else _digest(data, size))

    def lasting(self, data: memoryview) -> None:
        """Write the bytes of a contiguous buffer that is a part of the value, as `raw` does.

        The digest of a large one is looked up, or taken beside what is written next.
        """
        size = data.nbytes
        if size < _LARGE:
            self.raw(data)
            return
        self.out += b"%x:" % size
        self._buffers = self._buffers or BufferDigests()
        self._taken.append((len(self.out), self._buffers.get(data)))
        self.append(_TAKEN)

    def _settle(self) -> None:
        for place, digest in self._taken:
            self.out[place : place + len(_TAKEN)] = digest.value()
        self._taken.clear()

    def append(self, data: Any) -> None:
        """Write what is encoded already."""
        self.out += data
        if len(self.out) > BULK:
            self._flush()

    def _flush(self) -> None:
        # What is encoded separately is wanted as a whole.
        if not self._inner:
            self._settle()
            if self._hash is None:
                self._hash = new_hash()
            self._hash.update(self.out)
            self.out.clear()

    def encode_separately(self, value: Any) -> bytes:
        """Return the encoding of a value, without writing it."""
        return self._written_by(self.feed, value)

    def digest_separately(self, write: Callable[[Encoder], None]) -> bytes:
        """Return the digest of what a function writes, without the rest."""
        return b"<code>" + new_hash(self._written_by(write, self)).digest()

    def _written_by(self, write: Callable[[Any], None], argument: Any) -> bytes:
        before, self.out = self.out, bytearray()
        taken, self._taken = self._taken, []
        self._inner += 1
        try:
            write(argument)
            if self._taken:
                self._settle()
            return bytes(self.out)
        finally:
            self.out, self._taken = before, taken
            self._inner -= 1

    def enter(self, value: Any) -> bool:
        """Note that a container is being written; False if it is within itself.

        A function that reads a container that it is itself in is no contradiction: its name
        stands for it then. For others a `GraphEncoder` is needed.
        """
        key = id(value)
        if key in self._open:
            if self.coding:
                self.tag(b"again")
                return False
            raise CyclicValueError(f"a {type(value).__qualname__} contains itself")
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
        self.out += b"<%b %x>" % (tag, count)  # as tag() does
        for value in values:
            # Not feed(), a call that would be felt in long lists.
            self._find(type(value))(self, value)

    def mapping(self, values: dict[Any, Any]) -> None:
        """Write keys and values, in the order of the keys' encodings if theirs does not count."""
        self.tag(b"dict", len(values))
        if self.exact:
            for key, value in values.items():
                self.feed(key)
                self.feed(value)
        elif set(map(type, values)) <= {str}:
            for name in sorted(values):
                self.text(name)
                self.feed(values[name])
        else:
            self._write_by_keys(values)

    def _write_by_keys(self, values: dict[Any, Any]) -> None:
        items = [(self.encode_separately(key), value) for key, value in values.items()]
        for key, value in sorted(items, key=itemgetter(0)):
            self.out += b"k"
            self.out += key
            self.feed(value)

    def count_walk(self) -> None:
        """Keep what a single fingerprint may cost within bounds."""
        self._walks += 1
        if self._walks > _WALKS:
            raise NoFingerprintError("uses too many functions that use one another")


class GraphEncoder(Encoder):
    """Writes objects that refer to one another, each once.

    An object that refers to none of those it stands in is written as the digest of what it
    is, so that equal ones are alike, shared or not. A reference back is written as the number of
    levels up to its target, and a further reference to an object with such ones by its number.
    """

    __slots__ = ("_cyclic", "_known", "_levels", "_lowest", "_plain", "_unordered")

    def __init__(
        self, find: Callable[[type], Handler], plain: frozenset[type],
        code: dict[int, KnownCode] | None = None, exact: bool = False,
        path: Callable[[Any], str] = str, buffers: BufferDigests | None = None,
    ) -> None:  # fmt: skip
        # What refers to nothing is written as it is.
        super().__init__(lambda kind: self._handler(find(kind), kind), code, exact, path, buffers)
        self._plain = plain
        self._known: dict[int, tuple[Any, bytes, int]] = {}
        self._levels: dict[int, int] = {}
        self._lowest = _NOWHERE
        self._cyclic = self._unordered = 0

    def _handler(self, handler: Handler, kind: type) -> Handler:
        if kind in self._plain:
            return handler
        return lambda encoder, value: self._write_once(handler, value)

    def _write_once(self, handler: Handler, value: Any) -> None:
        known, level = self._known.get(id(value)), self._levels.get(id(value))
        if known is not None:
            self._lowest = min(self._lowest, known[2])
            self.out += known[1]
        elif level is not None:
            self._lowest = min(self._lowest, level)
            self.tag(b"up", len(self._levels) - level)
        else:
            self._write_first(handler, value)

    def _write_first(self, handler: Handler, value: Any) -> None:
        level = self._levels[id(value)] = len(self._levels)
        before, self._lowest = self._lowest, _NOWHERE
        try:
            code = self.digest_separately(lambda encoder: handler(encoder, value))
        finally:
            del self._levels[id(value)]
        lowest = self._lowest if self._lowest < level else _NOWHERE
        self._lowest = min(before, lowest)
        self._known[id(value)] = value, self._name(code, lowest), lowest
        self.append(code)

    def _name(self, code: bytes, lowest: int) -> bytes:
        if lowest == _NOWHERE:
            return code
        if self._unordered:
            raise NoFingerprintError("objects that contain one another are in a set or are keys")
        self._cyclic += 1
        return b"<again %x>" % self._cyclic

    def encode_separately(self, value: Any) -> bytes:
        """Return the encoding of a value, without writing it."""
        self._unordered += 1
        try:
            return super().encode_separately(value)
        finally:
            self._unordered -= 1


_NOWHERE = 1 << 30

Handler = Callable[[Encoder, Any], None]


def by_attributes(tag: bytes, *names: str) -> Handler:
    """Return a handler that writes two or more attributes, which say all of a value."""
    get = attrgetter(*names)
    return lambda encoder, value: encoder.sequence(tag, get(value), len(names))


def by_parts(tag: bytes, parts: Callable[[Any], Iterable[Any]]) -> Handler:
    """Return a handler that writes what a function returns of a value."""

    def handler(encoder: Encoder, value: Any) -> None:
        encoder.tag(tag)
        for part in parts(value):
            encoder.feed(part)

    return handler


def by_text(tag: bytes, text: Callable[[Any], str]) -> Handler:
    """Return a handler that writes a text, which says all of a value."""
    return lambda encoder, value: encoder.tag_text(tag, text(value))
