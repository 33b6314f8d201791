"""What a step's function may be called with: names for the arguments of a call, and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from inspect import Parameter, Signature
from typing import Any, ParamSpec, TypeVar

from daskperiment.formatting import nearest

__all__ = [
    "DEFAULT",
    "argument_names",
    "check_name",
    "declared_names",
    "defaults_of",
    "explained",
    "in_order",
    "parameter_names",
    "unknown_keyword",
]

DEFAULT = "default"
"""Stands for the fingerprint of a default that has none: the code tells which it is."""

P = ParamSpec("P")
T = TypeVar("T")

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_OPEN = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def check_name(name: Any, what: str) -> None:
    """Refuse what is no name of what such as ``"A metric"``.

    Raises
    ------
    TypeError, ValueError
        If it is not text, or empty, or has halves of characters, which no store takes.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what}'s name is text, got {name!r} ({type(name).__name__})")
    if not name:
        raise ValueError(f"{what}'s name is empty; give it at least one character")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what}'s name is {name!r}, which has halves of characters and cannot be written; "
            "name.encode(errors='replace').decode() can be"
        ) from None


def argument_names(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return a name for each argument of a call, however the call is written.

    Those of ``*values`` are called ``values[0]``, ``values[1]`` and so on.

    Raises
    ------
    TypeError
        If the function cannot be called in this way.
    """
    signature = _cached(_signature, function)
    if signature is None:
        return (*(f"[{number}]" for number in range(len(args))), *kwargs)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        hint = _hint(function, kwargs)
        raise TypeError(f"{name}() cannot be called like this: {error}{hint}") from None
    declared = signature.parameters.values()
    names = [each.name for each in declared if each.kind in _POSITIONAL][: len(args)]
    rest = next((each.name for each in declared if each.kind is Parameter.VAR_POSITIONAL), "")
    names += [f"{rest}[{number}]" for number in range(len(args) - len(names))]
    # With f(a, /, **named), a keyword may have the name of an argument that is given by position.
    return (*names, *(f"{name}=" if name in names else name for name in kwargs))


def _hint(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> str:
    known = parameter_names(function)
    unknown = next((name for name in kwargs if known is not None and name not in known), None)
    if known is None or unknown is None:
        return ""
    named = [name for name in known if name not in ("self", "cls")]
    return nearest(unknown, named) or f"; its arguments are {', '.join(named) or 'none'}"


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names that arguments of a function may have; None if it takes any name."""
    signature = _cached(_signature, function)
    if signature is None or any(
        each.kind is Parameter.VAR_KEYWORD for each in signature.parameters.values()
    ):
        return None
    return tuple(signature.parameters)


def declared_names(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that a function declares one by one."""
    signature = _cached(_signature, function)
    declared = signature.parameters.values() if signature is not None else ()
    return frozenset(each.name for each in declared if each.kind not in _OPEN)


def in_order(function: Callable[..., Any], names: Iterable[str]) -> list[str]:
    """Return the names of arguments in an order of their own: one for all calls that are equal.

    What a function collects by name it may go through in the order in which it was given.
    """
    declared = declared_names(function)
    return sorted(names, key=lambda name: (False, name) if name in declared else (True, ""))


def defaults_of(function: Callable[..., Any]) -> tuple[tuple[str, Any], ...]:
    """Return name and value of each argument that may be left out."""
    return _cached(_defaults, function)  # type: ignore[no-any-return]


def explained(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that names the nearest known keyword where it is called with another."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            known = parameter_names(function)
            unknown = [name for name in kwargs if known is not None and name not in known]
            if not unknown:
                raise
            raise TypeError(f"{error}{_hint(function, kwargs)}") from None

    return call


def unknown_keyword(name: str, keyword: str, known: Sequence[str]) -> TypeError:
    """Return the error that a function takes no such keyword, with the one that was meant."""
    hint = nearest(keyword, known) or f"; its arguments are {', '.join(known)}"
    return TypeError(f"{name}() got an unexpected keyword argument {keyword!r}{hint}")


def _signature(function: Callable[..., Any]) -> Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # some functions of compiled code do not tell


def _defaults(function: Callable[..., Any]) -> tuple[tuple[str, Any], ...]:
    signature = _signature(function)
    declared = signature.parameters.values() if signature is not None else ()
    return tuple([(each.name, each.default) for each in declared
                  if each.kind not in _OPEN and each.default is not Parameter.empty])  # fmt: skip


def _cached(ask: Callable[[Any], Any], function: Callable[..., Any]) -> Any:
    try:
        return _remembered(ask, function)
    except TypeError:
        return ask(function)  # it has no hash


@lru_cache(maxsize=1000)
def _remembered(ask: Callable[[Any], Any], function: Callable[..., Any]) -> Any:
    return ask(function)
