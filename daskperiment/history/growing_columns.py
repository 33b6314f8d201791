"""Columns to which rows are added as they are read: no row is ever in memory twice.

Many parts that are joined at the end are there together with what they are joined to. Here each
part is copied to the end of the columns at once, and goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from daskperiment.history.table_columns import (
    FEW,
    CodedColumn,
    Column,
    NumberColumn,
    absent,
    same_codes,
    value_key,
)

__all__ = ["GrowingColumn", "GrowingTable"]

Array = np.ndarray[Any, Any]

_ROOM = 1.5
"""Of an array that is full, so much larger is the next one."""


class GrowingTable:
    """Columns by name, which have the same number of rows."""

    def __init__(self) -> None:
        self._columns: dict[str, GrowingColumn] = {}
        self._count = 0

    def add(self, columns: Mapping[str, Column], count: int) -> None:
        """Add so many rows."""
        for name in columns:
            if name not in self._columns:
                self._columns[name] = GrowingColumn(self._count)
        for name, known in self._columns.items():
            known.add(columns[name] if name in columns else absent(count))
        self._count += count

    def finish(self) -> dict[str, Column]:
        """Return the columns, to which no row is added any more."""
        return {name: self._columns.pop(name).finish() for name in [*self._columns]}


class GrowingColumn:
    """A column to which rows are added.

    What it becomes is what joining the columns that were added gives.

    Parameters
    ----------
    count : int
        Rows in which there is nothing, to begin with.
    """

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._numbers: _GrowingArray | None = None
        self._present: _GrowingArray | None = None
        """Where there is a number; ``None`` while there is one in each row."""
        self._codes: _GrowingArray | None = None
        """``None`` while all rows have the same."""
        self._same = -1
        self._values: list[Any] = []
        self._places: dict[Any, int] | None = {}
        """Where values stand that stand there once; ``None`` where there are too many."""

    def add(self, column: Column) -> None:
        """Add rows."""
        size = len(column)
        if isinstance(column, NumberColumn):
            if self._takes(column):
                self._add_numbers(column.values, column.present)
            else:
                self._add_coded(column.coded())
        elif self._numbers is not None and not bool((column.codes >= 0).any()):
            nothing = np.zeros(size, self._numbers.dtype)
            self._add_numbers(nothing, np.zeros(size, bool))
        else:
            self._add_coded(column)
        self._count += size

    def finish(self) -> Column:
        """Return the column, to which no row is added any more."""
        if self._numbers is not None:
            present = None if self._present is None else self._present.finish()
            return NumberColumn(self._numbers.finish(), present)
        if self._codes is not None:
            return CodedColumn(self._codes.finish(), self._values)
        return CodedColumn(same_codes(self._same, self._count), self._values)

    def _takes(self, column: NumberColumn) -> bool:
        """Whether all values so far are numbers of the same kind."""
        if self._numbers is not None:
            return bool(self._numbers.dtype == column.values.dtype)
        return not self._values

    def _add_numbers(self, values: Array, present: Array | None) -> None:
        if self._numbers is None:
            self._numbers = _GrowingArray(np.zeros(self._count, values.dtype))
            if self._count:  # rows in which there is nothing
                self._present = _GrowingArray(np.zeros(self._count, bool))
        if self._present is None and present is not None:
            self._present = _GrowingArray(np.ones(self._count, bool))
        self._numbers.add(values)
        if self._present is not None:
            self._present.add(np.ones(len(values), bool) if present is None else present)

    def _add_coded(self, column: CodedColumn) -> None:
        if self._numbers is not None:
            found = self.finish()
            self._numbers = self._present = None
            self._start_with(found.coded())
        if column.count > FEW:
            self._places = None
        if self._places is not None:
            codes = self._known_codes(column, self._places)
        else:
            codes = np.where(column.codes < 0, -1, column.codes + len(self._values))
            self._values.extend(column.values)
        if self._codes is None:
            first = int(codes[0]) if len(codes) else self._same
            if (not self._count or self._same == first) and bool((codes == first).all()):
                self._same = first
                return
            self._codes = _GrowingArray(np.full(self._count, self._same, "int32"))
        self._codes.add(codes)

    def _start_with(self, column: CodedColumn) -> None:
        self._codes = _GrowingArray(column.codes)
        self._values = [*column.values]
        self._places = {value_key(value): place for place, value in enumerate(self._values)}

    def _known_codes(self, column: CodedColumn, places: dict[Any, int]) -> Array:
        each = []
        for value in column.values:
            place = places.setdefault(value_key(value), len(self._values))
            if place == len(self._values):
                self._values.append(value)
            each.append(place)
        codes: Array = np.array([*each, -1], "int32")[column.codes]  # no value has the last place
        return codes


class _GrowingArray:
    """An array with room for more; what nobody wrote to yet takes no memory."""

    def __init__(self, values: Array) -> None:
        self._data = values
        self._count = len(values)

    @property
    def dtype(self) -> Any:
        """The kind of its values."""
        return self._data.dtype

    def add(self, values: Array) -> None:
        """Add values at the end."""
        count = self._count + len(values)
        if count > len(self._data):
            larger = np.empty(max(int(count * _ROOM), 1000), self._data.dtype)
            larger[: self._count] = self._data[: self._count]
            self._data = larger
        self._data[self._count : count] = values
        self._count = count

    def finish(self) -> Array:
        """Return all values, and no room beside them."""
        if self._count < len(self._data):
            self._data.resize(self._count, refcheck=False)  # nobody else has it
        return self._data
