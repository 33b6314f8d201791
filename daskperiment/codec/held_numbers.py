"""The one number that a value is or holds: Python's, or an element of whatever library.

Arrays without dimensions, arrays and tensors of one element, and scalars of array libraries are
numbers wherever a number is meant. No library is imported for that.
"""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

__all__ = ["element_count", "held_number", "is_time", "number_in_array"]

_GIVERS = ("item", "numpy", "as_py")
"""Methods by which arrays, tensors and scalars of libraries give their one element."""


def held_number(value: Any) -> bool | int | float | None:
    """Return the one number that a value is or holds, None if it is no such thing.

    Whatever the methods of the value raise is raised.

    >>> import numpy
    >>> held_number(numpy.float32(0.5)), held_number(numpy.array([3])), held_number([3])
    (0.5, 3, None)
    """
    number = _python_number(value)
    if number is not None or not _holds_one(value):
        return number
    for name in _GIVERS:
        give = getattr(type(value), name, None)
        if callable(give):
            given = give(value)
            is_array = type(given).__name__ == "ndarray"
            return _python_number(given.item() if is_array else given)
    return float(value) if hasattr(type(value), "__float__") else None


def number_in_array(value: Any) -> bool | int | float | None:
    """Return the number of an array, tensor or scalar of a library that holds one; never raises.

    >>> import numpy
    >>> number_in_array(numpy.array(0.5)), number_in_array(0.5)
    (0.5, None)
    """
    try:
        one = element_count(value) == 1 or hasattr(type(value), "as_py")
        return held_number(value) if one and not isinstance(value, type) else None
    except Exception:  # of values of any class, which may fail in any way
        return None


def _python_number(value: Any) -> bool | int | float | None:
    """Return a number of any type as one of Python's, None if it is none."""
    type_ = type(value)
    if type_ is float or type_ is int or type_ is bool:
        return value  # type: ignore[no-any-return]
    if isinstance(value, Integral):
        return None if is_time(value) else int(value)
    if isinstance(value, Real | Decimal):
        return float(value)
    numpy = sys.modules.get("numpy")
    return bool(value) if numpy is not None and isinstance(value, numpy.bool_) else None


def is_time(value: Any) -> bool:
    """Whether a value of NumPy is a time: these say that they are integers."""
    return getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M")


def _holds_one(value: Any) -> bool:
    """Whether a value may hold one number that is known, and is neither a time nor missing."""
    if element_count(value) not in (None, 1) or is_time(value):
        return False
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ma.MaskedArray) and numpy.ma.is_masked(value):
        return False
    return not _is_lazy(value) and getattr(value, "is_meta", 0) is not True


def _is_lazy(value: Any) -> bool:
    """Whether a value is a Dask collection; those of xarray are if they say so."""
    ask = getattr(type(value), "__dask_graph__", None)
    return ask is not None and ask(value) is not None


def element_count(value: Any) -> int | None:
    """Return how many elements an array has, None for what is no array."""
    shape = getattr(value, "shape", None)
    try:
        return None if shape is None or isinstance(value, type) else math.prod(shape)
    except TypeError:  # it is not known yet, or no shape
        return None
