"""Points of metrics as they are read, where nobody asks when they were saved."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["PointBatch", "PointValue"]


class PointValue(Struct, array_like=True, gc=False):
    """A point without its time."""

    metric: str
    epoch: Any
    value: Any


class PointBatch(Struct, gc=False):
    """The body of a record of the stream ``points``."""

    points: list[PointValue]
