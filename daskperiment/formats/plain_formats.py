"""Text, bytes and plain values: files that any editor opens."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from daskperiment.codec import NotPlainError, from_plain, to_plain
from daskperiment.formats.format import Buffer, Format
from daskperiment.records import Preview

__all__ = ["FORMATS", "text_preview"]

_SHOWN = 1000
"""Characters of a text that a preview has."""
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_MANY = 100_000
"""Items from which on pickle is so much faster that outputs are kept in it."""


def text_preview(text: str) -> Preview:
    """Return the beginning of a text, as a preview."""
    shown = text[:_SHOWN].encode("utf-8", "backslashreplace").decode()
    return Preview("text", shown + ("…" if len(text) > _SHOWN else ""))


class TextFormat(Format):
    """A text, as UTF-8."""

    name, suffix, media = "text", ".txt", "text/plain"
    exact = swift = True

    def takes(self, value: Any) -> bool:
        """Whether it is a text."""
        return type(value) is str

    def write(self, value: Any) -> bytes:
        """Return the text in UTF-8; halves of surrogate pairs are kept."""
        data: bytes = value.encode("utf-8", "surrogatepass")
        return data

    def read(self, data: Buffer) -> str:
        """Return the text."""
        return bytes(data).decode("utf-8", "surrogatepass")

    def preview(self, value: Any) -> Preview:
        """Return the beginning of the text."""
        return text_preview(value)


class BytesFormat(Format):
    """Bytes, as they are."""

    name, suffix = "bytes", ".bin"
    exact = swift = mapped = True

    def takes(self, value: Any) -> bool:
        """Whether these are bytes."""
        return type(value) is bytes

    def writes(self, value: Any) -> bool:
        """Whether it has bytes."""
        return isinstance(value, bytes | bytearray | memoryview)

    def write(self, value: Any) -> Buffer:
        """Return the bytes."""
        return value if type(value) is bytes else bytes(value)

    def read(self, data: Buffer) -> bytes:
        """Return the bytes."""
        return bytes(data)


class JSONFormat(Format):
    """Plain values; those that JSON lacks are tagged, so that they come back as they were."""

    name, suffix, media = "json", ".json", "application/json"
    exact = swift = True

    def takes(self, value: Any) -> bool:
        """Whether a value is plain data."""
        if type(value) in _SIZED and len(value) > _MANY:
            return False
        return self.writes(value)

    def writes(self, value: Any) -> bool:
        """Whether a value is plain data, of whatever size."""
        try:
            to_plain(value)
        except NotPlainError:
            return False
        return True

    def write(self, value: Any) -> bytes:
        """Return the JSON of the value's tagged form."""
        return msgspec.json.encode(to_plain(value))

    def read(self, data: Buffer) -> Any:
        """Return the value."""
        return from_plain(msgspec.json.decode(data))

    def preview(self, value: Any) -> Preview:
        """Return the beginning of the JSON."""
        return text_preview(json.dumps(to_plain(value), indent=1, ensure_ascii=False))


FORMATS: tuple[Format, ...] = (TextFormat(), BytesFormat(), JSONFormat())
