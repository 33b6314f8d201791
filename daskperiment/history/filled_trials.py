"""Columns of trials whose records fill one outline: without a body or an object of each record.

What an outline says itself is looked at once for all, and of what stands in its gaps each column is
decoded at once. What is read, and of which type, is that of records read by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Raw

from daskperiment.codec import are_intact
from daskperiment.history.stored_values import MISSING
from daskperiment.history.table_columns import (
    CodedColumn,
    Column,
    NumberColumn,
    absent,
    column_of,
    same_codes,
)
from daskperiment.records import Birthplace, EndStatus
from daskperiment.store.outlines import GAPS, TRIAL
from daskperiment.store.record_pages import FilledOutline

__all__ = ["begun_columns", "ended_columns"]

_GAP = re.compile(f"[{GAPS}{TRIAL}]".encode())
_MARK = re.compile(rb'"\\u0000([0-9]+)"')
"""Stands in an outline for a gap, as JSON that no outline has."""
_ODD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, KeyError)
"""What comes of records that are to be read one by one."""

_Columns = dict[str, Column]
_raws: Callable[[bytes], dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw]).decode


def begun_columns(filled: FilledOutline) -> tuple[_Columns, _Columns] | None:
    """Return fields and parameters of how trials began; ``None`` if it takes their records."""
    try:
        rows = _FilledRows.of(filled)
        return None if rows is None else _begun(rows)
    except _ODD:
        return None


def ended_columns(filled: FilledOutline) -> _Columns | None:
    """Return the fields of how trials ended; ``None`` if it takes their records."""
    try:
        rows = _FilledRows.of(filled)
        return None if rows is None else _ended(rows)
    except _ODD:
        return None


def _begun(rows: _FilledRows) -> tuple[_Columns, _Columns] | None:
    unreached = rows.values("unreached", list[str], [])
    if len(unreached) > 1:
        return None
    origin = rows.within("origin")
    named = rows.within("parameters")
    if origin is None or named is None:
        return None
    fields = {
        "step": rows.column("result", str),
        "started": rows.column("started", float),
        "seed": rows.column("seed", int),
        "environment": rows.column("environment", str),
        "host": origin.column("host", str),
        "user": origin.column("user", str),
        "sweep": rows.column("sweep", str | None, None),
        "source": rows.column("source", int | None, None),
        "resumes": rows.column("resumes", int | None, None),
        "birthplace": rows.column("birthplace", Birthplace | None, None, each=_place),
    }
    hidden = unreached[0]
    parameters = {name: named.column(name, Any) for name in named.fields if name not in hidden}
    return fields, parameters


def _ended(rows: _FilledRows) -> _Columns:
    statuses = rows.values("status", EndStatus)
    succeeded = [one == "succeeded" for one in statuses]
    fields = {
        "status": rows.spread(statuses),
        "finished": rows.column("finished", float),
        "elapsed": rows.column("elapsed", float),
    }
    for name, field in (("result", "value"), ("type", "type")):
        values = rows.values(field, Any if name == "result" else str | None, None)
        if not all(succeeded):
            values = [value if good else MISSING for value, good in rows.pairs(values, succeeded)]
        if name == "type":
            values = [MISSING if value is None else value for value in values]
        fields[name] = rows.spread(values)
    fields["description"] = rows.spread(_descriptions(rows, statuses))
    return fields


def _descriptions(rows: _FilledRows, statuses: Sequence[str]) -> Sequence[Any]:
    if "failure" not in rows.fields:
        return [MISSING if one == "succeeded" else one for one in statuses]
    failure = rows.within("failure")
    if failure is None:
        raise KeyError("failure")  # some have one
    failure.values("type", str)
    said = failure.values("description", str)
    if [*statuses] == ["failed"]:
        return said
    return [text if status == "failed" else f"{status}: {text}"
            for status, text in rows.pairs(statuses, said)]  # fmt: skip


def _optional(value: Any) -> Any:
    return MISSING if value is None else value


def _place(found: Birthplace | None) -> Any:
    return MISSING if found is None else [found.address, found.trial]


class _FilledRows(NamedTuple):
    """A JSON object of each record: names, their values in the outline, and what stands in gaps."""

    fields: Mapping[str, bytes]
    columns: Sequence[Sequence[bytes]]
    size: int

    @classmethod
    def of(cls, filled: FilledOutline) -> _FilledRows | None:
        """Return the bodies of records; ``None`` if any is damaged, or is to be looked at."""
        text = filled.outline.text
        marks = len(filled.columns)
        if b"\\u0000" in text or len(_GAP.findall(text)) != marks:
            return None
        # Which trial a body is of stands in its row.
        if b'"of":' in text and f'"of":{TRIAL}'.encode() not in text:
            return None
        if not are_intact(filled.outline.format, filled.columns):
            return None
        places = iter(range(marks))
        marked = _GAP.sub(lambda _: b'"\\u0000%d"' % next(places), text)
        return cls(_fields(marked), filled.columns, len(filled.trials))

    def within(self, name: str) -> _FilledRows | None:
        """Return the objects of a field; ``None`` if they have no fields in common."""
        text = self.fields[name]
        return self._replace(fields=_fields(text)) if text[:1] == b"{" else None

    def values(self, name: str, type_: Any, *default: Any) -> Sequence[Any]:
        """Return the values of a field, or the one that all records have."""
        text = self.fields.get(name)
        if text is None and default:
            return default
        if text is None:
            raise KeyError(name)
        places = [int(place) for place in _MARK.findall(text)]
        if not places:
            return [msgspec.json.decode(text, type=type_)]
        each: Any = self.columns[places[0]]
        if _MARK.fullmatch(text) is None:
            format = _MARK.sub(b"%b", text.replace(b"%", b"%%"))
            each = map(format.__mod__, zip(*(self.columns[at] for at in places), strict=True))
        found: list[Any] = msgspec.json.decode(b"[%b]" % b",".join(each), type=list[type_])
        if len(found) != self.size:
            raise KeyError(name)
        return found

    def column(
        self, name: str, type_: Any, *default: Any, each: Callable[[Any], Any] | None = None
    ) -> Column:
        """Return the column of a field, of what `each` makes of its values.

        Where there is a default, ``None`` is no value if nothing else is said.
        """
        values = self.values(name, type_, *default)
        each = each or (_optional if default else None)
        return self.spread([*map(each, values)] if each else values)

    def spread(self, values: Sequence[Any]) -> Column:
        """Return a column of values, or of the one that all records have."""
        found = column_of(values)
        if len(values) == self.size:
            return found
        if isinstance(found, NumberColumn):
            return NumberColumn(np.repeat(found.values, self.size))
        if not found.count:
            return absent(self.size)
        return CodedColumn(same_codes(0, self.size), found.values)

    def pairs(self, first: Sequence[Any], second: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Return both values of each record, or those that all have."""
        count = max(len(first), len(second))
        one, other = ([*each] * (count if len(each) < count else 1) for each in (first, second))
        return [*zip(one, other, strict=True)]


def _fields(text: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in _raws(text).items()}
