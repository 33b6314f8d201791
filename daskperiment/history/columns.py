"""Lists of Python values as columns of their natural dtype, without changing any value.

============================  =====================  =========================================
all values are                the dtype is           and if some are missing
============================  =====================  =========================================
int, fitting 64 bit           ``int64``              ``Int64`` (``float64`` for results)
float, or int and float       ``float64``            ``float64``
bool                          ``bool``               ``boolean`` (``object`` for results)
str                           pandas' own for text   the same
complex                       ``complex128``         the same
dates and times, durations    what pandas infers     the same
anything else, and mixtures   ``object``             ``object``
============================  =====================  =========================================

A number that would change, such as 10**400 or 2**53 + 1 among floats, makes the column ``object``.
``None`` is a value like any other, so a column with one is ``object`` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from operator import methodcaller
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from daskperiment.formatting import harmless, plain_repr, shorten
from daskperiment.history.stored_values import FURTHEST, MISSING, MissingValue

__all__ = [
    "HarmlessFrame",
    "column",
    "durations",
    "frame_of",
    "moments",
    "numbers",
    "objects",
    "texts",
]

T = TypeVar("T")

_EXACT = 2**53
_LONG = 1000
"""Characters of a value that is shown in short, where one has too many digits for pandas."""
_SHORT = 40
_KINDS: dict[type, str] = {
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
    complex: "complex",
    MissingValue: "missing",
    type(None): "object",
}
_MANY = 90
"""Columns of which pandas minds if each stands alone: from a hundred on."""
_BASES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (np.bool_, "bool"),
    (np.integer, "int"),
    ((np.float16, np.float32, np.float64), "float"),
    ((np.complex64, np.complex128), "complex"),
    (str, "str"),
    (datetime, "datetime"),
    (timedelta, "timedelta"),
)


class HarmlessFrame(pd.DataFrame):
    """A DataFrame whose printed form no terminal acts on, and that shows numbers of any length.

    Its values are what they are; only showing it is different from pandas.
    """

    @property
    def _constructor(self) -> type[HarmlessFrame]:
        return HarmlessFrame

    def __repr__(self) -> str:
        return harmless(_tried(str, self))

    def _repr_html_(self) -> str | None:
        html: str | None = _tried(methodcaller("_repr_html_"), self)
        return None if html is None else harmless(html)


def _tried(show: Callable[[pd.DataFrame], T], frame: pd.DataFrame) -> T:
    """Return how pandas shows a frame, if need be with texts in the place of long numbers."""
    plain = pd.DataFrame(frame.copy(deep=False))
    try:
        return show(plain)
    except ValueError:
        for at, dtype in enumerate(frame.dtypes):
            if dtype.kind == "O":
                plain.isetitem(at, [_shown(value) for value in frame.iloc[:, at].array])
        return show(plain)


def _shown(value: Any) -> Any:
    try:
        if isinstance(value, str) or len(repr(value)) <= _LONG:
            return value
    except ValueError:
        pass
    return shorten(plain_repr(value), _SHORT)


def column(values: Sequence[Any], index: pd.Index, nullable: bool = True) -> pd.Series:
    """Return a column of the values; `MISSING` stands for what is not there.

    Integers and truth values of which some are missing keep their type by pandas' nullable dtypes,
    unless they are not to be `nullable`; then they become what pandas makes of them and NaN.
    """
    kinds = {_KINDS.get(kind) or _kind(kind) for kind in set(map(type, values))}
    try:
        known = frozenset(kinds - {"missing"})
        return _natural(values, index, known, "missing" in kinds, nullable)
    except (OverflowError, ValueError, TypeError):
        # An integer beyond 64 bit, a date that pandas has no room for, text that is no UTF-8.
        return objects(values, index)


def numbers(
    values: np.ndarray[Any, Any], present: np.ndarray[Any, Any] | None, index: pd.Index,
    nullable: bool = True,
) -> pd.Series | None:  # fmt: skip
    """Return the column that `column` makes of numbers of one kind; ``None`` if they would change.

    Parameters
    ----------
    values : numpy.ndarray
        Of dtype int64, float64 or bool.
    present : numpy.ndarray or None
        Where there is a value; ``None`` if there is one everywhere.
    """
    if present is None:
        # A copy of its own, that may be written to: what was kept may not.
        return pd.Series(values.copy(), index=index)
    if not present.any():
        return None
    if values.dtype.kind == "f":
        return pd.Series(np.where(present, values, np.nan), index=index)
    if nullable:
        kind = pd.arrays.BooleanArray if values.dtype.kind == "b" else pd.arrays.IntegerArray
        return pd.Series(kind(values.copy(), ~present), index=index)
    return None


def texts(values: Sequence[str], codes: np.ndarray[Any, Any], index: pd.Index) -> pd.Series:
    """Return the column that `column` makes of texts, of which each stands once.

    `codes` are their places in each row, -1 where there is none.
    """
    each = [*values, MISSING] if (codes < 0).any() else list(values)
    few = column(each, pd.RangeIndex(len(each)))
    return pd.Series(few.array.take(np.where(codes < 0, len(values), codes)), index=index)


def objects(values: Sequence[Any], index: pd.Index) -> pd.Series:
    """Return a column that holds the values themselves, each in one cell."""
    array = np.fromiter(_filled(values), dtype=object, count=len(values))
    return pd.Series(array, index=index, dtype=object)


def moments(seconds: Sequence[float], index: pd.Index) -> pd.Series:
    """Return a column of times in UTC, of seconds since the epoch; what is not finite is NaT."""
    # A float of this size is exact to microseconds; what it says beyond them is noise.
    stamps = pd.DatetimeIndex(_nanoseconds(seconds, 1000).view("M8[ns]"))
    return pd.Series(stamps.tz_localize("UTC"), index=index)


def durations(seconds: Sequence[float], index: pd.Index) -> pd.Series:
    """Return a column of durations, of seconds; what is not finite is NaT."""
    return pd.Series(_nanoseconds(seconds, 1).view("m8[ns]"), index=index)


def frame_of(columns: Iterable[tuple[str, pd.Series]], index: pd.Index) -> pd.DataFrame:
    """Return columns as a frame; two may have the same name, as a parameter called Result."""
    named = list(columns)
    # Not copied: each column was made for this frame.
    frame = HarmlessFrame(dict(enumerate(series for _, series in named)), index=index, copy=False)
    names = [name for name, _ in named]
    if len(names) > _MANY:
        frame = frame.copy()  # with columns of one kind together: pandas warns who adds one else
    try:
        frame.columns = pd.Index(names, dtype=None if names else object)
    except UnicodeEncodeError:  # half a character, in a key of a result
        frame.columns = pd.Index(names, dtype=object)
    return frame


def _kind(type_: type) -> str:
    return next((kind for base, kind in _BASES if issubclass(type_, base)), "object")


def _natural(
    values: Sequence[Any], index: pd.Index, kinds: frozenset[str], missing: bool, nullable: bool
) -> pd.Series:
    if not kinds and missing:
        return pd.Series(np.nan, index=index, dtype="float64")
    if missing and nullable and kinds in ({"int"}, {"bool"}):
        return _nullable(values, index, "Int64" if kinds == {"int"} else "boolean")
    if kinds == {"int"} and not missing:
        return pd.Series(np.array(values, dtype="int64"), index=index)
    if kinds in ({"int"}, {"float"}, {"int", "float"}):
        return _floats(values, index, exact="int" not in kinds)
    if kinds in ({"str"}, {"datetime"}, {"timedelta"}):
        return pd.Series(_filled(values), index=index)
    if kinds == {"complex"}:
        return pd.Series(np.array(_filled(values), dtype="complex128"), index=index)
    if kinds == {"bool"} and not missing:
        return pd.Series(np.array(values, dtype="bool"), index=index)
    return objects(values, index)


def _nullable(values: Sequence[Any], index: pd.Index, dtype: str) -> pd.Series:
    cells = [None if value is MISSING else value for value in values]
    return pd.Series(pd.array(cells, dtype=dtype), index=index)  # type: ignore[call-overload]


def _floats(values: Sequence[Any], index: pd.Index, exact: bool) -> pd.Series:
    if not exact and any(not _is_exact(value) for value in values):
        return objects(values, index)
    return pd.Series(np.array(_filled(values), dtype="float64"), index=index)


def _is_exact(value: Any) -> bool:
    return not isinstance(value, int | np.integer) or -_EXACT <= int(value) <= _EXACT


def _filled(values: Sequence[Any]) -> list[Any]:
    return [np.nan if value is MISSING else value for value in values]


def _nanoseconds(seconds: Sequence[float], unit: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    array = np.array(seconds, dtype="float64")  # a copy, of which all else is made in place
    unknown = ~((array > -FURTHEST) & (array < FURTHEST))
    array[unknown] = 0.0
    array *= 1e9 / unit
    units: np.ndarray[Any, np.dtype[np.int64]] = np.rint(array, out=array).astype("int64")
    units *= unit
    units[unknown] = np.iinfo("int64").min
    return units
