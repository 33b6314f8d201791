"""Fingerprints of values: equal in every process for equal values, and different for others.

Plain values and containers, arrays, tensors, tables, random generators, functions and classes (by
code, with all that they use) and estimators have encodings of their own. Any other object that
can be pickled is written by what pickle would keep of it, and by the user's code of its class.
What cannot be pickled has no fingerprint, and the reason is said.

Floats are compared by their bits, but every ``nan`` is equal to every other outside of arrays.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from daskperiment.capture.encoding import (
    CyclicValueError,
    Encoder,
    GraphEncoder,
    Handler,
    KnownCode,
    NoFingerprintError,
    combine,
)
from daskperiment.capture.fingerprint import instances, python_values
from daskperiment.capture.fingerprint.arrays import array_handler
from daskperiment.capture.fingerprint.frames import table_handler
from daskperiment.capture.fingerprint.reductions import ObjectEncoder
from daskperiment.capture.fingerprint.tensors import tensor_handler
from daskperiment.capture.signatures import explained
from daskperiment.codec.buffer_digests import BufferDigests
from daskperiment.secret_values import Secret, mark_of

__all__ = [
    "NoFingerprintError",
    "bytes_of_arrays",
    "combine",
    "digest_of",
    "exact_fingerprint",
    "fingerprint",
    "fingerprint_without_code",
    "is_array",
    "register_fingerprint",
]


def _secret(encoder: Encoder, value: Secret) -> None:
    try:
        digest = _fingerprint(value.value, encoder.exact, encoder.path)
    except NoFingerprintError:  # whose reason may quote it
        raise NoFingerprintError("a secret without a fingerprint") from None
    encoder.tag_text(b"secret", mark_of(digest, value.key))


_EXACT: dict[type, Handler] = {
    **python_values.EXACT, **instances.EXACT, Secret: _secret,
}  # fmt: skip
# What refers to nothing, or to code alone.
_PLAIN = frozenset(
    [
        *(type(None), bool, int, float, complex, str, bytes, type),
        *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    ]
)
_REGISTERED: dict[type, Callable[[Any], Any]] = {}
Find = Callable[[type], Handler]


@lru_cache(maxsize=1024)
def _find(kind: type) -> Handler:
    # The one place that decides how a type is encoded. From the particular to the general:
    # exact types, what users registered, families of types, types of libraries, the shape of a
    # class, and at last what pickle would make of its objects.
    exact = _EXACT.get(kind)
    if exact is not None:
        return exact
    for base in kind.__mro__:
        if base in _REGISTERED:
            return instances.registered_handler(_REGISTERED[base])
    for base, handler in python_values.FAMILIES:
        if issubclass(kind, base):
            return handler
    found = array_handler(kind) or tensor_handler(kind) or table_handler(kind)
    return found or instances.handler_for(kind) or _OBJECTS.encode


@explained
def register_fingerprint(type: type[Any], function: Callable[[Any], Any]) -> None:
    """Say what the fingerprint of a class's objects is made of.

    It comes before all that is known of the class otherwise, such as its ``__dask_tokenize__``.
    Call it where the class is defined, so that every process that has the class does it, too.

    Parameters
    ----------
    type : type
        The class; subclasses without a registration of their own are meant as well.
    function : callable
        Takes an object, and returns a value that is equal for equal objects and has a fingerprint:
        numbers, texts, arrays, and containers of them.

    Raises
    ------
    TypeError
        If the first is no class, or the second cannot be called.
    ValueError
        If the class is one of Python's own values, such as int.

    Examples
    --------
    >>> import daskperiment
    >>> class Connection:
    ...     def __init__(self, address):
    ...         self.address = address
    ...         self.opened = object()
    >>> daskperiment.register_fingerprint(Connection, lambda each: each.address)
    """
    if not inspect.isclass(type):
        raise TypeError(
            f"register_fingerprint() takes a class first, not {type!r}: pass the class "
            "whose objects are to have a fingerprint."
        )
    if not callable(function):
        raise TypeError(
            f"register_fingerprint() takes a function second, not {function!r}: pass one that "
            "returns what an object is made of."
        )
    if type in _EXACT or type is object:
        raise ValueError(
            f"The fingerprint of {type!r} cannot be replaced: register a class of your own."
        )
    _REGISTERED[type] = function
    _find.cache_clear()


def digest_of(
    value: Any, code: dict[int, KnownCode] | None = None, exact: bool = False,
    path: Callable[[Any], str] = str, find: Find | None = None,
    buffers: BufferDigests | None = None,
) -> bytes:  # fmt: skip
    """Return the digest of a value; NoFingerprintError is raised if it has none.

    Parameters
    ----------
    value : object
    code : dict, optional
        Digests of code that is known to be unchanged, which those found here are added to.
    exact : bool, optional
        Whether values that are equal, and yet may lead to other outputs, are told apart.
    path : callable, optional
        Says what a path stands for.
    find : callable, optional
        Returns how objects of a class are written, where that is another way.
    buffers : BufferDigests, optional
        Digests of large buffers that are known to be unchanged; those found here are added.
    """
    find = find or _find
    encoder = Encoder(find, code, exact, path, buffers)
    try:
        encoder.feed(value)
    except CyclicValueError:
        encoder = GraphEncoder(find, _PLAIN, code, exact, path, buffers)
        encoder.feed(value)
    return encoder.digest()


_OBJECTS = ObjectEncoder(digest_of)


def fingerprint(
    value: Any, path: Callable[[Any], str] = str, buffers: BufferDigests | None = None
) -> str:
    """Return the fingerprint of a value: 32 hexadecimal digits.

    `path` says what a path stands for: its text, or what is there. `buffers` are digests of large
    buffers that are known to be unchanged, which those found here are added to.

    NoFingerprintError if it has none that would be the same in another process; it says why.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    >>> fingerprint(1) == fingerprint(1.0)
    False
    """
    return _fingerprint(value, False, path, buffers=buffers)


def exact_fingerprint(
    value: Any, path: Callable[[Any], str] = str, code: dict[int, KnownCode] | None = None,
    buffers: BufferDigests | None = None,
) -> str:  # fmt: skip
    """Return a fingerprint that also differs for dicts which differ in their order.

    Such dicts are equal, but a function that goes through them may return something else. The code
    that is found in the value is added to `code`, and digests of large buffers to `buffers`.
    """
    return _fingerprint(value, True, path, code, buffers=buffers)


def fingerprint_without_code(
    value: Any, path: Callable[[Any], str] = str, buffers: BufferDigests | None = None
) -> str:
    """Return an exact fingerprint in which code counts by its name alone."""
    return _fingerprint(value, True, path, None, _find_by_name, buffers)


def _find_by_name(kind: type) -> Handler:
    is_code = issubclass(kind, (type, types.FunctionType, types.ModuleType))
    return instances.encode_name if is_code else _find(kind)


def is_array(value: Any) -> bool:
    """Whether a value has one fingerprint, that its order within does not change."""
    if type(value).__module__ != "numpy":
        return False  # and is asked for nothing: it may answer in any way
    dtype = getattr(value, "dtype", None)
    return dtype is not None and not dtype.hasobject


def bytes_of_arrays(value: Any) -> int:
    """Return the bytes of an array, or of a tensor or those in dictionaries; 0 for all else.

    So for tensors that know of none: sparse ones, and some that have only a shape.
    """
    if type(value).__module__ == "numpy":
        return int(value.nbytes) if hasattr(value, "nbytes") else 0
    size, values, seen = 0, [value], set()
    torch: Any = sys.modules.get("torch")
    while values:
        each = values.pop()
        if type(each) is dict:
            values += each.values() if id(each) not in seen else ()
            seen.add(id(each))
        elif torch is not None:
            with suppress(Exception):  # nor does what stands in for something else answer always
                size += int(each.nbytes) if isinstance(each, torch.Tensor) else 0
    return size


def _fingerprint(
    value: Any, exact: bool, path: Callable[[Any], str], code: dict[int, KnownCode] | None = None,
    find: Find | None = None, buffers: BufferDigests | None = None,
) -> str:  # fmt: skip
    try:
        return digest_of(value, code, exact, path, find, buffers).hex()
    except NoFingerprintError:
        raise
    except RecursionError:
        raise NoFingerprintError("nested too deeply") from None
    except Exception as error:
        # The value's own code failed: a property, a comparison.
        raise NoFingerprintError(f"{type(value).__qualname__} failed: {error!r}") from None
