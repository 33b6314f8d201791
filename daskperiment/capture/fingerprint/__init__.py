"""Fingerprints of values: equal in every process for equal values, and different for others.

What is covered: plain values and containers, NumPy arrays and scalars (by elements in C order),
pandas objects, sparse matrices, tensors, random generators (by their state), dataclasses, enums
and other objects of the user's classes (by code and state), functions and classes (by code, with
all that they use), estimators (by class, parameters and fitted state), and whatever has a
``__dask_tokenize__``. Anything else has no fingerprint, and the reason is said.

Floats are compared by their bits, but every ``nan`` is equal to every other outside of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from daskperiment.capture.encoding import Encoder, Handler, NoFingerprintError, combine
from daskperiment.capture.fingerprint import arrays, instances, python_values

__all__ = ["NoFingerprintError", "combine", "encoder_for", "exact_fingerprint", "fingerprint"]

_EXACT = {**python_values.EXACT, **instances.EXACT}


@lru_cache(maxsize=1024)
def _find(kind: type) -> Handler:
    # The one place that decides how a type is encoded. From the particular to the general:
    # exact types, families of types, types of libraries, and at last the shape of a class.
    exact = _EXACT.get(kind)
    if exact is not None:
        return exact
    for base, handler in python_values.FAMILIES:
        if issubclass(kind, base):
            return handler
    return arrays.handler_for(kind) or instances.handler_for(kind)


class _OrderedEncoder(Encoder):
    """Writes dicts in their order."""

    __slots__ = ()
    exact = True

    def mapping(self, values: dict[Any, Any]) -> None:
        self.tag(b"dict", len(values))
        for key, value in values.items():
            self.feed(key)
            self.feed(value)


def encoder_for(code: dict[int, tuple[Any, bytes]] | None = None) -> Encoder:
    """Return an encoder that knows all types, for values that code reads."""
    return _OrderedEncoder(_find, code)


def fingerprint(value: Any, path: Callable[[Any], str] = str) -> str:
    """Return the fingerprint of a value: 32 hexadecimal digits.

    `path` says what a path stands for: its text, or what is there.

    NoFingerprintError if it has none that would be the same in another process; it says why.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    >>> fingerprint(1) == fingerprint(1.0)
    False
    """
    return _fingerprint(Encoder(_find, path=path), value)


def exact_fingerprint(value: Any, path: Callable[[Any], str] = str) -> str:
    """Return a fingerprint that also differs for dicts which differ in their order.

    Such dicts are equal, but a function that goes through them may return something else.
    """
    return _fingerprint(_OrderedEncoder(_find, path=path), value)


def _fingerprint(encoder: Encoder, value: Any) -> str:
    try:
        encoder.feed(value)
    except NoFingerprintError:
        raise
    except RecursionError:
        raise NoFingerprintError("nested too deeply") from None
    except Exception as error:
        # The value's own code failed: a property, a comparison.
        raise NoFingerprintError(f"{type(value).__qualname__} failed: {error!r}") from None
    return encoder.digest().hex()
