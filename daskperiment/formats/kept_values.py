"""Values as objects that are files of a format, and as pickles where no format keeps them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from daskperiment.codec import Blob, describe, named_parts, pickled, seal, to_plain, unkept
from daskperiment.codec.buffer_digests import BufferDigests, digest_of_object, threads_beside
from daskperiment.codec.held_numbers import number_in_array
from daskperiment.errors import CorruptRecordError, UnknownFormatError
from daskperiment.formats.format import Buffer, Format, Written
from daskperiment.formats.known_formats import (
    PICKLE,
    asks_others,
    format_named,
    written_as,
    written_for_output,
)
from daskperiment.records import ObjectRef, Preview
from daskperiment.store.protocol import flat

__all__ = ["as_file", "as_object", "early_file", "object_of", "read_file"]


def early_file(value: Any, name: str | None) -> Written | None:
    """Return the file of a large value, to be written while its digest is taken.

    None if the order might matter, as code of others has a say in what is written, or if nothing
    is gained.

    Parameters
    ----------
    value : object
        What a step returned.
    name : str, optional
        Of the format that was asked for.
    """
    if not threads_beside() or name == PICKLE:
        return None
    with suppress(Exception):  # whoever keeps it meets the same, and says so
        if asks_others(name):
            return None
        file = written_for_output(value) if name is None else written_as(name, value)
        return file and Written(file.format, _flat(file))
    return None


def _flat(file: Written) -> list[Buffer]:
    return [flat(part) for part in file.parts if memoryview(part).nbytes]


def as_object(
    value: Any, signing_key: bytes | None, buffers: BufferDigests | None = None,
    file: Written | None = None,
) -> tuple[Any, Blob | None]:  # fmt: skip
    """Return the form of what a step returned and its object: a file of a format, or a pickle.

    `buffers` are digests that are known of the value's, which those found here are added to;
    `file` is the file, if it is known. Never raises, as :func:`daskperiment.codec.pickled`.
    """
    try:
        file = file or written_for_output(value)
    except Exception:  # it must not cost the value
        file = None
    if file is None:
        return pickled(value, signing_key, buffers)
    return object_of(file, value, signing_key, buffers)


def as_file(
    name: str, buffers: BufferDigests | None = None, file: Written | None = None
) -> Callable[[Any, bytes | None], tuple[Any, Blob | None]]:
    """Return what makes the form and the object of values in the format of a name.

    It never raises: what the format does not take is not kept, and the form says why.
    """

    def packed(value: Any, signing_key: bytes | None) -> tuple[Any, Blob | None]:
        if name == PICKLE:
            return pickled(value, signing_key, buffers)
        try:
            return object_of(file or written_as(name, value), value, signing_key, buffers)
        except Exception as error:  # a library's, or a user's class may fail in any way
            return unkept(value, error), None

    return packed


def object_of(
    file: Written, value: Any, signing_key: bytes | None, buffers: BufferDigests | None = None
) -> tuple[dict[str, Any], Blob]:
    """Return the form and the object of a value that is written as a file.

    `buffers` are digests that are known of the value's, which those found here are added to.
    """
    type_, text = describe(value)
    parts = _flat(file)
    size = sum(part.nbytes for part in parts)
    name = file.format.name
    digest = digest_of_object(parts, size, buffers)
    reference = ObjectRef(
        type_, text, size=size, digest=digest, format=name,
        preview=_preview(file.format, value), seal=seal(name, parts, signing_key),
        parts=named_parts(value), number=to_plain(number_in_array(value)),
    )  # fmt: skip
    return msgspec.to_builtins(reference), Blob(digest, parts, size)


def _preview(format: Format, value: Any) -> Preview | None:
    with suppress(Exception):  # what cannot be shown is kept all the same
        return format.preview(value)
    return None


def read_file(reference: ObjectRef, data: Buffer) -> Any:
    """Return the value of an object that is a file of a format, whose bytes were checked.

    Raises
    ------
    UnknownFormatError
        If there is no such format here.
    CorruptRecordError
        If the format cannot read them, or what reads them is not installed.
    """
    assert reference.format is not None
    format = format_named(reference.format)
    try:
        return format.read(data if format.mapped else bytes(data))
    except ImportError as error:
        error.add_note(
            f"The value {reference.repr} is kept as {format.name!r}: install what reads such files."
        )
        raise
    except UnknownFormatError:
        raise
    except Exception as error:
        raise CorruptRecordError(
            f"the object {reference.digest!r} is no {format.name!r} file that can be read "
            f"({type(error).__name__}: {error}); its bytes are those that were written, so a "
            "version of the library that wrote it may read it"
        ) from error
