"""Arguments that a step, or another one before it, changed in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from daskperiment.execution.calls import SCALARS, Call
from daskperiment.execution.given_values import exact_or_none, have_parts_in_common, parts_of
from daskperiment.recording.outputs import ChangesInPlace
from daskperiment.records import SpoiledInput

__all__ = ["changed_arguments", "spoiled_arguments"]


def _hands_on(value: Any, given: Iterable[Any]) -> bool:
    """Whether a step returns what it was given, or holds it: what is done to the one is to both.

    Looked at are the items of containers, the attributes of objects, and the memory of arrays.
    """
    if type(value) in SCALARS:
        return False
    before = {id(part): part for each in given for part in parts_of(each)}
    after = list(parts_of(value))
    arrays = [part for part in before.values() if isinstance(part, np.ndarray)]
    return any(id(part) in before for part in after) or any(
        np.may_share_memory(part, each)
        for part in after if isinstance(part, np.ndarray) for each in arrays
    )  # fmt: skip


def _holds(value: Any, other: Any) -> bool:
    """Whether a value is another one, has it among its items, or shares its memory as an array."""
    arrays = (np.ndarray, np.generic)
    return any(
        part is other
        or (isinstance(part, arrays) and isinstance(other, arrays)
            and np.may_share_memory(part, other))
        for part in parts_of(value)
    )  # fmt: skip


def _is_changed(before: str | None, value: Any) -> bool:
    """Whether a value that had a fingerprint has another now, and holds no path."""
    after = None if before is None else exact_or_none(value)
    return after is not None and after != before


def changed_arguments(
    call: Call, before: Mapping[str, str | None], values: Sequence[Any], returned: Any,
    changes: ChangesInPlace,
) -> list[str]:  # fmt: skip
    """Return which arguments a step changed in place, and note it for those that get them then.

    `before` has the fingerprints of those that others see, too, as they were before it ran.
    """
    named = zip(call.names, values, strict=True)
    given = {name: value for name, value in named if name in before}
    if _hands_on(returned, given.values()):
        changes.handing.add(call.key)
    changed = [name for name, value in given.items() if _is_changed(before[name], value)]
    if changed:
        changes.altered.extend((given[name], call.key) for name in changed)
        changes.passing.setdefault(call.key, set()).add(call.key)
    return changed


def spoiled_arguments(
    call: Call, values: Sequence[Any], changes: ChangesInPlace
) -> tuple[list[str], list[SpoiledInput]]:
    """Return the arguments that other steps had changed, but for what these returned, and how."""
    spoiled: list[str] = []
    found: dict[str, list[str]] = {}
    for name, value in zip(call.names, values, strict=True):
        passed = [changes.passing.get(place, set()) for place in call.lent.get(name, ())]
        by_right = set().union(*passed)
        changes.passing.setdefault(call.key, set()).update(by_right)
        for other, place in () if type(value) in SCALARS else changes.altered:
            if place in by_right:
                continue
            if place and _holds(value, other):
                found.setdefault(place, []).append(name)
            if name not in spoiled and have_parts_in_common(value, other):
                spoiled.append(name)
    return spoiled, [
        SpoiledInput(call.key, call.step, list(dict.fromkeys(names)), place)
        for place, names in found.items()
    ]
