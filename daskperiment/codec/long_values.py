"""Long plain values, whose JSON is an object, as if they stood in their records.

Whoever asks what a trial's parameters and its result were is told the same, however long they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from daskperiment.codec.fields import is_long, long_form
from daskperiment.codec.object_format import Buffer
from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
    UntrustedObjectError,
)

__all__ = ["LongValues", "spelled_out"]


def spelled_out(
    data: Any, get: Callable[[str], Buffer], signing_key: bytes | None = None
) -> Any:  # fmt: skip
    """Return the form that a record would hold of a plain value, were it not too long for that.

    Of every other value it is the form that the record holds, and of one whose object is gone, or
    is refused, as well: it is told as an object that cannot be loaded.

    Examples
    --------
    >>> from daskperiment.codec import pack
    >>> form, blob = pack([0.5] * 5_000)
    >>> form["format"], form["size"]
    ('plain', 20001)
    >>> spelled_out(form, {blob.digest: blob.parts[0]}.__getitem__) == [0.5] * 5_000
    True
    """
    return LongValues(get, signing_key).spelled_out(data)


class LongValues:
    """Spells out the long values of many records, and reads each content once."""

    def __init__(self, get: Callable[[str], Buffer], signing_key: bytes | None = None) -> None:
        self._get = get
        self._signing_key = signing_key
        self._known: dict[tuple[str | None, str | None], Any] = {}

    def spelled_out(self, data: Any) -> Any:
        """Return what the function `spelled_out` does; what comes of equal ones is shared."""
        if not is_long(data):
            return data
        key = data.get("digest"), data.get("seal")
        if key not in self._known:
            with suppress(CorruptRecordError, PersistedResultNotFoundError, UntrustedObjectError):
                self._known[key] = long_form(data, self._get, self._signing_key)
        if key not in self._known:
            return data
        form = self._known[key]
        # The code of a value that stands by the name of its class is told beside that.
        is_tagged = type(form) is dict and "$" in form
        return {**form, "content": data["content"]} if is_tagged and "content" in data else form
