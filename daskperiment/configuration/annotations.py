"""Values and the annotations of the leaves that take them: whether they fit, and what was expected.

A value fits as a type checker would have it, and a bit more: an integer where a float is meant, the
value or name of an enum's member, text where a path is, a mapping where a dataclass is. What an
annotation of an unknown kind means is left to the class that has it.
"""

from __future__ import annotations

import ast
import decimal
import enum
import fractions
import types
import typing
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from numbers import Number
from pathlib import Path, PurePath
from typing import Any, Literal, Union

from daskperiment.formatting import nearest

__all__ = ["ANY", "converted", "described", "is_secret", "parsed"]

ANY: Any = typing.Any
"""The annotation of what has none."""

_UNIONS = (Union, types.UnionType)
_WORDS = {"true": True, "false": False, "null": None, "none": None, "~": None}
"""Texts of YAML and TOML that are no literals of Python."""
_SEQUENCES: dict[Any, type] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset, Sequence: list, Collection: list,
    Iterable: list,
}  # fmt: skip


def converted(value: Any, hint: Any) -> Any:
    """Return a value as an annotation has it.

    Raises
    ------
    ValueError
        If it does not fit; the message says what was expected.
    """
    hint = _bare(hint)
    if hint is ANY:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return _of_union(value, arguments, hint)
    if origin is Literal:
        for each in arguments:
            if type(each) is type(value) and each == value:
                return value
        raise _misfit(value, hint)
    if origin in _SEQUENCES and isinstance(value, (list, tuple, set, frozenset)):
        return _of_sequence(value, origin, arguments, hint)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        key, item = arguments
        return {converted(k, key): converted(v, item) for k, v in value.items()}
    if origin is type:
        hint = type
    elif origin is not None:
        hint = origin
    return _of_class(value, hint) if isinstance(hint, type) else value


def _bare(hint: Any) -> Any:
    """Return an annotation without what is only said about it."""
    while True:
        if typing.get_origin(hint) in (typing.Annotated, typing.Final, typing.ClassVar):
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):  # of NewType
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return type(None) if hint is None else hint


def _of_union(value: Any, members: Sequence[Any], hint: Any) -> Any:
    exact = [each for each in members if type(value) is _bare(each)]
    for each in (*exact, *members):
        try:
            return converted(value, each)
        except ValueError:
            continue
    raise _misfit(value, hint)


def _of_sequence(value: Any, origin: Any, arguments: Sequence[Any], hint: Any) -> Any:
    if origin is tuple and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise _misfit(value, hint)
        return tuple(converted(v, each) for v, each in zip(value, arguments, strict=True))
    try:
        return _SEQUENCES[origin](converted(each, arguments[0]) for each in value)
    except ValueError:
        raise _misfit(value, hint) from None


def _of_class(value: Any, kind: type) -> Any:
    if isinstance(value, bool) and kind in (int, float, complex):
        raise _misfit(value, kind)
    if isinstance(value, kind):
        return value
    if (kind is float and type(value) is int) or (kind is complex and type(value) in (int, float)):
        return kind(value)
    if issubclass(kind, enum.Enum):
        return _of_enum(value, kind)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _of_dataclass(value, kind)
    if kind is tuple and type(value) is list:
        return tuple(value)
    return _made(value, kind)


def _made(value: Any, kind: type) -> Any:
    """Return what a class makes of the text or the number that stands for its objects."""
    if isinstance(value, str) and (issubclass(kind, PurePath) or is_secret(kind, None)):
        return kind(value)
    if isinstance(value, str) and hasattr(kind, "fromisoformat"):
        return kind.fromisoformat(value)
    if isinstance(value, Number) and kind.__module__ == "numpy":
        return kind(value)
    if isinstance(value, str) and kind in _WRITTEN:
        with suppress(ValueError, ArithmeticError):
            return kind(value)
    if kind in _CHECKED or not _is_open(kind):
        raise _misfit(value, kind)
    return value


_WRITTEN = (decimal.Decimal, fractions.Fraction, uuid.UUID)
"""Classes that take the text of a value, which YAML and JSON cannot hold otherwise."""
_CHECKED = frozenset({
    bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None), type,
})  # fmt: skip


def _is_open(kind: type) -> bool:
    """Whether a class may take values that are none of its instances, and says so itself."""
    return hasattr(kind, "__get_pydantic_core_schema__") or getattr(kind, "_is_protocol", False)


def _of_enum(value: Any, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        if type(member.value) is type(value) and member.value == value:
            return member
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    raise _misfit(value, kind)


def _of_dataclass(value: Mapping[str, Any], kind: type) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = [name for name in value if name not in hints]
    if unknown:
        hint = nearest(unknown[0], [each.name for each in fields(kind)])
        raise ValueError(f"{unknown[0]!r} is no field of {kind.__qualname__}{hint}")
    return kind(**{name: converted(each, hints[name]) for name, each in value.items()})


def _misfit(value: Any, hint: Any) -> ValueError:
    return ValueError(f"expected {described(hint)}")


def described(hint: Any) -> str:
    """Return in words what an annotation takes."""
    hint = _bare(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return " or ".join(map(described, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if hint is type(None):
        return "None"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"a member of {hint.__qualname__} ({', '.join(hint.__members__)})"
    if isinstance(hint, type) and origin is None:
        return "text" if hint is str else hint.__qualname__
    return str(hint).replace("typing.", "")


def parsed(text: str, hint: Any) -> Any:
    """Return the value that a text of the command line means for an annotation.

    Raises
    ------
    ValueError
        If none of what it may mean fits; the message says what was expected.
    """
    found: list[Any] = []
    try:
        found.append(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if text.lower() in _WORDS:
            found.append(_WORDS[text.lower()])
    # Where text is meant, 12 is text too.
    found = [text, *found] if _takes_text_first(hint) else [*found, text]
    for meant in found:
        try:
            return converted(meant, hint)
        except ValueError as error:
            failed = error
    raise failed


def _takes_text_first(hint: Any) -> bool:
    hint = _bare(hint)
    if typing.get_origin(hint) in _UNIONS:
        others = [each for each in map(_bare, typing.get_args(hint)) if each is not type(None)]
        return others == [Path]
    return hint is str or hint in _WRITTEN or (
        isinstance(hint, type) and issubclass(hint, PurePath)
    )  # fmt: skip


def is_secret(hint: Any, value: Any) -> bool:
    """Whether what takes this value is meant to be shown nowhere, as pydantic's SecretStr is."""
    hint = _bare(hint)
    kinds = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    return any(hasattr(each, "get_secret_value") for each in (value, *map(_bare, kinds)))
