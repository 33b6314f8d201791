"""What the bodies of one kind have in common, kept once: outlines, which rows fill in.

Trials of one experiment say much the same: the same code and process, and of a step the same name.
Where bodies of one kind come again and again, the database keeps their outline, a body with gaps,
and a row only the values in them: a JSON array that begins with the number of the outline. The body
that a reader gets is the one that was written, to the byte.

An outline's number is made of what it says, so it never stands for another one, though the database
is put back to what it was before: who remembers an outline may be wrong about whether it is there,
not about what it is.

A gap is a character that no JSON has: the first has the first of :data:`GAPS`, and :data:`TRIAL`
is the trial in which the row stands, as ten digits. It stands for a field's value, or for one
within it: of twenty parameters a row need not repeat those that all trials have. Many rows need
their outline. So it has a checksum, and stands in the database twice: in the table, and in the
table's index.
"""

from __future__ import annotations

import re
import sqlite3
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from xxhash import xxh3_64_hexdigest

from daskperiment.store.protocol import Stored

__all__ = [
    "AFTER",
    "CHANGED",
    "GAPS",
    "OUTLINED",
    "OUTLINES",
    "STEP_IN_OUTPUT",
    "TRIAL",
    "VERSION",
    "Outline",
    "Outlines",
    "holds",
    "insert_outlines",
    "intact_outlines",
    "items_of",
    "outline_of",
    "whole_rows",
]

OUTLINED = frozenset({"trials", "steps", "outputs", "notes"})
"""Streams whose bodies may stand as what fills an outline."""
OUTLINES = """CREATE TABLE IF NOT EXISTS _outlines (
    id INTEGER PRIMARY KEY,
    kind TEXT,
    body TEXT,
    checksum TEXT,
    UNIQUE (kind, body, checksum)
)"""
"""Makes the table of what bodies of one kind have in common."""
VERSION = 2
"""Of the schema that has outlines: earlier ones would take what fills one for damage."""
GAPS = "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13"
"""One character for each gap, in their order: no JSON has any of them."""
TRIAL = "\x1f"
"""Stands in an outline for the trial, as bodies name it."""

CHANGED = "PRAGMA data_version"
"""Asks for a number that is another one after anybody else wrote to the database."""
AFTER = 8
"""Bodies of one kind before those that get an outline."""
_WORTH = 40
"""Bytes that an outline has to spare each row."""
_LONGEST = 20_000
"""Bytes of a body that is looked at."""
_MANY = 20
"""Outlines of one kind."""
_CLOSE = 4
"""Of those of the same fields, so many look into values: in more, what differs is one gap."""
_LEVELS = 3
"""How deep they look."""
_DIGITS = 10
"""Of a checksum that make the number: few, as each row has it, and another outline's seldom."""
_INSERT = "INSERT OR IGNORE INTO _outlines VALUES (?, ?, ?, ?)"
_NUMBER = "SELECT id FROM _outlines WHERE kind = ? AND body = ? AND checksum = ?"
_KINDS = 1_000
"""Kinds of which the first bodies are remembered."""

_Fields = dict[str, Any]
"""JSON of values by name, nothing in the place of a gap; of values with gaps such a dict."""

_fields_of: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw]
).decode
items_of: Callable[[bytes], list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw]).decode
_CONTROL = re.compile(rb"[\x00-\x1f]")
_MARKS = re.compile(f"[{GAPS}{TRIAL}]".encode())
STEP_IN_OUTPUT = re.compile(rb',"step":"([^"\\\x00-\x1f]*)"')
"""Finds the step that a record of the stream ``outputs`` is of."""
_VALUE = (
    rb'("[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*"'  # a text
    rb'|[^",:\[\]{}\x00-\x20]+'  # a number, true, false or null
    rb"|[\[{][^\x00-\x1f]*[\]}])"  # what is nested
)


# Makes a Stored of a row without a Python call.
_as_stored: Any = partial(tuple.__new__, Stored)


class Outline(NamedTuple):
    """What bodies of one kind have in common."""

    text: bytes
    """With its gaps."""
    format: bytes
    """With ``%b`` in the place of each gap, the trial's included."""
    start: bytes
    """What a row that fills it begins with."""
    size: int
    """Items of such a row."""
    trial: int | None
    """Place of the trial among the values, if it is one."""
    match: Callable[[bytes], re.Match[bytes] | None]
    """Finds the values in a body, if it is one that fills it."""
    fields: _Fields


class Outlines:
    """The outlines of one database, as one connection sees them."""

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        """Whose database has them; those of another are still to be loaded."""
        self._by_number: dict[bytes, Outline] = {}
        self.version = 0
        """Of the database when it was last known which are there, as :data:`CHANGED` tells."""
        self._missing: set[bytes] = set()
        """Numbers that rows have and no outline: they are looked for once in each version."""
        self.by_kind: dict[str, list[Outline]] = {}
        """Kind -> its outlines: the kind of a record is its stream and what its id begins with."""
        self.before: defaultdict[str, list[tuple[bytes, int]]] = defaultdict(list)
        """Kind -> the first bodies of it that fill none, and their trials."""

    def forget(self) -> None:
        """Forget all, as when a transaction did not come to its end."""
        self.connection = None

    # Writing --------------------------------------------------------------------------------------

    def load(self, connection: sqlite3.Connection) -> None:
        """Know the outlines that a connection sees, and none of another database."""
        self.connection, self.version = connection, _version(connection)
        self._missing.clear()
        self.before.clear()
        self._load_again(connection)

    def look_again(self, connection: sqlite3.Connection) -> None:
        """See that those that are known are there, so that rows may fill them.

        Whoever else wrote may have put the database back to what it was before them.
        """
        if connection is self.connection:
            self.version = _version(connection)
            if self._by_number.keys() <= _numbers(connection):
                return
        self.load(connection)

    def learn(self, connection: sqlite3.Connection, kind: str, trial: int, body: bytes) -> None:
        """Perhaps make an outline for the bodies that follow one of a kind that fills none."""
        fields = _parted(body, trial) if len(body) <= _LONGEST else None
        known = self.by_kind.get(kind, ())
        if fields is None or len(known) >= _MANY:
            return
        common = _nearest(known, fields)
        if common is None:
            common = self._shared_with_others(kind, fields)
            if len(self.before) > _KINDS:
                self.before.clear()
            self.before[kind] = [(body, trial)]
        # In a gap, too, a row does not have the name.
        if _size(common, gaps=True) >= _WORTH:
            self._add(connection, kind, common)

    def _shared_with_others(self, kind: str, fields: _Fields) -> _Fields:
        """Return what a body has in common with all those before that have the same fields."""
        common: _Fields | None = None
        for one in self.before[kind]:
            other = _parted(*one)
            if other is not None and [*other] == [*fields]:
                common = _shared(common or fields, other, _LEVELS)
        return common or {}

    def _add(self, connection: sqlite3.Connection, kind: str, common: _Fields) -> None:
        while (text := _text_of(common)) is None:  # it has too many gaps
            opened = [name for name, value in common.items() if type(value) is dict]
            if not opened:
                return
            common[min(opened, key=lambda name: _size(common[name]))] = b""
        connection.execute(OUTLINES)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        checksum = _checksum(kind, text)
        connection.execute(_INSERT, (int(checksum[:_DIGITS], 16), kind, text, checksum))
        # None if another one has its number.
        for (number,) in connection.execute(_NUMBER, (kind, text, checksum)).fetchall():
            self._take(number, kind, text)

    # Reading --------------------------------------------------------------------------------------

    def whole(self, connection: sqlite3.Connection, rows: list[Stored]) -> list[Stored]:
        """Put the bodies as they were written in the place of what fills an outline."""
        known = self._by_number if connection is self.connection else {}
        for at, (position, trial, id, body) in enumerate(rows):
            if type(body) is not bytes or body[:1] != b"[":
                continue
            # As `body` does it: a call for each of a million records is felt.
            items: list[Any] = body[1:-1].split(b",")
            one: Any = known.get(items[0])
            try:
                if len(items) != one.size:
                    items = items_of(body)
                del items[0]
                if one.trial is not None:
                    items.insert(one.trial, b'"%010x"' % trial)
                body = one.format % tuple(items)
            except (AttributeError, TypeError, msgspec.MsgspecError):
                body = self.body(connection, trial, body)
                known = self._by_number
            rows[at] = _as_stored((position, trial, id, body))
        return rows

    @staticmethod
    def fill(rows: list[Stored], outlines: Sequence[tuple[int, Sequence[Any]]]) -> list[Stored]:
        """Return rows with their bodies as they were written, of outlines as their table has them.

        ValueError if any of these is damaged, or one is missing.
        """
        known = {}
        for number, values in outlines:
            kind_and_text = outline_of(values)
            if kind_and_text is None:
                raise ValueError(f"outline {number} is damaged")
            known[b"%d" % number] = _gaps_of(kind_and_text[1].encode())
        found = []
        for position, trial, id, body in rows:
            if body[:1] == b"[":
                items: list[Any] = items_of(body)
                try:
                    format, place = known[bytes(items.pop(0))]
                    if place is not None:
                        items.insert(place, b'"%010x"' % trial)
                    body = format % tuple(items)
                except (KeyError, IndexError, TypeError) as error:
                    raise ValueError(f"{id!r} of trial {trial} fills no outline") from error
            found.append(Stored(position, trial, id, body))
        return found

    def known(self, connection: sqlite3.Connection) -> Mapping[bytes, Outline]:
        """Return the outlines that a connection saw last, by what rows begin with."""
        if connection is not self.connection:
            self.load(connection)
        return self._by_number

    def body(self, connection: sqlite3.Connection, trial: int, short: bytes) -> bytes:
        """Return the body that a row stands for; what fills no outline that is known stays."""
        if short[:1] != b"[":
            return short
        items: list[Any] = short[1:-1].split(b",")
        if connection is not self.connection:
            self.load(connection)
        one = self._by_number.get(items[0]) or self._find_again(connection, items[0])
        if one is None:
            return short
        if len(items) != one.size:  # commas in texts or in what is nested
            try:
                items = items_of(short)
            except msgspec.MsgspecError:
                return short
            if len(items) != one.size:
                return short
        del items[0]
        if one.trial is not None:
            items.insert(one.trial, b'"%010x"' % trial if type(trial) is int else b"")
        return one.format % tuple(items)

    def _find_again(self, connection: sqlite3.Connection, number: bytes) -> Outline | None:
        """Look for an outline that came since, or that was missing before somebody else wrote."""
        version = _version(connection)
        if version != self.version:
            self.version, self._missing = version, set()
        elif number in self._missing:
            return None
        self._missing.add(number)
        self._load_again(connection)
        return self._by_number.get(number)

    def _load_again(self, connection: sqlite3.Connection) -> None:
        self._by_number, self.by_kind = {}, {}
        for number, kind, text in intact_outlines(connection):
            self._take(number, kind, text)

    def _take(self, number: int, kind: str, text: str) -> None:
        outline = _outline(number, text.encode())
        self._by_number[b"%d" % number] = outline
        # Those first of which rows have least.
        insort(self.by_kind.setdefault(kind, []), outline, key=lambda one: -_size(one.fields))


def whole_rows(stream: str) -> str:
    """Return the SQL that selects a stream's rows, with each outline filled by what a row has.

    It is of what SQLite and DuckDB both have, and leaves out bodies that are no JSON.
    """
    body = f"replace(o.body, '{TRIAL}', '0')"
    for place, gap in enumerate(GAPS, start=1):
        value = f"CAST(r.body -> '$[{place}]' AS TEXT)"
        body = f"replace({body}, '{gap}', coalesce({value}, ''))"
    number = "CASE WHEN substr(r.body, 1, 1) = '[' THEN CAST(r.body ->> '$[0]' AS BIGINT) END"
    return f"""SELECT r.trial AS trial, r.id AS id,
    CASE WHEN o.id IS NULL THEN r.body ELSE {body} END AS body
    FROM (SELECT trial, id, body FROM {stream} WHERE json_valid(body)) r
    LEFT JOIN _outlines o ON o.id = {number}"""


def intact_outlines(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """Return number, kind and text of the outlines in a database that are whole.

    What is damaged in the table is taken from its index.
    """
    found: dict[int, tuple[int, str, str]] = {}
    for place in ("", " INDEXED BY sqlite_autoindex__outlines_1"):
        whole, query = True, f"SELECT id, kind, body, checksum FROM _outlines{place}"
        try:
            for number, kind, text, checksum in connection.execute(query):
                if type(text) is str and checksum == _checksum(kind, text):
                    found.setdefault(number, (number, kind, text))
                else:
                    whole = False
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) and "no such" in str(error):
                break
            if place:
                raise
            whole = False
        if whole:
            break
    return [found[number] for number in sorted(found)]


def insert_outlines(
    connection: sqlite3.Connection, outlines: Mapping[int, tuple[str, str]]
) -> None:
    """Write outlines, number -> kind and text, to a database that has none."""
    rows = [(number, *one, _checksum(*one)) for number, one in sorted(outlines.items())]
    connection.executemany("INSERT INTO _outlines VALUES (?, ?, ?, ?)", rows)


def outline_of(values: Sequence[Any]) -> tuple[str, str] | None:
    """Return kind and text of an outline, if these are the values of an intact row of one."""
    if len(values) != 4 or not all(type(each) is str for each in values[1:]):
        return None
    _, kind, text, checksum = values
    return (kind, text) if checksum == _checksum(kind, text) else None


# Outlines of bodies -------------------------------------------------------------------------------


def _numbers(connection: sqlite3.Connection) -> set[bytes]:
    """Return the numbers of the outlines that are there: asked where several processes write."""
    try:
        return {b"%d" % number for (number,) in connection.execute("SELECT id FROM _outlines")}
    except sqlite3.OperationalError:  # there is no such table
        return set()


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute(CHANGED).fetchone()[0])


def _checksum(kind: Any, text: str) -> str:
    return xxh3_64_hexdigest(f"{kind}\n{text}".encode())


def holds(short: bytes, values: list[bytes]) -> bool:
    """Whether a row has these values, though there are commas in them."""
    try:
        return [bytes(item) for item in items_of(short)[1:]] == values
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _parted(body: bytes, trial: int) -> _Fields | None:
    """Return the fields of a body, with a mark where the trial stands; ``None`` if it is other."""
    fields = None if _CONTROL.search(body) else _opened(body)
    if fields is None:
        return None
    mark, of = TRIAL.encode(), b'"%010x"' % trial
    return {name: mark if value == of else value for name, value in fields.items()}


def _opened(value: Any) -> _Fields | None:
    """Return the fields of a value, if they can be put together to what it is."""
    if type(value) is dict:
        return value
    try:
        found = _fields_of(value)
        fields = {name: bytes(each) for name, each in found.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    parts = [b'"%b":%b' % (name.encode(), each) for name, each in fields.items()]
    # Otherwise there are blanks, escapes, or a name twice.
    return fields if b"{%b}" % b",".join(parts) == value else None


def _shared(first: _Fields, second: _Fields, levels: int) -> _Fields:
    """Return what bodies of the same fields have in common, so many levels deep."""
    common: _Fields = {}
    for name, value in first.items():
        other = second[name]
        common[name] = value if value == other else b""
        if levels and value != other:
            fields, others = _opened(value), _opened(other)
            if fields and others and [*fields] == [*others]:
                common[name] = _shared(fields, others, levels - 1)
    return common


def _size(fields: _Fields, gaps: bool = False) -> int:
    """Return the bytes of what has no gap, or of what all rows lack."""
    return sum(
        len(name) + 4 + (_size(value, gaps) if type(value) is dict else len(value))
        for name, value in fields.items()
        if value or gaps
    )


def _nearest(known: Sequence[Outline], fields: _Fields) -> _Fields | None:
    """Return what a body has in common with the nearest outline of the same fields.

    ``None`` if none is near, and nothing if it must do without one.
    """
    names, nearest = [*fields], None
    same = [one for one in known if [*one.fields] == names]
    many = len(same) >= _CLOSE
    for one in same:
        common = _shared(one.fields, fields, 0 if many else _LEVELS)
        if common == one.fields:
            return {}  # it should fit, but its values do not stand in a row
        # After many that are close, one for all the others.
        if _size(common, gaps=many) >= _WORTH and _size(common) > _size(nearest or {}):
            nearest = common
    return nearest


def _text_of(common: _Fields) -> str | None:
    """Return the outline of bodies with this in common; ``None`` if it has too many gaps."""
    gaps = iter(GAPS)

    def text(fields: _Fields) -> str:
        parts = []
        for name, value in fields.items():
            told = text(value) if type(value) is dict else value.decode() or next(gaps)
            parts.append(f'"{name}":{told}')
        return "{" + ",".join(parts) + "}"

    try:
        return text(common)
    except StopIteration:
        return None


def _gaps_of(text: bytes) -> tuple[bytes, int | None]:
    """Return the format of an outline, and which of its gaps is the trial's."""
    format = _MARKS.sub(b"%b", text.replace(b"%", b"%%"))
    marks, mark = _MARKS.findall(text), TRIAL.encode()
    return format, marks.index(mark) if mark in marks else None


def _outline(number: int, text: bytes) -> Outline:
    mark, gap = TRIAL.encode(), b'"\\u0000"'
    format, trial = _gaps_of(text)
    marks = _MARKS.findall(text)
    each = iter(marks)

    def filled(value: bytes, levels: int) -> _Fields:
        fields: _Fields = {}
        for name, raw in _fields_of(value).items():
            inner = fields[name] = bytes(raw)
            if inner == gap:
                fields[name] = mark if next(each, b"") == mark else b""
            elif levels and inner[:1] == b"{" and gap in inner:
                fields[name] = filled(inner, levels - 1)
        return fields

    fields = filled(_MARKS.sub(lambda found: gap, text), _LEVELS)
    pattern = _VALUE.join(map(re.escape, _MARKS.split(text)))
    return Outline(
        text, format, b"[%d," % number,
        1 + len(marks) - (trial is not None), trial, re.compile(pattern).fullmatch, fields,
    )  # fmt: skip
