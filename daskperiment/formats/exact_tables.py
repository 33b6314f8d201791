"""Tables of pandas that a Parquet file gives back exactly, as their types tell without reading it.

The rule says no to much that would come back, too: objects, categories, time zones, levels, types
of Arrow. What it says yes to comes back bit by bit, as a test of properties shows.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

__all__ = ["comes_back_exactly"]

_INDEX_NAME = re.compile(r"__index_level_\d+__")
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}
_UNITS = {"ns", "us", "ms"}
_MASKED = {"Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "boolean"}
_NANS: dict[int, tuple[str, int]] = {4: ("u4", 0x7FC00000), 8: ("u8", 0x7FF8 << 48)}
"""Bytes of a float -> an integer as wide, and the bits of the NaN that missing values are read as.
"""


def comes_back_exactly(value: Any, column: str) -> bool:
    """Whether a table or a column of pandas is known to come back from a Parquet file as it was.

    Parameters
    ----------
    value : object
    column : str
        What a column without a table is called in its file.
    """
    pd: Any = sys.modules["pandas"]
    if type(value) is pd.Series:
        names, parts = {column}, [value]
        named = _is_name(value.name)
    elif type(value) is pd.DataFrame:
        names = set(value.columns)
        parts = [value.iloc[:, number] for number in range(value.shape[1])]
        named = bool(parts) and _are_names(value.columns)
    else:
        return False
    index = value.index
    return (
        named
        and not value.attrs
        and _is_name(index.name)
        and index.name not in names
        and _is_exact_index(index)
        and all(_is_exact(part) for part in parts)
    )


def _is_name(name: Any) -> bool:
    return name is None or (type(name) is str and not _INDEX_NAME.fullmatch(name))


def _are_names(columns: Any) -> bool:
    """Whether these are the numbers of columns, or texts that each name one of them."""
    pd: Any = sys.modules["pandas"]
    if not _is_name(columns.name):
        return False
    if type(columns) is pd.RangeIndex:
        return True
    texts = columns.dtype == pd.Series([""]).dtype  # as tables have it that are read
    return (
        type(columns) is pd.Index
        and texts
        and columns.is_unique
        and all(type(name) is str and _is_name(name) for name in columns)
    )


def _is_exact_index(index: Any) -> bool:
    pd: Any = sys.modules["pandas"]
    if type(index) is pd.RangeIndex:
        return True
    if type(index) in (pd.DatetimeIndex, pd.TimedeltaIndex):
        return getattr(index, "tz", None) is None and index.freq is None and _is_exact(index)
    # Of labels a file keeps no masks and no texts of other types than tables have unasked.
    plain = isinstance(index.dtype, np.dtype) or index.dtype == pd.Series([""]).dtype
    return type(index) is pd.Index and plain and _is_exact(index)


def _is_exact(values: Any) -> bool:
    pd: Any = sys.modules["pandas"]
    dtype = values.dtype
    if type(dtype) is pd.StringDtype:
        return bool(dtype.storage == "pyarrow")
    if str(dtype) in _MASKED:
        return isinstance(dtype, pd.api.extensions.ExtensionDtype) and dtype.kind in "biu"
    if not isinstance(dtype, np.dtype) or not dtype.isnative:
        return False
    if dtype.kind in "Mm":
        return np.datetime_data(dtype)[0] in _UNITS
    if f"{dtype.kind}{dtype.itemsize}" not in _NUMBERS:
        return False
    return dtype.kind != "f" or _has_usual_nans(values.to_numpy())


def _has_usual_nans(numbers: Any) -> bool:
    """Whether each NaN is the one that a missing value is read as: there are millions of others."""
    bits, usual = _NANS[numbers.dtype.itemsize]
    missing = numbers[np.isnan(numbers)]
    return bool((missing.view(bits) == usual).all())
