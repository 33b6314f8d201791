"""Points of metrics, made of what a training loop has in hand.

A value is one number: Python's, or one element of whatever library. It is converted here, at the
first call, so that nobody finds out after the training that it was none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from daskperiment.capture.signatures import check_name, unknown_keyword
from daskperiment.codec import NotPlainError, to_plain
from daskperiment.codec.held_numbers import element_count, held_number, is_time
from daskperiment.formatting import shorten
from daskperiment.records import Point

__all__ = ["point_of", "points_of"]

_KNOWN = ("metric_key", "epoch", "value", "step")


def point_of(key: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> Point:
    """Return the point of a call: ``(epoch, value)``, or a value with ``epoch=`` or ``step=``.

    Raises
    ------
    TypeError
        If the name is no text, if epoch and value cannot be told from each other, if the value is
        not one number, or if the epoch is no plain value.
    """
    if named or len(given) != 2:
        epoch, value = _arranged(given, named)
    else:
        epoch, value = given
        _check_order(epoch, value)
    check_name(key, "A metric")
    return Point(key, _epoch(key, epoch), _value(key, value), time.time())


def points_of(metrics: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> list[Point]:
    """Return the points of several metrics for one epoch, or raise as `point_of` for any."""
    unknown = [name for name in named if name not in ("epoch", "step")]
    if unknown:
        raise unknown_keyword("save_metrics", unknown[0], ("metrics", "epoch", "step"))
    if len(given) + len(named) != 1:
        raise TypeError(
            "save_metrics() takes the metrics and one epoch: save_metrics({'loss': 0.25}, 17), or "
            "step=17."
        )
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"save_metrics() got {_shown(metrics)}; expected a mapping of names to numbers, and "
            "then the epoch: save_metrics({'loss': 0.25}, 17)."
        )
    epoch = given[0] if given else next(iter(named.values()))
    return [point_of(key, (), {"epoch": epoch, "value": each}) for key, each in metrics.items()]


def _arranged(given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return epoch and value of a call with keywords, in whichever order it has them."""
    unknown = next((name for name in named if name not in _KNOWN), None)
    if unknown is not None:
        raise unknown_keyword("save_metric", unknown, _KNOWN)
    epochs = [named[name] for name in ("epoch", "step") if name in named]
    values = [named["value"]] if "value" in named else []
    if len(given) == 1:  # what is not named is the other one
        (epochs if values else values).extend(given)
        given = ()
    if given or len(epochs) != 1 or len(values) != 1:
        raise TypeError(
            "save_metric() takes a name, one epoch and one value: save_metric('loss', 17, 0.25), "
            f"or save_metric('loss', 0.25, step=17). This call has {len(given)} of them by "
            f"position and as keywords {', '.join(named) or 'none'}."
        )
    return epochs[0], values[0]


def _check_order(epoch: Any, value: Any) -> None:
    """Refuse a call that has most likely the order of other trackers: the value, then the step."""
    counted = value.__class__ is int or (value.__class__ is not bool and _is_integral(value))
    number = held_number(epoch) if counted else None
    if isinstance(number, float) and math.isfinite(number) and number != int(number):
        raise TypeError(
            f"The epoch of a metric is {_shown(epoch)} and its value {value!r}: the epoch stands "
            f"before the value. For the value {number!r} at step {value!r} write "
            f"save_metric(name, {number!r}, step={value!r}); if the epoch is {number!r}, say so: "
            f"save_metric(name, epoch={number!r}, value={value!r})."
        )


def _is_integral(value: Any) -> bool:
    return isinstance(value, Integral) and not is_time(value)


def _value(key: str, value: Any) -> Any:
    """Return a value as a record holds it."""
    try:
        number = held_number(value)
    except (TypeError, ValueError, NotImplementedError, OverflowError) as error:
        raise TypeError(f"{_refusal(key, value)} It gave none: {error}") from error
    if number is None:
        raise TypeError(_refusal(key, value))
    return to_plain(number)


def _refusal(key: str, value: Any) -> str:
    count = element_count(value)
    if count is not None and count != 1:
        what = f" with {count} elements"
        hint = "Say what of them is meant: value.mean(), for example."
    else:
        what, hint = "", "Convert it, for example with float()."
        if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
            hint = "Where there is no value, leave the point out or save float('nan')."
        elif isinstance(value, Mapping):
            hint = "For several metrics at once there is save_metrics()."
    return (
        f"The value of metric {key!r} is {_shown(value)}{what}; expected one number, or a tensor "
        f"or array that holds one. {hint}"
    )


def _epoch(key: str, epoch: Any) -> Any:
    """Return an epoch as a record holds it: any plain value, or what holds one number."""
    try:
        return to_plain(epoch)
    except NotPlainError as error:
        try:
            number = held_number(epoch)
        except (TypeError, ValueError, NotImplementedError, OverflowError):
            number = None
        if number is not None:
            return to_plain(number)
        raise TypeError(
            f"The epoch of metric {key!r} is {_shown(epoch)}; expected a number or another plain "
            "value, such as a date. Convert it, for example with int()."
        ) from error


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # the error is about the value, not about its repr
        text = "a value without a readable repr"
    return f"{shorten(' '.join(text.split()), 60)} ({type(value).__name__})"
