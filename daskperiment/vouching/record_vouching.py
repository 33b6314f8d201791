"""What the signing key says of records: which are as their writers wrote them, and what is missing.

A record has a signature over all that it says and what it is for; a point and a piece of a log have
one each. Most are numbered by whoever wrote them, and step runs and ends say how many there were: a
number that is missing is of something that was removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from daskperiment.codec import (
    PointRun,
    content_hash,
    decode,
    has_piece_signature,
    has_signature,
    sealed,
)
from daskperiment.errors import CorruptRecordError
from daskperiment.records import (
    Begun,
    CacheEntry,
    Removed,
    SignedPiece,
    SignedPoint,
    StepRun,
    Sweep,
    record_type,
)
from daskperiment.store.protocol import Buffer, Stored

__all__ = ["MissingRecords", "Vouching"]

_CHANGED = "its signature does not fit: it was changed, or belongs to another trial"
_UNSIGNED = "it is not signed, though its trial is"
_SWEEP = "it is not signed: recorded without this key, or changed since"
_TWICE = "it stands there twice"
_WORDS = {"steps": "step runs", "points": "points", "logs": "pieces of the log", "notes": "notes"}


class _Points(Struct, gc=False):
    pieces: list[SignedPoint] = msgspec.field(name="points", default_factory=list)
    runs: list[PointRun] = []
    """A point of a run has no place for a signature."""


class _Lines(Struct, gc=False):
    pieces: list[SignedPiece] = msgspec.field(name="lines")
    runs: list[PointRun] = []


_PIECES: dict[str, tuple[bytes, type[_Points | _Lines]]] = {
    "points": (b"points", _Points), "logs": (b"lines", _Lines),
}  # fmt: skip
"""Stream -> the field of its records that has the pieces, and what such a record is."""


class MissingRecords(NamedTuple):
    """What somebody wrote of a trial and is not there."""

    trial: int
    kind: str
    writer: str
    numbers: list[int]

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.numbers[:10])) + " …" * (len(self.numbers) > 10)
        return (
            f"{len(self.numbers)} {_WORDS[self.kind]} that {self.writer} wrote are missing: {shown}"
        )


class _Numbers:
    """Which numbers from 1 on were seen, nearly all of them one after the other."""

    __slots__ = ("ahead", "highest", "told", "upto")

    def __init__(self) -> None:
        self.upto = self.highest = self.told = 0
        self.ahead: set[int] = set()

    def add(self, number: int) -> bool:
        """Note a number; False if it was seen before."""
        if number <= self.upto or number in self.ahead:
            return False
        self.highest = max(self.highest, number)
        self.ahead.add(number)
        while self.upto + 1 in self.ahead:
            self.upto += 1
            self.ahead.discard(self.upto)
        return True

    def missing(self) -> list[int]:
        """Return the numbers that were not seen, of those that were said to be there."""
        last = max(self.highest, self.told)
        return [n for n in range(self.upto + 1, last + 1) if n not in self.ahead]


class Vouching:
    """Learns from the records of a store, as they are read, what their writers vouch for.

    The first record of a trial has to be seen before the others.

    Parameters
    ----------
    key : bytes
        The signing key.
    address : str
        Of the store.

    Attributes
    ----------
    begun : dict
        Trials that are signed with the key -> their first records.
    foreign : set
        Trials that are not: recorded without it, or changed since.
    removed : set
        Trials that were deleted.
    ended : set
        Trials that have an end.
    """

    def __init__(self, key: bytes, address: str) -> None:
        self.begun: dict[int, Begun] = {}
        self.foreign: set[int] = set()
        self.removed: set[int] = set()
        self.ended: set[int] = set()
        self._key = key
        self._address = address
        self._numbers: dict[tuple[int, str, str], _Numbers] = {}
        self._hashes: dict[str, str] = {}

    def knows(self, trial: int) -> bool:
        """Whether it was seen how a trial began, or that it was deleted."""
        return not trial or trial in self.begun or trial in self.foreign or trial in self.removed

    def look(self, stream: str, one: Stored) -> tuple[Stored | None, str]:
        """Return as much of a record as is vouched for, and what is wrong with it if anything is.

        What is of a trial that is not signed at all is returned as it is, and so is what is
        damaged, which other readers tell of.
        """
        try:
            if stream in _PIECES:
                return self._pieces(stream, one)
            fault = self._fault(stream, one)
        except CorruptRecordError:
            return one, ""
        return (None if fault else one), fault

    def missing(self, kinds: tuple[str, ...] = tuple(_WORDS)) -> Iterator[MissingRecords]:
        """Yield what was removed, as far as numbers tell it."""
        for (trial, kind, writer), numbers in sorted(self._numbers.items()):
            if kind in kinds and (gone := numbers.missing()):
                yield MissingRecords(trial, kind, writer, gone)

    def expect(self, trial: int, kind: str, writer: str, number: int) -> None:
        """Count on what somebody is known to have written of a trial, up to a number."""
        numbers = self._of(trial, kind, writer)
        numbers.told = max(numbers.told, number)

    def anew(self) -> Vouching:
        """Return another one that knows the same trials, and counts anew what it reads."""
        other = Vouching(self._key, self._address)
        other.begun, other.foreign, other.removed = self.begun, self.foreign, self.removed
        other._hashes = self._hashes
        return other

    def object_fault(self, digest: str, data: Buffer) -> str:
        """Return what is wrong with an object of which a signed trial tells what it is."""
        wanted = self._hashes.get(digest)
        if wanted is None or content_hash([data]) == wanted:
            return ""
        return (
            f"the object {digest!r} is not the one that was signed: it was changed; restore it "
            "from a backup, or rely on it no more than on whoever can write to the store"
        )

    def _fault(self, stream: str, one: Stored) -> str:
        kind = record_type(stream, one.id)
        if kind in (None, Begun, Removed):
            return self._first(one, kind)
        if kind is CacheEntry:
            return self._entry(one)
        if kind is Sweep:
            return self._signature_fault(decode(one.body, Sweep))
        begun = self.begun.get(one.trial)
        if kind is not None and one.id.startswith("ended"):
            self.ended.add(one.trial)
        if begun is None or kind is None or not _is_signed(begun, stream):
            return ""
        record: Any = decode(one.body, kind)
        purpose = one.trial if kind is StepRun else begun.token
        fault = self._signature_fault(record, purpose)
        return fault or self._numbered(stream, one.trial, record)

    def _first(self, one: Stored, kind: type[Struct] | None) -> str:
        """Learn from a record that says how a trial began, or that it was deleted."""
        if kind is Begun:
            begun = decode(one.body, Begun)
            if has_signature(begun, self._key, self._address):
                self.begun[one.trial] = begun
                self.foreign.discard(one.trial)
                self._hashes.update(_hashes(begun))
            else:
                self.begun.pop(one.trial, None)
                self.foreign.add(one.trial)
        elif kind is Removed:
            removed = decode(one.body, Removed)
            self.removed.add(one.trial)
            if not has_signature(removed, self._key, self._address, removed.token):
                return "the trial was deleted by somebody without this key"
        return ""

    def _entry(self, one: Stored) -> str:
        entry = decode(one.body, CacheEntry)
        if entry.signature is None and entry.trial not in self.begun:
            return ""
        return self._signature_fault(entry, one.id)

    def _signature_fault(self, record: Any, *purpose: object) -> str:
        if has_signature(record, self._key, self._address, *purpose):
            return ""
        if record.signature:
            return _CHANGED
        return _SWEEP if isinstance(record, Sweep) else _UNSIGNED

    def _numbered(self, stream: str, trial: int, record: Any) -> str:
        """Note the number of a record, and those that it tells of others."""
        writer, number = _split(getattr(record, "serial", None))
        if not number:
            return ""
        if stream == "notes":
            return "" if self._of(trial, "notes", writer).add(number) else _TWICE
        for kind, count in {**record.counts, "steps": number}.items():
            numbers = self._of(trial, kind, writer)
            numbers.told = max(numbers.told, count)
        if isinstance(record, StepRun) and record.reused is None:
            return "" if self._of(trial, "steps", writer).add(number) else _TWICE
        return ""

    def _pieces(self, stream: str, one: Stored) -> tuple[Stored | None, str]:
        begun = self.begun.get(one.trial)
        if begun is None or not begun.vouched:
            return one, ""
        name, kind = _PIECES[stream]
        found = decode(one.body, kind)
        pieces = found.pieces
        faults = [self._piece_fault(stream, one.trial, piece, begun.token) for piece in pieces]
        wrong = [fault for fault in faults if fault] + [_UNSIGNED] * len(found.runs)
        if not wrong:
            return one, ""
        good = [piece for piece, fault in zip(pieces, faults, strict=True) if not fault]
        count = len(pieces) + len(found.runs)
        what = f"{len(wrong)} of its {count} {_WORDS[stream]} are wrong: {wrong[0]}"
        if not good:
            return None, what
        body = sealed(b'{"%b":%b}' % (name, msgspec.json.encode(good)), one.trial)
        return one._replace(body=body), what

    def _piece_fault(self, stream: str, trial: int, piece: Any, token: str) -> str:
        if not has_piece_signature(piece, self._key, self._address, token):
            return _CHANGED if piece.signature else _UNSIGNED
        writer, number = _split(piece.serial)
        if number and not self._of(trial, stream, writer).add(number):
            return _TWICE
        return ""

    def _of(self, trial: int, kind: str, writer: str) -> _Numbers:
        return self._numbers.setdefault((trial, kind, writer), _Numbers())


def _is_signed(begun: Begun, stream: str) -> bool:
    """Whether the records of a trial in a stream are signed, as what it began with says.

    Earlier versions signed less.
    """
    return stream == "steps" or (begun.vouched if stream == "notes" else begun.numbered)


def _hashes(begun: Begun) -> Iterator[tuple[str, str]]:
    """Yield the digests of objects that a trial names, and what else is known of their bytes."""
    if begun.code_hash:
        yield begun.code, begun.code_hash
    for name, known in begun.hashes.items():
        if digest := getattr(begun, name, None):
            yield digest, known


def _split(serial: str | None) -> tuple[str, int]:
    """Return who wrote something, and its number."""
    writer, _, number = (serial or "").rpartition(":")
    return writer, int(number) if number.isdecimal() and len(number) < 20 else 0
