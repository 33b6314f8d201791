"""Columns of recorded values, kept so that a million of them are compared and sorted at once.

Numbers of one kind are an array. Of everything else each different value stands once, with its
place in each row: what is asked of a column is asked of each different value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from daskperiment.history.stored_values import MISSING, MissingValue

__all__ = [
    "FEW",
    "CodedColumn",
    "Column",
    "NumberColumn",
    "absent",
    "column_of",
    "joined",
    "same_codes",
    "value_key",
]

_INT64 = 2**63
FEW = 100
"""Values of a column, up to which each stands once also after joining it to others."""
_DTYPES: dict[type, str] = {int: "int64", float: "float64", bool: "bool"}


class NumberColumn(NamedTuple):
    """A column of numbers of one kind, or of times or durations in seconds."""

    values: np.ndarray[Any, Any]
    """Of dtype int64, float64 or bool."""
    present: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    """Where there is a value; ``None`` if there is one in each row."""
    unit: Literal["number", "moment", "duration"] = "number"
    """What a text beside it means."""

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray[Any, Any]) -> NumberColumn:
        """Return the column of some rows."""
        present = None if self.present is None else self.present[rows]
        return NumberColumn(self.values[rows], present, self.unit)

    def known(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return where there is a value that can be compared."""
        known = np.ones(len(self), bool) if self.present is None else self.present
        if self.values.dtype.kind != "f":
            return known
        numbers: np.ndarray[Any, np.dtype[np.bool_]] = known & ~np.isnan(self.values)
        return numbers

    def to_list(self) -> list[Any]:
        """Return Python numbers, and `MISSING` where there is none."""
        values: list[Any] = self.values.tolist()
        if self.present is not None:
            for row in np.flatnonzero(~self.present).tolist():
                values[row] = MISSING
        return values

    def coded(self) -> CodedColumn:
        """Return the same column with each different number once."""
        # By their bits: the two zeros of floats are equal, and not the same.
        bits = self.values.view("int64") if self.values.dtype == "float64" else self.values
        _, first, found = np.unique(bits, return_index=True, return_inverse=True)
        order = np.argsort(self.values[first], kind="stable")
        codes = np.argsort(order, kind="stable").astype("int32")[found]
        if self.present is not None:
            codes[~self.present] = -1
        return CodedColumn(codes, self.values[first][order].tolist())


class CodedColumn:
    """A column in which each different value stands once."""

    __slots__ = ("_values", "codes", "count")

    def __init__(
        self, codes: np.ndarray[Any, Any], values: list[Any] | Callable[[], list[Any]],
        count: int | None = None,
    ) -> None:  # fmt: skip
        self.codes = codes
        """For each row the place of its value, -1 where there is none."""
        self._values = values
        self.count = len(values) if isinstance(values, list) else count or 0
        """How many values there are."""

    @property
    def values(self) -> list[Any]:
        """The different values; after joining columns one may stand twice."""
        if callable(self._values):
            self._values = self._values()
        return self._values

    def __len__(self) -> int:
        return len(self.codes)

    def used(self) -> list[Any]:
        """Return the values that some row has, in the order of the rows.

        Which others there are, and where, tells how rows were read, and nothing about these.
        """
        values, count = self.values, len(self)
        first = np.full(len(values) + 1, count)  # no value has the last place
        first[self.codes[::-1]] = np.arange(count - 1, -1, -1)
        places = np.flatnonzero(first[:-1] < count)
        return [values[at] for at in places[np.argsort(first[places])].tolist()]

    def take(self, rows: np.ndarray[Any, Any]) -> CodedColumn:
        """Return the column of some rows."""
        codes = self.codes
        if codes.strides == (0,) and len(codes):
            count = int(np.count_nonzero(rows)) if rows.dtype == bool else len(rows)
            return CodedColumn(same_codes(int(codes[0]), count), self._values, self.count)
        return CodedColumn(codes[rows], self._values, self.count)

    def each(self, function: Callable[[Any], Any]) -> CodedColumn:
        """Return what a function gives for each different value that some row has."""
        values = self.values
        if 2 * len(self) < len(values):
            used = np.unique(self.codes[self.codes >= 0])
            codes = np.searchsorted(used, self.codes).astype("int32")
            codes[self.codes < 0] = -1
            return CodedColumn(codes, [function(values[at]) for at in used.tolist()])
        return CodedColumn(self.codes, [function(value) for value in values])

    def truths(self, function: Callable[[Any], bool]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return for which rows a function of the value is true; without a value it is not."""
        found = self.each(function)
        truths = np.array([*found.values, False], dtype=bool)
        rows: np.ndarray[Any, np.dtype[np.bool_]] = truths[found.codes]
        return rows

    def to_list(self) -> list[Any]:
        """Return each row's value, and `MISSING` where there is none."""
        values = self.values
        return [values[code] if code >= 0 else MISSING for code in self.codes.tolist()]

    def coded(self) -> CodedColumn:
        """Return this column."""
        return self


Column = NumberColumn | CodedColumn


def absent(count: int) -> CodedColumn:
    """Return a column of so many rows in which there is nothing."""
    return CodedColumn(same_codes(-1, count), [])


def same_codes(code: int, count: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return one code for so many rows: it takes no memory, and cannot be written to."""
    return np.broadcast_to(np.array([code], "int32"), count)


def column_of(values: Sequence[Any]) -> Column:
    """Return a column of values, `MISSING` among them where there is none."""
    kinds = set(map(type, values))
    known = kinds - {MissingValue}
    if len(known) == 1 and (dtype := _DTYPES.get(next(iter(known)))):
        try:
            return _numbers(values, dtype, MissingValue in kinds)
        except OverflowError:
            pass  # an integer beyond 64 bit
    return _coded(values, known)


def _numbers(values: Sequence[Any], dtype: str, missing: bool) -> NumberColumn:
    if not missing:
        return NumberColumn(np.array(values, dtype=dtype))
    present = np.array([value is not MISSING for value in values], dtype=bool)
    filled = [0 if value is MISSING else value for value in values]
    return NumberColumn(np.array(filled, dtype=dtype), present)


def _coded(values: Sequence[Any], kinds: set[type]) -> CodedColumn:
    """Find the different values: what is equal and of another type is another value."""
    if not kinds:
        return absent(len(values))
    keys: Sequence[Any] = values if kinds <= {str} else [*map(value_key, values)]
    # Each step goes through all rows in C: a line of Python for each is felt in a million.
    found = dict(zip(keys, values, strict=True))
    found.pop(MISSING, None)
    places = dict(zip(found, range(len(found)), strict=True))
    places[MISSING] = -1
    codes = np.fromiter(map(places.__getitem__, keys), "int32", len(keys))
    return CodedColumn(codes, [*found.values()])


def value_key(value: Any) -> Any:
    """Return what is equal for values that are the same, and of the same type."""
    if value is MISSING:
        return value
    if type(value) in (str, int, bool, type(None)):
        return type(value), value
    try:
        return msgspec.msgpack.encode(value)  # unlike JSON it tells what is not finite apart
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return id(value)


def joined(parts: Sequence[Column]) -> Column:
    """Return columns one below the other."""
    if len(parts) == 1:
        return parts[0]
    filled = [part for part in parts if isinstance(part, NumberColumn) or (part.codes >= 0).any()]
    kinds = {part.values.dtype if isinstance(part, NumberColumn) else None for part in filled}
    if len(kinds) == 1 and None not in kinds:
        return _joined_numbers(parts, kinds.pop())
    coded = [part.coded() for part in parts]
    if all(one.count <= FEW for one in coded):
        return _joined_few(coded)
    codes: list[Any] = [np.empty(0, "int32")]
    count = 0
    for one in coded:
        codes.append(np.where(one.codes < 0, -1, one.codes + count).astype("int32"))
        count += one.count

    def values() -> list[Any]:
        return [value for one in coded for value in one.values]

    return CodedColumn(np.concatenate(codes), values, count)


def _joined_few(parts: Sequence[CodedColumn]) -> CodedColumn:
    """Return columns of few values one below the other, with each value once."""
    places: dict[Any, int] = {}
    values: list[Any] = []
    codes: list[Any] = [np.empty(0, "int32")]
    for part in parts:
        each = []
        for value in part.values:
            place = places.setdefault(value_key(value), len(values))
            if place == len(values):
                values.append(value)
            each.append(place)
        codes.append(np.array([*each, -1], "int32")[part.codes])  # no value has the last place
    whole = np.concatenate(codes)
    if len(values) < 2 and len(whole) and (whole == whole[0]).all():
        whole = np.broadcast_to(whole[:1].copy(), len(whole))  # takes no memory
    return CodedColumn(whole, values)


def _joined_numbers(parts: Sequence[Column], dtype: Any) -> NumberColumn:
    arrays = [
        part.values if isinstance(part, NumberColumn) else np.zeros(len(part), dtype)
        for part in parts
    ]
    if all(isinstance(part, NumberColumn) and part.present is None for part in parts):
        return NumberColumn(np.concatenate(arrays))
    masks = [
        (np.ones(len(part), bool) if part.present is None else part.present)
        if isinstance(part, NumberColumn)
        else np.zeros(len(part), bool)
        for part in parts
    ]
    return NumberColumn(np.concatenate(arrays), np.concatenate(masks))
