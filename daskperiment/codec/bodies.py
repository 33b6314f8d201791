"""Records <-> bytes: the body that a stream holds, or an object that many trials share.

The body of a record ends with a checksum, so that a digit that changed is seen though it is still
JSON. It stands there as a last field, which readers of any version pass over; records that were
written before there was any have none. It is no signature: whoever changes a record on purpose
can make another one. Before it stands the trial that the record is of, so that one whose number
changed is seen as well; not in a trial's first record, which is written before there is a number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from operator import methodcaller
from typing import Any, TypeVar
from zlib import crc32

import msgspec
from xxhash import xxh3_64_hexdigest

from daskperiment.codec.object_format import Blob, Buffer, digest_of
from daskperiment.errors import CorruptRecordError

__all__ = [
    "MARK",
    "are_intact",
    "blocked",
    "decode",
    "decode_each",
    "decode_many",
    "dump_record",
    "encode",
    "find_record",
    "from_excerpt",
    "is_of",
    "is_sealed",
    "load_record",
    "parsed",
    "placed",
    "sealed",
]

T = TypeVar("T", bound=msgspec.Struct)

_ENCODER = msgspec.json.Encoder()
_CHECKSUM = b',"checksum":"'
_DIGITS = 16
_LONG = 10_000
"""Bytes of a body from which on it is decoded by itself."""
_TAIL = len(_CHECKSUM) + _DIGITS + len(b'"}')
_OF = b',"of":"'
_PLACE = _TAIL + len(_OF) + 11
"""Bytes from the end at which the trial stands, as ten hexadecimal digits."""
MARK = b'!",-0]'
"""End of a block of items: no encoder writes it otherwise, as a quote in a text is escaped."""
_BLOCK = 1000
"""Bytes of items from which on they are a block."""
_CHECK = 8
"""Digits of the check of a block."""
_STARTS = {b"p": b'{"points":[', b"r": b'{"points":[],"runs":[', b"l": b'{"lines":['}
"""The list that the last item of a block stands in -> what stands before the first item."""


def encode(record: msgspec.Struct, trial: int | None = None) -> bytes:
    """Return a record's JSON, with its checksum, and with the trial that it is of if that is known.

    Text that UTF-8 cannot hold (a file name, say, or an exception's message) is written with
    backslash escapes, so that it never costs the record.
    """
    try:
        body = _ENCODER.encode(record)
    except UnicodeEncodeError:
        body = _encode_escaped(record)
    if not body.endswith(b"}"):
        return body  # a point, which stands in a record
    # As `sealed` does: a call for each record is felt in a trial.
    whole = body[:-1] if trial is None else b'%b%b%010x"' % (body[:-1], _OF, trial)
    return b'%b%b%b"}' % (whole, _CHECKSUM, xxh3_64_hexdigest(whole).encode())


def sealed(body: bytes, trial: int | None = None) -> bytes:
    """Return a body, which is a JSON object that is not empty, with its checksum, as `encode`."""
    whole = body[:-1] if trial is None else b'%b%b%010x"' % (body[:-1], _OF, trial)
    return b'%b%b%b"}' % (whole, _CHECKSUM, xxh3_64_hexdigest(whole).encode())


def blocked(
    start: bytes, items: Sequence[bytes], kind: bytes, filling: Mapping[int, bytes]
) -> bytes:
    """Return the start of a body with lists as its items, which stand in blocks if they are many.

    Behind all that readers of the last item of a block know, there is a check of the block. So a
    store may give some blocks without the others. Items that all begin with one name stay as
    they are.

    Parameters
    ----------
    start : bytes
        What stands before the first item.
    items : sequence of bytes
        JSON of lists that begin with a name.
    kind : bytes
        Says what list it is that these items stand in.
    filling : mapping
        Number of elements of an item -> what stands for those that it leaves out at its end. Behind
        an item of another number no check can stand.
    """
    totals = [] if _of_one_name(items) else list(accumulate(map(len, items)))
    if not totals or totals[-1] < 2 * _BLOCK:
        return start + b",".join(items)
    whole: list[bytes] = []
    before, begin, done, last = start, 0, 0, len(items) - 1
    while begin <= last:
        end = min(bisect_left(totals, done + _BLOCK, begin), last)
        filled = filling.get(_count_of(items[end]))
        if filled is None:
            return start + b",".join(items)
        block = b",".join(items[begin : end + 1])
        text = b'%b%b%b,"%b' % (before, block[:-1], filled, kind)
        whole.append(b"%b%08x%b" % (text, crc32(text), MARK))
        before, begin, done = b",", end + 1, totals[end]
    return b"".join(whole)


def _of_one_name(items: Sequence[bytes]) -> bool:
    start = b'%b",' % items[0].partition(b'",')[0] if items else b""
    return all(map(methodcaller("startswith", start), items))


def _count_of(item: bytes) -> int:
    """Return how many elements a list has; -1 where it is none, which must cost no delivery."""
    try:
        return len(_list_decoder(msgspec.Raw).decode(item))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return -1


def from_excerpt(body: bytes, trial: int) -> bytes | None:
    """Return what a store gave of a body as the body of a record that has no more than that.

    It may be the whole body, or some of its blocks and what stands behind them. None where it is
    neither, or damaged.
    """
    if body.startswith(b"{") and (MARK not in body or is_sealed(body, trial)):
        return body
    *blocks, end = body.split(MARK)
    checked = all(one[-_CHECK:] == b"%08x" % crc32(one[:-_CHECK]) for one in blocks)
    # Else a mark is damaged, and what stands there is a block that nobody has checked.
    is_end = end[:-_PLACE] == b"]" and is_of(body, trial) and _names_trial(body)
    if not blocks or not checked or not is_end:
        return None
    if not body.startswith(b"{"):
        start = _STARTS.get(blocks[0][-_CHECK - 1 : -_CHECK])
        if start is None:
            return None
        body = start + body[1:]
    return sealed(b"%b}" % body[:-_PLACE], trial)


def placed(body: bytes, trial: int) -> bytes:
    """Return a record's body as it is written for another trial; one that names none stays.

    The checksum of one that was changed does not come to fit by that.
    """
    if not _names_trial(body):
        return body
    if _changed([body]):
        start = len(body) - _PLACE + len(_OF)
        return b"%b%010x%b" % (body[:start], trial, body[start + 10 :])
    return sealed(b"%b}" % body[:-_PLACE], trial)


def is_of(body: bytes, trial: int) -> bool:
    """Whether a record is of this trial, as far as it says."""
    return not _names_trial(body) or not _misplaced([body], [trial])


def is_sealed(body: bytes, trial: int) -> bool:
    """Whether a record's body is as `sealed` or `encode` made it for this trial, to the byte."""
    found = _names_trial(body) and not _misplaced([body], [trial])
    return found and body[-_TAIL : len(_CHECKSUM) - _TAIL] == _CHECKSUM and not _changed([body])


def _names_trial(body: bytes) -> bool:
    return body[-_PLACE:].startswith(_OF)


def _misplaced(bodies: Sequence[bytes], trials: Iterable[int]) -> bool:
    """Whether any body says that it is of another trial than the one that it stands in."""
    start, end = len(_OF) - _PLACE, -_TAIL - 1
    return True in [
        body[-_PLACE:start] == _OF and body[start:end] != b"%010x" % trial
        for body, trial in zip(bodies, trials, strict=True)
    ]


def _changed(bodies: Sequence[bytes]) -> bool:
    """Whether any body is not the one that its checksum was made of."""
    digest, tail = xxh3_64_hexdigest, _TAIL
    end = len(_CHECKSUM) - tail
    # A list, and no generator, which is slower: this is done for each of a million records.
    return True in [
        body[-tail:end] == _CHECKSUM and digest(body[:-tail]).encode() != body[end:-2]
        for body in bodies
    ]


def are_intact(format: bytes, columns: Sequence[Sequence[bytes]]) -> bool:
    """Whether all bodies that a format makes, one of each row of values, fit their checksums.

    Nothing is said of bodies without one: they are not. Only what stands before it is made.
    """
    end = _CHECKSUM[:-1] + b"%b}"
    if not format.endswith(end):
        return False
    wholes = map(format[: -len(end)].__mod__, zip(*columns[:-1], strict=True))
    try:
        wanted: list[str] = _list_decoder(str).decode(b"[%b]" % b",".join(columns[-1]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return wanted == list(map(xxh3_64_hexdigest, wholes))


def _encode_escaped(record: msgspec.Struct) -> bytes:
    return _ENCODER.encode(_escaped(msgspec.to_builtins(record)))


def _escaped(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_escaped(key): _escaped(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_escaped(item) for item in data]
    return data


def decode(body: bytes, type_: type[T]) -> T:
    """Return the record whose JSON this is; CorruptRecordError if it is not that of such a record.

    Fields that this version does not know are passed over, so that it reads what a later one
    writes.
    """
    if _changed([body]):
        raise _damaged(body, type_, "its checksum is not that of what it says")
    return _decoded(body, type_)


def _decoded(body: Buffer, type_: type[T]) -> T:
    try:
        record: T = _decoder(type_).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(body, type_, error) from error
    return record


def parsed(body: bytes) -> Any:
    """Return what JSON makes of a record's body, whatever record it is.

    CorruptRecordError if it is none.
    """
    if _changed([body]):
        raise _damaged(body, msgspec.Struct, "its checksum is not that of what it says")
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(body, msgspec.Struct, error) from error


def decode_many(
    bodies: Sequence[bytes], type_: type[T], trials: Sequence[int] | None = None
) -> list[T]:
    """Return many records of one type, decoded in one pass.

    `trials` are those in which they stand; one that is of another is damaged.

    CorruptRecordError if any of them is damaged; `decode_each` returns the others.
    """
    try:
        records = _decode_all(bodies, type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        records = []
    misplaced = trials is not None and _misplaced(bodies, trials)
    if len(records) == len(bodies) and not misplaced and not _changed(bodies):
        return records
    # One by one, so that the message is about the damaged one.
    if trials is None:
        return [decode(body, type_) for body in bodies]
    return [_decode_of(body, type_, trial) for body, trial in zip(bodies, trials, strict=True)]


def _decode_all(bodies: Sequence[bytes], type_: type[T]) -> list[T]:
    """Decode in one pass, unless copies of the bodies would cost more than passes."""
    if bodies and len(bodies[0]) > _LONG:
        return list(map(_decoder(type_).decode, bodies))
    records: list[T] = _list_decoder(type_).decode(b"[" + b",".join(bodies) + b"]")
    return records


def decode_each(
    bodies: Sequence[bytes], type_: type[T], trials: Sequence[int] | None = None
) -> list[T | CorruptRecordError]:
    """Return the record of each body, or in its place the error that says what is wrong with it."""
    try:
        return list(decode_many(bodies, type_, trials))
    except CorruptRecordError:
        given = [None] * len(bodies) if trials is None else trials
        return [_decode_or_error(*pair, type_) for pair in zip(bodies, given, strict=True)]


def _decode_or_error(body: bytes, trial: int | None, type_: type[T]) -> T | CorruptRecordError:
    try:
        return decode(body, type_) if trial is None else _decode_of(body, type_, trial)
    except CorruptRecordError as error:
        return error


def _decode_of(body: bytes, type_: type[T], trial: int) -> T:
    record = decode(body, type_)
    if not is_of(body, trial):
        raise _damaged(body, type_, f"it is of another trial than {trial}, in which it stands")
    return record


def _damaged(body: bytes, type_: type, error: Exception | str) -> CorruptRecordError:
    start = bytes(body[:60])
    return CorruptRecordError(
        f"a record of {len(body)} bytes that begins with {start!r} is no {type_.__name__} "
        f"({error}): it is damaged; restore it from a backup (the others can still be read)"
    )


@cache
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


@cache
def _list_decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(list[type_])


# Records that are objects -------------------------------------------------------------------------


def dump_record(record: msgspec.Struct) -> Blob:
    """Return the object of a record that many trials share: its JSON under its digest."""
    # Its digest is its checksum.
    try:
        body = _ENCODER.encode(record)
    except UnicodeEncodeError:
        body = _encode_escaped(record)
    return Blob(digest_of([body]), [body], len(body))


def load_record(data: Buffer, digest: str, type_: type[T]) -> T:
    """Return the record that an object of `dump_record` holds.

    CorruptRecordError if the bytes are not those that were written.
    """
    found = digest_of([data])
    if found != digest:
        raise CorruptRecordError(
            f"the {type_.__name__} record {digest!r} is damaged: its bytes have the digest "
            f"{found!r}; restore it from a backup or another store"
        )
    return _decoded(data, type_)


def find_record(get: Callable[[str], Buffer], digest: str, type_: type[T]) -> T | None:
    """Return a record that is kept as an object; None if it is missing or damaged.

    For records of the past that make an answer better, but are no reason not to give one. `get`
    is the store's method: it returns an object's bytes, or raises KeyError.
    """
    try:
        return load_record(get(digest), digest, type_)
    except (KeyError, CorruptRecordError):
        return None
