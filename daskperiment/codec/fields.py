"""Any value at all <-> the field of a record, and the object that goes with it.

A plain value stands in the record itself. JSON's own types stand for themselves; anything else is
``{"$": tag, "v": parts}``, where the parts are plain values again. The tag ``"object"`` belongs to
:class:`~daskperiment.records.ObjectRef`, which has its own fields and stands for what is not plain.

Only exact types are plain. A subclass (a named tuple, an ``IntEnum``, an ``OrderedDict``) may mean
more than its base does, so that it is kept as an object. Of parameters, members of enums, named
tuples and dataclasses stand in the record itself, by the names of their classes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import msgspec
from dask import config

from daskperiment.codec.buffer_digests import BufferDigests
from daskperiment.codec.class_values import import_named, named
from daskperiment.codec.descriptions import describe, guarded, short_line
from daskperiment.codec.held_numbers import number_in_array
from daskperiment.codec.kinds import BUILDERS, FORMS, KINDS, NotPlainError, kind_of
from daskperiment.codec.object_format import (
    PYTHON,
    Blob,
    Buffer,
    check_object,
    checked_file,
    digest_of,
    dump_object,
    load_object,
    seal,
)
from daskperiment.codec.short_parts import short_parts
from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
)
from daskperiment.records import ObjectRef
from daskperiment.secret_values import HIDDEN, Secret

__all__ = [
    "LONG",
    "MAX_DEPTH",
    "check_kept",
    "from_plain",
    "is_long",
    "is_object",
    "long_form",
    "named_parts",
    "object_ref",
    "pack",
    "pickled",
    "signing_key_in_force",
    "to_plain",
    "unkept",
    "unpack",
]

ReadFile = Callable[[ObjectRef, Buffer], Any]
"""Returns the value of an object that is the file of a format."""

AsObject = Callable[[Any, bytes | None], tuple[Any, Blob | None]]
"""Makes the form of a value that is an object, and the object, by a signing key if there is one."""

MAX_DEPTH = 100
"""Levels of nesting up to which a value is plain.

Fixed and well below the interpreter's recursion limit: what was written from a shallow stack can
be read from a deep one.
"""

_INT64 = 2**63
LONG = "plain"
"""What stands for the format where an object is the JSON of a plain value that is long."""
_MOST = 1_000_000
"""Bytes of JSON up to which a value is recorded as a plain one."""
_INLINE = 10_000
"""Bytes of JSON up to which a plain value stands in the record itself. What is longer is kept by
its content, once for all trials that have it."""
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_SHORT = (type(None), bool, int, float)


# Plain values -------------------------------------------------------------------------------------


def to_plain(value: Any) -> Any:
    """Return the tagged form of a plain value, which JSON can hold.

    Plain are None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset,
    range, complex, date, datetime, time, timedelta, timezone, ZoneInfo, Decimal, Fraction, UUID,
    paths, NumPy scalars, and pandas' Timestamp, Timedelta, Period, Interval, NaT and NA. For
    another type, and for what nests deeper than `MAX_DEPTH`, NotPlainError is raised.

    The form consists of None, bool, int of 64 bit, finite float, str that UTF-8 can hold, list,
    and dict with such keys. It shares no mutable part with the value.

    Examples
    --------
    >>> to_plain({"lr": 0.1, "layers": (64, 32)})
    {'lr': 0.1, 'layers': {'$': 'tuple', 'v': [64, 32]}}
    """
    try:
        return _encode(value, MAX_DEPTH)
    except RecursionError:
        raise NotPlainError("the value nests too deeply for the stack it is read on") from None


def _encode(value: Any, depth: int) -> Any:
    type_ = type(value)
    if type_ is float:
        return value if isfinite(value) else _tagged("float", repr(value))
    if type_ is int:
        return value if -_INT64 <= value < _INT64 else _tagged("int", hex(value))
    if type_ is str:
        return value if value.isascii() or _is_unicode(value) else _encode_surrogates(value)
    if value is None or type_ is bool:
        return value
    if not depth:
        raise NotPlainError(f"the value nests deeper than {MAX_DEPTH} levels")
    if type_ is dict:
        return _encode_dict(value, depth - 1)
    if type_ is list:
        return [_encode(item, depth - 1) for item in value]
    if type_ is tuple:
        return _tagged("tuple", [_encode(item, depth - 1) for item in value])
    if type_ is set or type_ is frozenset:
        return _encode_set(value, type_.__name__, depth - 1)
    return _encode_kind(value, type_, depth - 1)


def _tagged(tag: str, parts: Any) -> dict[str, Any]:
    return {"$": tag, "v": parts}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode_surrogates(text: str) -> dict[str, Any]:
    return _tagged("str", KINDS[bytes].reduce(text.encode("utf-8", "surrogatepass")))


def _encode_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    for key in value:
        if type(key) is not str or key == "$" or not (key.isascii() or _is_unicode(key)):
            pairs = [[_encode(k, depth), _encode(v, depth)] for k, v in value.items()]
            return _tagged("dict", pairs)
    return {key: _encode(item, depth) for key, item in value.items()}


def _encode_set(value: set[Any] | frozenset[Any], tag: str, depth: int) -> dict[str, Any]:
    # The order of a set differs between processes; sorted, equal sets have equal forms.
    items = [_encode(item, depth) for item in value]
    return _tagged(tag, sorted(items, key=msgspec.json.encode))


def _encode_kind(value: Any, type_: type, depth: int) -> dict[str, Any]:
    if type_ is Secret:
        form = ObjectRef("secret", HIDDEN, reason="secrets are not kept", mark=value.mark)
        return dict(msgspec.to_builtins(form))
    try:
        kind = kind_of(type_)
        parts = kind.reduce(value) if kind else None
    except Exception as error:
        name = type.__repr__(type_)
        raise NotPlainError(f"a value of {name} is not plain data: {error}") from error
    if kind is None:
        raise NotPlainError(f"a value of {type.__repr__(type_)} is not plain data")
    return _tagged(kind.tag, _encode(parts, depth))


def from_plain(data: Any) -> Any:
    """Return the value of a tagged form: the inverse of `to_plain`.

    Runs no code but that of the types that `to_plain` names. A form tagged ``"object"`` gives its
    :class:`~daskperiment.records.ObjectRef`, not the object. CorruptRecordError is raised if a tag
    is unknown or its parts do not fit it.

    Examples
    --------
    >>> from_plain({"lr": 0.1, "layers": {"$": "tuple", "v": [64, 32]}})
    {'lr': 0.1, 'layers': (64, 32)}
    """
    try:
        return _decode(data)
    except (CorruptRecordError, MemoryError):
        raise
    except RecursionError:
        raise CorruptRecordError(
            f"a stored value nests deeper than the {MAX_DEPTH} levels that are ever written; "
            "the record is damaged: restore it from a backup"
        ) from None


def _decode(data: Any) -> Any:
    type_ = type(data)
    if type_ is dict:
        if "$" in data:
            return _decode_tagged(data)
        return {key: _decode(item) for key, item in data.items()}
    if type_ is list:
        return [_decode(item) for item in data]
    return data


def _decode_tagged(data: dict[str, Any]) -> Any:
    tag = data["$"]
    if tag == "object":
        return object_ref(data)
    build = _BUILDERS.get(tag) if type(tag) is str else None
    if build is None:
        raise CorruptRecordError(
            f"a stored value has the tag {tag!r}, which this version does not know; "
            "update daskperiment if a newer version wrote it, else restore it from a backup"
        )
    try:
        parts = data["v"]
        if type(parts) not in _FORMS[tag]:
            raise TypeError(f"its parts are of type {type(parts).__name__}")
        return build(_decode(parts))
    except (CorruptRecordError, RecursionError, MemoryError):
        raise
    except Exception as error:
        raise CorruptRecordError(
            f"a stored value with the tag {tag!r} cannot be read: {type(error).__name__}: {error}; "
            "the record is damaged, or this machine lacks what it names (a time zone, say)"
        ) from error


def _decode_float(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"expected nan, inf or -inf, got {text!r}")
    return float(text)


def _decode_surrogates(text: str) -> str:
    raw: bytes = KINDS[bytes].build(text)
    return raw.decode("utf-8", "surrogatepass")


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": _decode_float,
    "str": _decode_surrogates,
    "tuple": tuple,
    "dict": dict,
    "set": set,
    "frozenset": frozenset,
    **BUILDERS,
}

_FORMS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("int", "float", "str"), (str,)),
    **dict.fromkeys(("tuple", "dict", "set", "frozenset"), (list,)),
    **FORMS,
}


# Any value ----------------------------------------------------------------------------------------


def is_object(data: Any) -> bool:
    """Return whether a record's field refers to an object rather than holding a plain value."""
    return type(data) is dict and data.get("$") == "object"


def object_ref(data: Any) -> ObjectRef:
    """Return the reference in a field for which `is_object` holds."""
    try:
        return msgspec.convert(data, ObjectRef)
    except msgspec.ValidationError as error:
        raise CorruptRecordError(
            f"the reference to an object cannot be read: {error}; restore the record from a backup"
        ) from error


def pickled(
    value: Any, signing_key: bytes | None = None, buffers: BufferDigests | None = None
) -> tuple[Any, Blob | None]:
    """Return the form of a value that is kept as a pickle, and the object; never raises."""
    type_, text = describe(value)
    try:
        blob = dump_object(value, signing_key, buffers)
    except Exception as error:
        return unkept(value, error), None
    reference = ObjectRef(
        type_, text, blob.size, blob.digest, python=PYTHON, parts=named_parts(value),
        number=to_plain(number_in_array(value)),
    )  # fmt: skip
    return msgspec.to_builtins(reference), blob


def unkept(value: Any, error: BaseException) -> dict[str, Any]:
    """Return the form of a value that cannot be kept, which says why."""
    type_, text = describe(value)
    reason = f"{type(error).__name__}: {guarded(str, error)}"
    form: dict[str, Any] = msgspec.to_builtins(ObjectRef(type_, text, reason=short_line(reason)))
    return form


def pack(
    value: Any, signing_key: bytes | None = None, most: int | None = _MOST,
    as_object: AsObject = pickled,
) -> tuple[Any, Blob | None]:  # fmt: skip
    """Return the form in which a record holds a value, and the object to put beside it.

    Plain values of up to `most` bytes of JSON (None for no limit) are recorded as such: in the
    record, or, where they are long, as an object that is their JSON. `as_object` makes the form and
    the object of all others. Never raises, whatever the value is: one that cannot be kept is
    described, with the reason.

    Examples
    --------
    >>> pack((1, 2))
    ({'$': 'tuple', 'v': [1, 2]}, None)
    """
    try:
        form = _plain_within(value, most)
        body = b"" if type(form) in _SHORT else msgspec.json.encode(form)
        if most is None or len(body) <= most:
            short = len(body) <= _INLINE
            return (form, None) if short else _apart(body, value, signing_key)
    except Exception:
        pass  # not plain, too long, or changed by another thread meanwhile
    return as_object(value, signing_key)


def _apart(body: bytes, value: Any, signing_key: bytes | None) -> tuple[Any, Blob]:
    """Return the form and the object of a long plain value, by its JSON."""
    type_, text = describe(value)
    reference = ObjectRef(
        type_, text, len(body), digest_of([body]), parts=named_parts(value), format=LONG,
        seal=seal(LONG, [body], signing_key),
    )  # fmt: skip
    return msgspec.to_builtins(reference), Blob(reference.digest or "", [body], len(body))


def _plain_within(value: Any, most: int | None) -> Any:
    if most is None:  # of a parameter: it is shown, compared and swept
        try:
            return to_plain(value)
        except NotPlainError:
            return to_plain(named(value))
    # Every element takes two bytes of JSON: no need to encode what is longer in any case.
    if type(value) in _SIZED and len(value) > most:
        raise NotPlainError(f"longer than {most} bytes")
    return to_plain(value)


def named_parts(value: Any) -> dict[str, Any]:
    """Return the fields of a value that are plain and short, by name; never raises."""
    return short_parts(value, to_plain)


def signing_key_in_force(given: str | bytes | None = None) -> bytes | None:
    """Return a signing key as bytes; without one, that of the configuration, if there is one."""
    key = config.get("daskperiment.signing-key", None) if given is None else given
    return key.encode() if isinstance(key, str) else key


def unpack(
    data: Any, get: Callable[[str], Buffer], signing_key: bytes | None = None,
    read: ReadFile | None = None,
) -> Any:  # fmt: skip
    """Return the value that `pack` was given, from its object if it has one.

    Loading an object runs code of whoever wrote it: see `load_object`. `get` is the store's method:
    it returns an object's bytes by digest, or raises KeyError. `read` returns the value of an
    object that is the file of a format, by the reference and the bytes.

    Raises
    ------
    PersistedResultNotFoundError
        If the value was not kept, or its object is no longer in the store.
    CorruptRecordError, OtherPythonError, UntrustedObjectError
        As from `from_plain` and `load_object`.
    """
    if not is_object(data):
        value = from_plain(data)
        return import_named(value) if _names_a_class(data) else value
    reference = object_ref(data)
    if reference.mark is not None:
        raise PersistedResultNotFoundError(
            "it is the value of a secret parameter, which no store keeps; who has it can give it"
        )
    if reference.digest is None:
        raise PersistedResultNotFoundError(
            f"the value {reference.repr} of type {reference.type} was not kept: "
            f"{reference.reason}; return something that can be pickled instead"
        )
    body = _fetch(reference, get)
    if reference.format is None:
        return load_object(body, reference.digest, signing_key, reference.python)
    file = _checked(reference, body, signing_key)
    if reference.format == LONG:
        return unpack(_parsed(file, reference.digest), get)
    return file if read is None else read(reference, file)


def is_long(data: Any) -> bool:
    """Return whether a record's field refers to the JSON of a plain value."""
    return is_object(data) and data.get("format") == LONG


def long_form(data: Any, get: Callable[[str], Buffer], signing_key: bytes | None = None) -> Any:
    """Return the form of a value for which `is_long` holds; errors are those of `unpack`."""
    reference = object_ref(data)
    return _parsed(_checked(reference, _fetch(reference, get), signing_key), reference.digest)


def _parsed(body: Buffer, digest: str | None) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise CorruptRecordError(
            f"the object {digest!r} is no plain value: {error}; restore it from a backup"
        ) from error


def _names_a_class(data: Any) -> bool:
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if type(each) is dict:
            if each.get("$") == "class":
                return True
            waiting += each.values()
        elif type(each) is list:
            waiting += each
    return False


def check_kept(
    data: Any, get: Callable[[str], Buffer], signing_key: bytes | None = None
) -> None:  # fmt: skip
    """Check the object of a field, as `unpack` does, with its errors, and load nothing."""
    reference = object_ref(data)
    assert reference.digest is not None
    # Every byte, whatever is known of a file.
    body = memoryview(_fetch(reference, get))
    if reference.format is None:
        check_object(body, reference.digest, signing_key)
    else:
        _checked(reference, body, signing_key)


def _checked(reference: ObjectRef, body: Buffer, signing_key: bytes | None) -> Buffer:
    assert reference.digest is not None
    assert reference.format is not None
    return checked_file(body, reference.digest, reference.format, reference.seal, signing_key)


def _fetch(reference: ObjectRef, get: Callable[[str], Buffer]) -> Buffer:
    assert reference.digest is not None
    try:
        return get(reference.digest)
    except KeyError:
        raise PersistedResultNotFoundError(
            f"the object {reference.digest!r} with the value {reference.repr} is not in the store: "
            "it was dropped from it, as prune() does with outputs that can be reused, or waits in "
            "the process that ran the trial, where ex.flush() delivers it; else run the trial "
            "again, with its parameters and seed, to have it again"
        ) from None
