"""Which objects a record names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["digests_within"]


def digests_within(data: Any) -> Iterator[str]:
    """Give the digests of all objects that a part of a record refers to.

    Parameters
    ----------
    data : object
        What JSON made of the record or of a field, at any depth.
    """
    if isinstance(data, dict):
        if data.get("$") == "object":
            if data.get("digest"):
                yield data["digest"]
            return
        data = data.values()
    elif not isinstance(data, list):
        return
    for item in data:
        yield from digests_within(item)
