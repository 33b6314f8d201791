"""The format of a journal file.

::

    [magic text, 8 bytes][mark: delivered up to this offset, 8][its CRC-32, 4][zero, 4]
    then frames: [magic, 2][kind, 1][zero, 1][length of data, 4][CRC-32, 4][trial, 8][data]

The upper 24 bits of what a frame calls its trial are the number of its owner: 0 if it has none,
else as an owner's frame before it says. Such a frame has the owner's token and the trial's first
record, so that whoever reads the journal can see whether the store still has that trial, and can
begin it again if not.

The first frame is the header: JSON with the journal's name and the process that writes it. The
CRC covers the data and starts from kind and trial. The magic number of a frame is no part of any
UTF-8 text, so that reading finds its way again behind damage.

A point of a loop that saves floats has a frame of 44 bytes: behind its head stand epoch, value and
time, and what it calls its trial has in the upper bits the number of a *series*, of which
a frame before says what metric and whose it is. All other points are JSON.

Points and pieces of logs are delivered in groups, one record per trial. What goes into one group
follows from the file alone, so that reading it again gives the same records: groups end at a cut,
at a record of the stream ``notes``, and where a section of 400 kB ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from daskperiment.codec import (
    FLOAT_POINT,
    MANY,
    NumberPoints,
    blocked,
    numbers_body,
    points_body,
    sealed,
)
from daskperiment.records import Origin
from daskperiment.store.protocol import Owner, Record

__all__ = [
    "CUT",
    "FLOAT",
    "FRAME",
    "LOG",
    "MAGIC",
    "NUMBER_FRAME",
    "NUMBER_HEAD",
    "OWNER",
    "OWNERS",
    "POINT",
    "RECORD",
    "START",
    "JournalHeader",
    "JournalNames",
    "JournalSection",
    "Series",
    "batches",
    "checksum_start",
    "encode_frame",
    "encode_header",
    "encode_mark",
    "encode_owner",
    "encode_record",
    "encode_series",
    "read_header",
    "read_mark",
    "read_names",
    "sections",
]

HEADER, POINT, RECORD, CUT, OWNER, LOG, SERIES, FLOAT = range(8)
START = 24
"""Offset of the first frame."""

_TEXT = b"dpjrnl2\n"
_TEXTS = (_TEXT, b"dpjrnl1\n")
"""That of now, and of before there were frames of numbers."""
MAGIC = 0xFEFF
_MAGIC_BYTES = MAGIC.to_bytes(2, "little")
FRAME = Struct("<HBxIIQ")
NUMBER_FRAME = Struct("<HBxIIQ24s")
"""Of a point of numbers: its head, and then epoch, value and time."""
NUMBER_HEAD = FRAME.pack(MAGIC, FLOAT, NUMBER_FRAME.size - FRAME.size, 0, 0)[:8]
"""The first bytes of a float's."""
_MARK = Struct("<QI")
_NAMES = Struct("<BH")
_TOKEN = Struct("<H")
_OF_OWNER = Struct("<I")
_SECTION = 400_000
OWNERS = 40
_TRIALS = (1 << OWNERS) - 1
"""The bits of a trial's id; above them stands the number of the owner."""
_BATCH = 1_000_000
"""Bytes that are delivered in one call of the store, if no record is larger."""
_CHUNK = 1 << 20
_LONGEST = 1 << 31
_NAMING = (HEADER, OWNER, SERIES)
_GROUPED = {POINT: ("points", b'{"points":['), LOG: ("logs", b'{"lines":[')}
"""What is delivered in groups: kind -> the stream, and how the body of a group's record begins."""
_FILLINGS: dict[int, dict[int, bytes]] = {POINT: {}, LOG: {7: b',"",""'}}
"""What pieces of logs that nobody signed leave out; so few points are in no blocks."""

_FEW = 64
"""Frames of numbers of which it is not worth while to make arrays."""

_pack = FRAME.pack


_Groups = dict[tuple[int, int], tuple[int, list[Any]]]
"""Kind and trial -> the offset of the first of a group, and what is in it: JSON or numbers."""


class Series(NamedTuple):
    """The points of one metric of one trial in a journal."""

    place: int
    """The trial, and above it the number of its owner."""
    metric: str


class JournalNames(NamedTuple):
    """What the numbers in a journal mean."""

    owners: dict[int, Owner]
    begun: dict[Owner, bytes]
    """The first records of their trials."""
    series: dict[int, Series]


class JournalHeader(msgspec.Struct, frozen=True):
    """What a journal says of itself."""

    journal: str
    """Unique; part of the ids of its groups of points."""
    origin: Origin


class JournalSection(NamedTuple):
    """What a stretch of a journal holds."""

    records: list[Record]
    end: int
    """Offset behind it."""
    frames: int
    """How many points and records it has."""
    skipped: int
    """Damaged bytes that were passed over; a torn end does not count."""


def checksum_start(kind: int, trial: int) -> int:
    """Return what the checksum of a frame starts from."""
    return (trial << 2 | kind) + (trial >> 32) & 0xFFFFFFFF


def encode_frame(kind: int, trial: int, data: bytes) -> bytes:
    """Return the bytes of a frame."""
    crc = crc32(data, (trial << 2 | kind) + (trial >> 32) & 0xFFFFFFFF)
    return _pack(MAGIC, kind, len(data), crc, trial) + data


def encode_record(record: Record, owner: int = 0) -> bytes:
    """Return the bytes of a record's frame, with the number of its owner."""
    stream, id, trial = record.stream.encode(), record.id.encode(), record.trial | owner << OWNERS
    data = b"".join((_NAMES.pack(len(stream), len(id)), stream, id, record.body))
    # Not by the function above: this is called for each record.
    crc = crc32(data, (trial << 2 | RECORD) + (trial >> 32) & 0xFFFFFFFF)
    return _pack(MAGIC, RECORD, len(data), crc, trial) + data


def encode_owner(owner: Owner, number: int, begun: bytes) -> bytes:
    """Return the bytes of the frame that says who the owner of a number is."""
    token = owner.token.encode()
    data = b"".join((_TOKEN.pack(len(token)), token, begun))
    return encode_frame(OWNER, owner.trial | number << OWNERS, data)


def encode_series(series: Series, number: int) -> bytes:
    """Return the bytes of the frame that says what the number of a series means."""
    data = _OF_OWNER.pack(series.place >> OWNERS) + series.metric.encode()
    return encode_frame(SERIES, series.place & _TRIALS | number << OWNERS, data)


def encode_mark(offset: int) -> bytes:
    """Return the first bytes of a file, which say up to where it is delivered."""
    mark = offset.to_bytes(8, "little")
    return _TEXT + mark + crc32(mark).to_bytes(8, "little")


def encode_header(header: JournalHeader) -> bytes:
    """Return the beginning of a file."""
    frame = encode_frame(HEADER, 0, msgspec.json.encode(header))
    return encode_mark(START + len(frame)) + frame


def read_header(file: int) -> JournalHeader | None:
    """Read the header; ``None`` if it is damaged or of another format."""
    start = os.pread(file, 4096, 0)
    frame = _frame_at(start, START, len(start))
    if start[:8] not in _TEXTS or frame is None or frame[0] != HEADER:
        return None
    try:
        return msgspec.json.decode(frame[2], type=JournalHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_mark(file: int) -> int:
    """Read the offset up to which all is delivered; the first frame's if it is damaged."""
    mark = os.pread(file, 16, 8)
    whole = len(mark) == 16 and crc32(mark[:8]) == int.from_bytes(mark[8:], "little")
    return max(int.from_bytes(mark[:8], "little"), START) if whole else START


def read_names(file: int, end: int) -> JournalNames:
    """Read the owners and series of a file."""
    names = JournalNames({}, {}, {})
    offset = START
    while offset < end:
        frame = _frame_in(file, offset, end)
        if frame is None:
            offset = _resume(file, offset + 1, end)
            continue
        kind, trial, data = frame
        number, trial = trial >> OWNERS, trial & _TRIALS
        if kind == OWNER and len(data) >= _TOKEN.size:
            middle = _TOKEN.size + _TOKEN.unpack_from(data)[0]
            owner = Owner(trial, data[_TOKEN.size : middle].decode(errors="replace"))
            names.owners[number], names.begun[owner] = owner, data[middle:]
        elif kind == SERIES and len(data) >= _OF_OWNER.size:
            place = trial | _OF_OWNER.unpack_from(data)[0] << OWNERS
            metric = data[_OF_OWNER.size :].decode(errors="replace")
            names.series[number] = Series(place, metric)
        offset += FRAME.size + len(frame[2])
    return names


def sections(
    file: int, journal: str, names: JournalNames, start: int, end: int
) -> Iterator[JournalSection]:
    """Read what lies between two offsets, of which the first is at a frame."""
    while start < end:
        section = _read_section(file, journal, names, start, end)
        start = section.end
        yield section


def batches(
    sections: Iterator[JournalSection],
) -> Iterator[tuple[list[Record], int, int]]:
    """Join sections to batches of records, the offset behind them, and the number of frames."""
    records: list[Record] = []
    size = count = 0
    for section in sections:
        records += section.records
        count += section.frames
        size += sum([len(record.body) for record in section.records])
        if size >= _BATCH:
            yield records, section.end, count
            records, size, count = [], 0, 0
    if records:
        yield records, section.end, count


def _read_section(
    file: int, journal: str, names: JournalNames, start: int, end: int
) -> JournalSection:
    owners = names.owners
    limit = min((start // _SECTION + 1) * _SECTION, end)
    window = os.pread(file, min(limit + 4096, end) - start, start)
    groups: _Groups = {}
    closed: list[Record] = []
    records: list[Record] = []
    frames = skipped = 0
    offset = start
    while offset < limit:
        frame = _frame_at(window, offset - start, end - start) or _frame_in(file, offset, end)
        if frame is None:
            found = _resume(file, offset + 1, end)
            skipped += found - offset if found < end else 0
            offset = found
            continue
        kind, trial, data = frame
        if kind == FLOAT:
            numbers = _numbers(window, offset - start, limit - start)
            taken, count = _group(numbers, offset, names, groups)
            frames += count
            skipped += taken - count * NUMBER_FRAME.size if taken else len(data)
            offset += taken or FRAME.size + len(data)  # it may have another length
            continue
        if kind > FLOAT or (
            trial > _TRIALS and kind not in _NAMING and trial >> OWNERS not in owners
        ):
            skipped += len(data)  # of a later version, or nobody knows any more whose it is
        elif kind in _GROUPED:
            _, items = groups.setdefault((kind, trial), (offset, []))
            items.append(data)
            before, place = len(items), offset - start + FRAME.size + len(data)
            place = _take_alike(window, place, limit - start, kind, trial, items)
            frames += 1 + len(items) - before
            offset = start + place
            continue
        elif kind == RECORD:
            record = _decode_record(trial, data, owners)
            if record is None:
                skipped += len(data)
            else:
                frames += 1
                records.append(record)
                if record.stream == "notes":  # points before a checkpoint are told from later ones
                    closed += _close(groups, journal, owners)
                    groups = {}
        elif kind == CUT:
            closed += _close(groups, journal, owners)
            groups = {}
        offset += FRAME.size + len(data)
    # Points go first: who sees that a trial has ended sees its points too.
    closed += _close(groups, journal, owners)
    return JournalSection(closed + records, offset, frames, skipped)


def _take_alike(
    window: bytes, place: int, limit: int, kind: int, trial: int, items: list[Any]
) -> int:
    """Add the data of the whole frames that follow within a window, as far as they are alike.

    Return where the first one is that is none of them. This is what reading a million points
    takes: it makes no call of this module for each.
    """
    seed, size, unpack = checksum_start(kind, trial), FRAME.size, FRAME.unpack_from
    last = len(window) - size
    while place < limit and place <= last:
        magic, its_kind, length, crc, its_trial = unpack(window, place)
        begin = place + size
        data = window[begin : begin + length]
        if (
            its_trial != trial or its_kind != kind or magic != MAGIC
            or len(data) < length or crc32(data, seed) != crc
        ):  # fmt: skip
            break
        items.append(data)
        place = begin + length
    return place


class _NumberFrames(NamedTuple):
    """Frames of numbers that belong to one series."""

    number: int
    data: bytes
    first: int
    """Before how many others the first of them stood."""


def _group(
    numbers: Sequence[_NumberFrames], offset: int, names: JournalNames, groups: _Groups
) -> tuple[int, int]:
    """Add the frames that follow an offset to their groups.

    Return how many bytes they are, and how many frames belong to somebody.
    """
    every = count = 0
    for one in numbers:
        frames, known = len(one.data) // FLOAT_POINT.size, names.series.get(one.number)
        every += frames
        if known is not None and (known.place <= _TRIALS or known.place >> OWNERS in names.owners):
            begin = offset + one.first * NUMBER_FRAME.size
            _, items = groups.setdefault((POINT, known.place), (begin, []))
            items.append(NumberPoints(known.metric, False, one.data))
            count += frames
    return every * NUMBER_FRAME.size, count


def _numbers(window: bytes, place: int, limit: int) -> Sequence[_NumberFrames]:
    """Read the whole frames of numbers that begin in a window at a place, up to what is none.

    They are by their series, those of each in their order.
    """
    size = NUMBER_FRAME.size
    most = min((len(window) - place) // size, -(-(limit - place) // size))
    if most < _FEW:
        return _few_numbers(window, place, most)
    import numpy as np  # noqa: PLC0415  # most processes do without

    fields = [("head", "<u4"), ("length", "<u4"), ("crc", "<u4"), ("trial", "<u8"), ("data", "V24")]
    frames = np.frombuffer(window, fields, most, place)
    fits = (frames["head"] == MAGIC | FLOAT << 16) & (frames["length"] == size - FRAME.size)
    frames = frames[: most if fits.all() else int(fits.argmin())]
    trials = frames["trial"].copy()
    seeds = (trials << np.uint64(2) | np.uint64(FLOAT)) + (trials >> np.uint64(32))
    seeds &= np.uint64(0xFFFFFFFF)
    sums = map(crc32, frames["data"].tolist(), seeds.tolist())
    right = np.fromiter(sums, "uint32", len(frames)) == frames["crc"]
    count = len(frames) if right.all() else int(right.argmin())
    if not count:  # as it is not whole by itself
        return []
    numbers, data = trials[:count] >> np.uint64(OWNERS), frames["data"][:count]
    order = np.argsort(numbers, kind="stable")
    if (order[1:] < order[:-1]).any():
        numbers, data = numbers[order], data[order]
    starts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), count]
    return [
        _NumberFrames(int(numbers[begin]), data[begin:end].tobytes(), int(order[begin]))
        for begin, end in pairwise(starts)
    ]


def _few_numbers(window: bytes, place: int, most: int) -> Sequence[_NumberFrames]:
    found: dict[int, _NumberFrames] = {}
    for first in range(most):
        magic, kind, length, crc, trial, data = NUMBER_FRAME.unpack_from(window, place)
        if (
            magic != MAGIC or kind != FLOAT or length != len(data)
            or crc32(data, checksum_start(kind, trial)) != crc
        ):  # fmt: skip
            break
        number = trial >> OWNERS
        one = found.setdefault(number, _NumberFrames(number, b"", first))
        found[number] = one._replace(data=one.data + data)
        place += NUMBER_FRAME.size
    return list(found.values())


def _frame_at(window: bytes, place: int, end: int) -> tuple[int, int, bytes] | None:
    """Decode a frame within a window, if it is there and whole."""
    begin = place + FRAME.size
    if begin > len(window):
        return None
    magic, kind, length, crc, trial = FRAME.unpack_from(window, place)
    stop = begin + length
    if magic != MAGIC or stop > len(window) or stop > end:
        return None
    data = window[begin:stop]
    if crc32(data, (trial << 2 | kind) + (trial >> 32) & 0xFFFFFFFF) != crc:
        return None
    return kind, trial, data


def _frame_in(file: int, offset: int, end: int) -> tuple[int, int, bytes] | None:
    """Decode a frame that is longer than the window, if it is there and whole."""
    head = os.pread(file, FRAME.size, offset)
    if len(head) < FRAME.size:
        return None
    magic, _, length, _, _ = FRAME.unpack(head)
    size = FRAME.size + length
    if magic != MAGIC or offset + size > end or length > _LONGEST:
        return None
    return _frame_at(_read(file, offset, size), 0, size)


def _read(file: int, offset: int, size: int) -> bytes:
    """Read so many bytes; one system call may give fewer."""
    parts = []
    while size and (part := os.pread(file, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _resume(file: int, offset: int, end: int) -> int:
    """Find the next whole frame behind damage; the end if there is none."""
    while offset < end:
        window = os.pread(file, min(_CHUNK, end - offset), offset)
        place = window.find(_MAGIC_BYTES)
        while place >= 0:
            if _frame_in(file, offset + place, end) is not None:
                return offset + place
            place = window.find(_MAGIC_BYTES, place + 1)
        if not window:
            break
        offset += max(len(window) - 1, 1)
    return end


def _close(groups: _Groups, journal: str, owners: Mapping[int, Owner]) -> list[Record]:
    found = []
    for (kind, trial), (offset, items) in groups.items():
        number = trial & _TRIALS
        stream, start = _GROUPED[kind]
        if NumberPoints in set(map(type, items)):
            body = numbers_body(items, number)
        elif kind == POINT and len(items) >= MANY:
            body = points_body(items, number)
        else:
            body = sealed(b"%b]}" % blocked(start, items, b"l", _FILLINGS[kind]), number)
        owner = owners.get(trial >> OWNERS)
        found.append(Record(stream, number, f"{journal}-{offset}", body, owner))
    return found


def _decode_record(trial: int, data: bytes, owners: Mapping[int, Owner]) -> Record | None:
    """Return a frame's record; None if somebody made it of something else."""
    if len(data) < _NAMES.size:
        return None
    stream, id = _NAMES.unpack_from(data)
    begin = _NAMES.size
    middle = begin + stream
    end = middle + id
    try:
        names = data[begin:middle].decode(), trial & _TRIALS, data[middle:end].decode()
    except UnicodeDecodeError:
        return None
    return Record(*names, data[end:], owners.get(trial >> OWNERS))
