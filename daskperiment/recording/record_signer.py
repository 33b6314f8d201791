"""Signing what this process writes of trials, and numbering it, so that what is removed is missed.

Each kind of thing that a trial has is counted for itself: step runs, points, pieces of logs and
notes. A thing has its number, and step runs and ends say how many there were of each by then.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from daskperiment.codec import signed, signed_piece
from daskperiment.recording.outputs import remember
from daskperiment.records import (
    Artifact,
    Checkpoint,
    Computed,
    Curation,
    Ended,
    LogPiece,
    Point,
    SignedPiece,
    SignedPoint,
    StepRun,
)
from daskperiment.store.protocol import Owner

__all__ = ["RecordSigner"]

_COUNTED = 100_000
"""Trials whose things are counted, so that they can be numbered."""
_OF_STEPS = (StepRun, Ended, Computed)
_NUMBERED_NOTES = (Artifact, Checkpoint, Curation)
"""Notes whose ids are unique, so that the store takes all that are written."""


class RecordSigner:
    """Signs and numbers what one process writes of the trials of one store.

    Parameters
    ----------
    address : str
        Of the store.
    writer : str
        The name of this process, which no other has.

    Attributes
    ----------
    lock : RLock
        Held from a thing's number until it is written, so that they are written in their order.
    """

    def __init__(self, address: str, writer: str) -> None:
        self.lock = threading.RLock()
        self._address = address
        self._writer = writer
        self._counts: OrderedDict[Owner, _Counts] = OrderedDict()
        self._left = _COUNTED

    def record(self, record: Any, owner: Owner, key: bytes) -> Any:
        """Return a record of a trial, or a note on it, as it is to be written."""
        kind = type(record)
        if kind in _OF_STEPS:
            # Of step runs those that ran here are counted: each has an id of its own.
            ran = kind is StepRun and record.reused is None
            serial = self._serial(owner, "steps", int(ran))
            told = {name: n for name, n in self._counted(owner).of.items() if name != "steps"}
            record = replace(record, serial=serial, counts=told)
        elif kind in _NUMBERED_NOTES:
            record = replace(record, serial=self._serial(owner, "notes"))
        # Only a step run says which number its trial has: the others are as good under any.
        purpose = owner.trial if kind is StepRun else owner.token
        return signed(record, key, self._address, purpose)

    def point(self, owner: Owner, point: Point, key: bytes) -> Point:
        """Return a point of a trial as it is to be written."""
        made = SignedPoint(
            point.metric, point.epoch, point.value, point.time, self._serial(owner, "points")
        )
        return signed_piece(made, key, self._address, owner.token)

    def pieces(
        self, owner: Owner, pieces: Sequence[LogPiece], key: bytes, numbered: bool
    ) -> list[LogPiece]:  # fmt: skip
        """Return pieces of a trial's log as they are to be written; `forget` if they were not."""
        serials = [self._serial(owner, "logs") if numbered else "" for _ in pieces]
        made = [
            SignedPiece(
                one.step, one.run, one.start, one.time, one.source, one.thread, one.text, serial
            )
            for one, serial in zip(pieces, serials, strict=True)
        ]
        return [signed_piece(one, key, self._address, owner.token) for one in made]

    def forget(self, owner: Owner, pieces: int) -> None:
        """Count pieces as not written."""
        self._counted(owner).of["logs"] -= pieces

    def notes(self) -> dict[str, int]:
        """Return how many notes were written here of trials: by the token, a blank, the writer."""
        found = list(self._counts.items())
        return {
            f"{owner.token} {each.writer}": each.of["notes"]
            for owner, each in found if each.of.get("notes")
        }  # fmt: skip

    def _serial(self, owner: Owner, kind: str, more: int = 1) -> str:
        counts = self._counted(owner)
        counts.of[kind] = number = counts.of.get(kind, 0) + more
        return f"{counts.writer}:{number}"

    def _counted(self, owner: Owner) -> _Counts:
        counts = self._counts.get(owner)
        if counts is None:
            self._left -= 1
            # Of a trial whose counts were forgotten it is counted anew, under another name.
            name = self._writer if self._left >= 0 else f"{self._writer}.{-self._left}"
            counts = _Counts(name, {})
            remember(self._counts, owner, counts, _COUNTED)
        return counts


class _Counts(NamedTuple):
    """Under which name, and how many of each kind of thing, were written of a trial."""

    writer: str
    of: dict[str, int]
