"""What one recorded value means: beside another value, as text, and in an order.

A filter has only numbers, texts and tuples to say a value with. So a member of an enum may be said
by its name or value, a path, a UUID or a date as text, a decimal as a number.
"""

from __future__ import annotations

import enum
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from pathlib import PurePath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np

from daskperiment.codec.class_values import NamedValue
from daskperiment.errors import FilterError
from daskperiment.formatting import plain_repr
from daskperiment.history.stored_values import MISSING

__all__ = ["beside", "is_nothing", "moment", "seconds", "sort_key", "text_of"]

_DURATION = re.compile(r"(-?\d+(?:\.\d*)?|-?\.\d+)\s*([a-z]*)")
_SECONDS: dict[str, float] = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
    "ms": 1e-3, "us": 1e-6,
}  # fmt: skip
_SAID_AS_TEXT = (PurePath, UUID, ZoneInfo)


def is_nothing(value: Any) -> bool:
    """Whether a value stands for a missing one: pandas' own, or nan."""
    if value is MISSING or value is None:
        return value is MISSING
    try:
        return bool(value != value)
    except (TypeError, ValueError, ArithmeticError):  # a decimal may be a signalling nan
        return type(value).__name__ in ("NAType", "Decimal")


def moment(text: str) -> float:
    """Return the seconds since 1970 of a time as text.

    Raises
    ------
    FilterError
        If the text is no time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise FilterError(
            f"{text!r} stands beside a time and is none; expected something like '2026-02-01' or "
            "'2026-02-01T12:30+01:00'. Without an offset it is in UTC."
        ) from None
    return _aware(found).timestamp()


def seconds(text: str) -> float:
    """Return the seconds of a duration as text.

    Raises
    ------
    FilterError
        If the text is no duration.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or found[2] not in _SECONDS:
        raise FilterError(
            f"{text!r} stands beside a duration and is none; expected a number of seconds, or "
            "something like '2 min' or '1.5h'."
        )
    return float(found[1]) * _SECONDS[found[2]]


def text_of(value: Any) -> str | None:
    """Return the text of a value that may be said as one, as it shows; ``None`` of all others."""
    is_member = isinstance(value, enum.Enum)
    if isinstance(value, str) and not is_member:
        return value
    if isinstance(value, NamedValue):
        return repr(value) if isinstance(value.state, str) else None
    if isinstance(value, UUID | ZoneInfo):
        return str(value)
    return plain_repr(value) if is_member or isinstance(value, date | time | PurePath) else None


def beside(value: Any, other: Any) -> Any:
    """Return what to compare with another value in the place of a value.

    Raises
    ------
    ValueError
        If the value is a text that does not say such a value.
    """
    if isinstance(value, enum.Enum | NamedValue):
        return _member_beside(value, other)
    if isinstance(value, str):
        return _text_beside(value, other)
    if isinstance(value, _SAID_AS_TEXT) and isinstance(other, str):
        return str(value)
    if isinstance(value, timedelta) and isinstance(other, int | float):
        return value.total_seconds()
    if isinstance(value, Decimal | Fraction) and isinstance(other, float):
        return _as_float(value)
    if isinstance(value, float) and isinstance(other, np.floating) and other.dtype.itemsize < 8:
        return type(other)(value)  # 0.1 is the number of few digits that shows as 0.1
    return value


def _member_beside(value: enum.Enum | NamedValue, other: Any) -> Any:
    """Return a member of an enum as it is said: by its name, with or without the class, or value.

    Of a class that is not loaded only the name is known.
    """
    if not isinstance(other, str | int | float) or isinstance(other, enum.Enum):
        return value
    shown = text_of(value)
    if isinstance(value, NamedValue):
        name, meant = value.state, shown
    else:
        name, meant = value.name, value.value
    names = (name, shown, f"{type(value).__name__}.{name}")
    return other if isinstance(other, str) and other in names else meant


def _text_beside(value: str, other: Any) -> Any:
    """Return a text as what it says where another value is no text."""
    match other:
        case timedelta():
            return timedelta(seconds=seconds(value))
        case datetime():
            found = datetime.fromisoformat(value)
            return _aware(found) if other.tzinfo else found
        case date():
            return date.fromisoformat(value)
        case time():
            return time.fromisoformat(value)
        case PurePath():
            return str(type(other)(value))
        case UUID():
            return str(UUID(value))
    return value


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def sort_key(value: Any) -> tuple[int, Any]:
    """Return a value's place among others: numbers, times, texts, and all else by its type."""
    if is_nothing(value):
        return 4, ""
    if isinstance(value, enum.Enum) and not isinstance(value, int | float | str):
        number = _number(value.value)
        return (0, number) if number is not None else (2, text_of(value))
    number = _number(value)
    if number is not None:
        return 0, number
    if isinstance(value, datetime):
        return 1, _aware(value).timestamp()
    if isinstance(value, date):
        return 1, datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    text = text_of(value)
    return (2, text) if text is not None else (3, f"{type(value).__name__} {value!r}")


def _number(value: Any) -> Any:
    """Return a number that can be compared with all other numbers, or ``None``."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool | int):
        return value
    if isinstance(value, np.number | np.bool_) and value.dtype.kind not in "biuf":
        return None
    if isinstance(value, Real | Decimal | np.bool_):
        number = _as_float(value)
        return number if number == number else None
    return None


def _as_float(value: Any) -> Any:
    """Return a number as a float; one beyond these as it is, which can be compared, too."""
    try:
        return float(value)
    except OverflowError:
        return value
