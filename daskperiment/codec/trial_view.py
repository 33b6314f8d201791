"""A view of a trial: what people may query of it, drawn from the bodies of its records.

A store whose server has queries shows these fields beside the records, which stay as they are. It
decides in which types, and knows nothing else of what records mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from daskperiment.codec.fields import from_plain
from daskperiment.records import OUTCOMES, outweighs

__all__ = ["TrialView", "added_view", "begun_view"]

_LARGE = 16 << 10
"""Bytes of JSON above which a value is shown by its size only."""
_OF_OUTCOME = ("type", "finished", "elapsed", "description", "failed_step", "result", "status")
"""Fields that an outcome determines: those that it has no value for are removed."""


class TrialView(NamedTuple):
    """What some records set in the view of their trial."""

    values: dict[str, Any]
    """Field -> plain Python value."""
    removed: tuple[str, ...]
    """Fields that have no value any more."""
    unless: dict[str, tuple[Any, ...]]
    """Field -> contents of it that outweigh `values` and `removed`, which then change nothing."""
    items: dict[str, dict[str, Any]]
    """Field -> named values that are added to those it holds."""


def begun_view(body: bytes) -> TrialView:
    """Return the fields of a trial that began.

    The body is that of a :class:`~daskperiment.records.Begun`; what else it is makes fewer fields.
    """
    data = _record(body)
    origin = _mapping(data.get("origin"))
    values = {
        "status": "running",
        "step": _shown(data.get("result")),
        "started": _moment(data.get("started")),
        "seed": _shown(data.get("seed")),
        "host": _shown(origin.get("host")),
        "user": _shown(origin.get("user")),
    }
    parameters = _mapping(data.get("parameters"))
    shown = {name: _shown(value) for name, value in parameters.items()}
    return TrialView(_present(values), (), {}, {"parameters": shown})


def added_view(bodies: Iterable[bytes]) -> TrialView:
    """Return what further records set in the view of their trial.

    The bodies are those of :class:`~daskperiment.records.Computed` and
    :class:`~daskperiment.records.Ended`; anything else sets nothing.
    """
    parameters: dict[str, Any] = {}
    outcome: dict[str, Any] = {}
    for data in map(_record, bodies):
        parameters |= _parameter(data)
        ended = _outcome(data)
        if ended and outweighs(ended["status"], outcome.get("status")):
            outcome = ended
    items = {"parameters": parameters} if parameters else {}
    if not outcome:
        return TrialView({}, (), {}, items)
    removed = tuple(name for name in _OF_OUTCOME if name not in outcome)
    stronger = tuple(other for other in OUTCOMES if not outweighs(outcome["status"], other))
    return TrialView(outcome, removed, {"status": stronger}, items)


def _parameter(data: Mapping[str, Any]) -> dict[str, Any]:
    name = data.get("name")
    return {name: _shown(data.get("value"))} if isinstance(name, str) else {}


def _outcome(data: Mapping[str, Any]) -> dict[str, Any]:
    status = data.get("status")
    if status not in OUTCOMES:
        return {}
    failure = _mapping(data.get("failure"))
    values = {
        "status": status,
        "type": _shown(data.get("type")),
        "finished": _moment(data.get("finished")),
        "elapsed": _shown(data.get("elapsed")),
        "description": _shown(failure.get("description")),
        "failed_step": _shown(failure.get("step")),
    }
    # A result that is None is a result.
    result = {"result": _shown(data.get("value"))} if status == "succeeded" else {}
    return _present(values) | result


def _record(body: bytes) -> dict[str, Any]:
    try:
        return _mapping(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _leniently(body)


def _leniently(body: bytes) -> dict[str, Any]:
    # The standard library reads numbers of any size and halves of surrogate pairs.
    try:
        return _mapping(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _mapping(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(seconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _shown(data: Any) -> Any:
    """Return the value of a tagged form, or its size as text where it is large."""
    if data is None or type(data) in (bool, float):
        return data
    try:
        if type(data) is not int and (size := len(json.dumps(data))) > _LARGE:
            return f"({size} bytes)"
        return from_plain(data)
    except Exception:
        # Damaged, or of a later version: the record itself says more to those who read it.
        return None
