"""Records of trials out of documents as the server sends them, without an object for each of these.

Nearly all documents of trials have one form: a few fields, and a list of records with a number, an
id and a body. Where these stand in BSON follows from a few sizes, which are looked up for thousands
of documents at once. Every byte that has to be there is looked at; a document of another form is
decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from bson import decode_all

from daskperiment.store.mongo.client import Database, MongoServer
from daskperiment.store.mongo.documents import POSITIONS
from daskperiment.store.mongo.pipelines import TRIALS, own
from daskperiment.store.protocol import Stored
from daskperiment.store.reading_ahead import ask_ahead
from daskperiment.store.record_pages import RecordPage, pages_in_any_order

__all__ = ["DocumentForm", "pages"]

_BATCH = 4_000
"""Documents in one answer: the server gathers the next ones while those are gone through."""
_SIZE = struct.Struct("<i").unpack_from
_MOST = 10
"""Records in a document of the usual form."""

_Rows = np.ndarray[Any, Any]


def pages(
    server: MongoServer, form: DocumentForm, projection: Any,
    read: Callable[[dict[str, Any]], list[Stored]],
) -> Iterator[RecordPage]:  # fmt: skip
    """Yield the records of all documents of trials that an experiment has, in any order.

    Parameters
    ----------
    server : MongoServer
    form : DocumentForm
        Of nearly all documents.
    projection : object
        What is wanted of the field ``records``.
    read : callable
        Returns the records of a document of another form.
    """

    def odd(document: bytes) -> list[Stored]:
        return read(server.run_once(partial(decode_all, document))[0])

    fields = {"trial": 1, "records": projection}
    batches = _batches(server, own(form.experiment), fields)
    return pages_in_any_order(form.records(batch, odd) for batch in batches)


def _batches(
    server: MongoServer, filter: dict[str, Any], projection: dict[str, Any]
) -> Iterator[bytes]:
    """Find documents of trials as BSON, some at a time, of which the next are asked for before."""

    def find(database: Database) -> Any:
        found = database[TRIALS].find_raw_batches(filter, projection, batch_size=_BATCH)
        return found, next(found, None)

    cursor, batch = server.run(find)
    more = partial(server.run_once, partial(next, cursor, None))
    try:
        while batch is not None and cursor.alive:
            with ThreadPoolExecutor(1, "daskperiment-page") as threads:
                answer = ask_ahead(threads, more)
                yield batch
                batch = answer()
        if batch is not None:
            yield batch
    finally:
        cursor.close()


class DocumentForm:
    """The form of documents that have an id, a trial and its records of a stream.

    Parameters
    ----------
    experiment, stream : str
    upto : int
        Records from this position on are left out.
    """

    def __init__(self, experiment: str, stream: str, upto: int) -> None:
        self.experiment = experiment
        self._upto = upto
        # Fields: a byte for the type, the name and a null; before texts and lists stands their
        # size. What is left open may be anything.
        key = b"\x02experiment\0" + _text(experiment) + b"\x10trial\0"
        self._head = _BytePattern(
            None, b"\x03_id\0" + struct.pack("<i", len(key) + 9) + key, None,
            b"\0\x10trial\0", None, b"\x04records\0", None,
        )  # fmt: skip
        self._records = [
            _BytePattern(
                b"\x03%d\0" % place, None, b"\x10n\0", None, b"\x02stream\0", _text(stream),
                b"\x02id\0", None,
            )
            for place in range(_MOST)
        ]  # fmt: skip
        self._body = _BytePattern(b"\0\x02body\0", None)
        self._end = _BytePattern(b"\0\0")

    def records(self, batch: bytes, odd: Callable[[bytes], list[Stored]]) -> list[Stored]:
        """Return the records of documents in BSON; `odd` returns those of one of another form."""
        starts, at = [], 0
        while at < len(batch):
            starts.append(at)
            at += max(_SIZE(batch, at)[0], 5)
        first = np.array(starts, "int64")
        ends = np.append(first[1:], len(batch))
        usual, found = self._usual(batch, first, ends)
        for place in np.flatnonzero(~usual).tolist():
            found += odd(batch[first[place] : ends[place]])
        return found

    def _usual(self, batch: bytes, starts: _Rows, ends: _Rows) -> tuple[_Rows, list[Stored]]:
        """Return which documents have the form, and their records."""
        usual, (whole, trials, same, size) = self._head.read(batch, starts)
        at = starts + self._head.size
        # A list and a document end with a null each.
        usual &= (whole == ends - starts) & (trials == same) & (at - 4 + size == ends - 1)
        live, parts = np.flatnonzero(usual), []
        number, place = np.full(len(starts), -1), np.zeros(len(starts), "int64")
        for form in self._records:
            live = live[usual[live] & (at[live] < ends[live] - 2)]
            if not len(live):
                break
            good, (size, numbers, long) = form.read(batch, at[live])
            name = at[live] + form.size
            fits, (length,) = self._body.read(batch, name + long - 1)
            body = name + long - 1 + self._body.size
            closed, _ = self._end.read(batch, body + length - 1)
            after = body + length + 1
            good &= fits & closed & (long > 0) & (length > 0)
            usual[live] = good & (at[live] + 3 + size == after)
            at[live] = after
            place[live] = np.where(numbers == number[live], place[live] + 1, 0)
            number[live] = numbers
            positions = numbers * POSITIONS + place[live]
            parts.append((live, positions, name, name + long - 1, body, body + length - 1))
        usual &= (at == ends - 2) & self._end.read(batch, ends - 2)[0]
        return usual, [one for each in parts for one in self._stored(batch, usual, trials, *each)]

    def _stored(
        self, batch: bytes, usual: _Rows, trials: _Rows, documents: _Rows, positions: _Rows,
        *places: _Rows,
    ) -> list[Stored]:  # fmt: skip
        """Return one record of each document that has the form."""
        some = usual[documents] & (positions < self._upto)
        name, name_end, body, body_end = (each[some].tolist() for each in places)
        ids = [batch[a:b] for a, b in zip(name, name_end, strict=True)]
        texts = {one: one.decode("utf-8", "replace") for one in {*ids}}
        bodies = [batch[a:b] for a, b in zip(body, body_end, strict=True)]
        rows = zip(positions[some].tolist(), trials[documents[some]].tolist(),
                   map(texts.__getitem__, ids), bodies, strict=True)  # fmt: skip
        return [*map(Stored._make, rows)]


class _BytePattern:
    """Bytes that have to stand somewhere, with gaps for numbers of 32 bit."""

    def __init__(self, *parts: bytes | None) -> None:
        whole = [b"\0" * 4 if part is None else part for part in parts]
        self._wanted = np.frombuffer(b"".join(whole), "uint8")
        self.size = len(self._wanted)
        ends = np.cumsum([*map(len, whole)]).tolist()
        self._gaps = [end - 4 for part, end in zip(parts, ends, strict=True) if part is None]

    def read(self, data: bytes, places: _Rows) -> tuple[_Rows, list[_Rows]]:
        """Return at which places the bytes stand, and the numbers in the gaps."""
        last = len(data) - self.size
        if last < 0:
            return np.zeros(len(places), bool), [np.zeros(len(places), "int64")] * len(self._gaps)
        # What stands at each place, as one value that is copied at once.
        windows: Any = np.ndarray(last + 1, f"V{self.size}", data, strides=(1,))
        # Places outside come of sizes that are no sizes.
        found = windows[np.clip(places, 0, last)].view("uint8").reshape(len(places), self.size)
        numbers = []
        for at in self._gaps:
            gap = found[:, at : at + 4]
            numbers.append(np.ascontiguousarray(gap).view("<i4")[:, 0].astype("int64"))
            gap[:] = 0
        fits = (found == self._wanted).all(axis=1) & (places >= 0) & (places <= last)
        return fits, numbers


def _text(text: str) -> bytes:
    """Return a text as the value of a field."""
    encoded = text.encode()
    return struct.pack("<i", len(encoded) + 1) + encoded + b"\0"
