"""Any value at all <-> the field of a record, and the object that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from reprlib import Repr
from typing import Any

import msgspec

from daskperiment.codec.objects import Blob, Buffer, dump_object, load_object
from daskperiment.codec.plain import NotPlainError, from_plain, is_object, object_ref, to_plain
from daskperiment.errors import PersistedResultNotFoundError
from daskperiment.records import ObjectRef

__all__ = ["describe", "pack", "unpack"]

_INLINE = 1_000_000
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_SHORT = (type(None), bool, int, float)
_LONGEST = 200


def pack(
    value: Any, signing_key: bytes | None = None, inline: int | None = _INLINE
) -> tuple[Any, Blob | None]:
    """Give the form in which a record holds a value, and the object to put beside it.

    Never raises, whatever the value is: one that cannot be kept is described, with the reason.

    Parameters
    ----------
    value : object
    signing_key : bytes, optional
        Sign the object with this secret.
    inline : int or None, default 1_000_000
        The most bytes of JSON that stay in the record. None for no limit.

    Returns
    -------
    data : object
        The plain form, or that of an :class:`~daskperiment.records.ObjectRef`.
    blob : Blob or None
        What the store has to be given.

    Examples
    --------
    >>> pack((1, 2))
    ({'$': 'tuple', 'v': [1, 2]}, None)
    """
    try:
        return _plain_within(value, inline), None
    except Exception:
        # Not plain, too long, or changed by another thread meanwhile.
        return _as_object(value, signing_key)


def _plain_within(value: Any, limit: int | None) -> Any:
    if limit is None:
        return to_plain(value)
    # Every element takes two bytes of JSON: no need to encode what is longer in any case.
    if type(value) in _SIZED and len(value) > limit:
        raise NotPlainError(f"longer than {limit} bytes")
    plain = to_plain(value)
    if type(plain) not in _SHORT and len(msgspec.json.encode(plain)) > limit:
        raise NotPlainError(f"longer than {limit} bytes")
    return plain


def _as_object(value: Any, signing_key: bytes | None) -> tuple[Any, Blob | None]:
    type_, text = describe(value)
    try:
        blob = dump_object(value, signing_key)
    except Exception as error:
        reason = f"{type(error).__name__}: {_guarded(str, error)}"
        return msgspec.to_builtins(ObjectRef(type_, text, reason=_one_line(reason))), None
    reference = ObjectRef(type_, text, size=blob.size, digest=blob.digest)
    return msgspec.to_builtins(reference), blob


def unpack(data: Any, get: Callable[[str], Buffer], signing_key: bytes | None = None) -> Any:
    """Give the value that `pack` was given; load its object if it has one.

    Loading an object runs code of whoever wrote it: see `load_object`.

    Parameters
    ----------
    data : object
        The first part of what `pack` returned, or what JSON made of it.
    get : callable
        Gives an object's bytes by digest; KeyError if there is none.
    signing_key : bytes, optional
        Refuse objects that were not signed with this secret.

    Raises
    ------
    PersistedResultNotFoundError
        If the value was not kept, or its object is no longer in the store.
    CorruptRecordError, UntrustedObjectError
        As from `from_plain` and `load_object`.
    """
    if not is_object(data):
        return from_plain(data)
    reference = object_ref(data)
    if reference.digest is None:
        raise PersistedResultNotFoundError(
            f"the value {reference.repr} of type {reference.type} was not kept: "
            f"{reference.reason}; return something that can be pickled instead"
        )
    return load_object(_fetch(reference, get), reference.digest, signing_key)


def _fetch(reference: ObjectRef, get: Callable[[str], Buffer]) -> Buffer:
    assert reference.digest is not None
    try:
        return get(reference.digest)
    except KeyError:
        raise PersistedResultNotFoundError(
            f"the object {reference.digest!r} with the value {reference.repr} is not in the store: "
            "it was dropped from it, as prune() does with outputs that can be reused; "
            "run the trial again, with its parameters and seed, to have it again"
        ) from None


def describe(value: Any) -> tuple[str, str]:
    """Give a value's type and a short text, for people; never raises.

    Returns
    -------
    type : str
        ``str(type(value))``.
    repr : str
        One line of at most 200 printable characters.

    Examples
    --------
    >>> describe([1, 2])
    ("<class 'list'>", '[1, 2]')
    """
    type_ = _guarded(lambda v: str(type(v)), value) or type.__repr__(type(value))
    text = _guarded(_REPR.repr, value) or f"{type.__repr__(type(value))} without a readable repr"
    return _escape(type_), _one_line(text)


def _guarded(show: Callable[[Any], str], value: Any) -> str:
    try:
        return show(value)
    except Exception:
        return ""


def _one_line(text: str) -> str:
    # Cut twice: before, because a repr may have any length, and after, because escapes are long.
    line = _escape(" ".join(text[: 4 * _LONGEST].split()))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _escape(text: str) -> str:
    # Lone surrogates would not fit into JSON, and control characters upset a terminal.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _bounded_repr() -> Repr:
    bounded = Repr()
    bounded.maxlevel = 4
    bounded.maxlist = bounded.maxtuple = bounded.maxset = bounded.maxfrozenset = 20
    bounded.maxdict = bounded.maxarray = bounded.maxdeque = 20
    bounded.maxstring = bounded.maxlong = bounded.maxother = _LONGEST
    return bounded


_REPR = _bounded_repr()
"""A repr that does not first write out a list of a million elements."""
