"""Where the parts of an object's bytes are: of pickles with buffers, and of files of arrays.

An object's bytes::

    magic, version, signed or not, length of the header     16 bytes
    header: lengths of what follows, as MessagePack
    signature: HMAC-SHA256, 32 bytes, only if signed
    pickle                                                   from a multiple of 64 bytes on
    buffers of arrays, one after the other                   each from a multiple of 64 bytes on
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Packer
from struct import error as StructError
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

__all__ = ["SIGNATURE_SIZE", "DamageError", "ObjectLayout", "large_buffers", "lay_out"]

_MAGIC = b"\x89daskex\n"
_VERSION = 1
_PREFIX = Packer("<8sBB2xI")
SIGNATURE_SIZE = 32
_ALIGNMENT = 64
_NPY = b"\x93NUMPY"
_LENGTH = Packer("<Q")


class DamageError(ValueError):
    """Why an object is not loaded; the error that a caller sees names the remedy too."""


class _ObjectHeader(Struct, frozen=True, array_like=True):
    """What stands behind the first 16 bytes."""

    sizes: list[Annotated[int, Meta(ge=0)]]
    """Of the pickle, then of each buffer."""


class ObjectLayout(NamedTuple):
    """Where the parts of an object's bytes are."""

    head: int
    """Where the signature begins, or would."""
    signed: bool
    contents: list[slice]
    """The pickle, then each buffer."""

    @property
    def body(self) -> int:
        """Where the signature ends."""
        return self.head + SIGNATURE_SIZE * self.signed

    @classmethod
    def of(cls, view: memoryview, total: int | None = None) -> ObjectLayout:
        """Return the layout of an object's bytes, or of its beginning if the size is given."""
        if view.nbytes < _PREFIX.size:
            raise DamageError(f"it is cut off after {view.nbytes} bytes")
        magic, version, signed, length = _PREFIX.unpack_from(view)
        if magic != _MAGIC:
            raise DamageError(f"it begins with {magic!r}, not with {_MAGIC!r}")
        if version != _VERSION or signed > 1:
            raise DamageError(f"it has the format version {version}.{signed}, not {_VERSION}")
        head = _PREFIX.size + length
        try:
            header = msgspec.msgpack.decode(view[_PREFIX.size : head], type=_ObjectHeader)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise DamageError(f"its header cannot be read ({error})") from None
        total = view.nbytes if total is None else total
        return _layout_of(head, bool(signed), header.sizes, total)


def _layout_of(head: int, signed: bool, sizes: list[int], total: int) -> ObjectLayout:
    layout = ObjectLayout(head, signed, [])
    if sum(sizes) > total:
        raise DamageError(f"it has {total} bytes, its header tells of {sum(sizes)}")
    position = layout.body
    for size in sizes:
        position += -position % _ALIGNMENT
        layout.contents.append(slice(position, position + size))
        position += size
    if not sizes or position != total:
        raise DamageError(f"it has {total} bytes, its header tells of {position}")
    return layout


def lay_out(sizes: Sequence[int], signed: bool) -> tuple[bytes, list[bytes]]:
    """Return the beginning of an object, and what stands before the pickle and each buffer."""
    header = msgspec.msgpack.encode(_ObjectHeader(list(sizes)))
    head = _PREFIX.pack(_MAGIC, _VERSION, signed, len(header)) + header
    position = len(head) + SIGNATURE_SIZE * signed
    paddings = []
    for size in sizes:
        padding = -position % _ALIGNMENT
        paddings.append(bytes(padding))
        position += padding + size
    return head, paddings


def large_buffers(head: memoryview, total: int, least: int) -> list[slice]:
    """Return where the large buffers of an object are, as its beginning tells, in their order.

    Parameters
    ----------
    head : memoryview
        The object, or as much of its beginning as says where all is.
    total : int
        The size of the object.
    least : int
        The size of a large one.

    Returns
    -------
    list of slice
        Empty if there are none, or if it is no object that says where they are: neither one with a
        pickle, nor a file of the formats npy and safetensors.
    """
    try:
        found = _buffers_told(head, total)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, StructError):
        return []  # it is another format, or damaged
    position = 0
    for place in found:
        if not position <= place.start <= place.stop <= total:
            return []
        position = place.stop
    return [place for place in found if place.stop - place.start >= least]


def _buffers_told(head: memoryview, total: int) -> list[slice]:
    start = bytes(head[:12])
    if start.startswith(_MAGIC):
        return ObjectLayout.of(head, total).contents
    if start.startswith(_NPY):
        short = start[6:7] == b"\x01"
        length = int.from_bytes(start[8:10] if short else start[8:12], "little")
        return [slice((10 if short else 12) + length, total)]
    (length,) = _LENGTH.unpack_from(start)
    end = _LENGTH.size + length
    if start[8:9] != b"{" or end > head.nbytes:
        return []
    header: dict[str, Any] = msgspec.json.decode(head[_LENGTH.size : end])
    places = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    return [slice(end + first, end + last) for first, last in sorted(map(tuple, places))]
