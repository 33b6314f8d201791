"""Values of secret parameters: steps use them, marks compare them, nobody writes or shows them."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from urllib.parse import quote, quote_plus, unquote, urlsplit

__all__ = [
    "HIDDEN",
    "Secret",
    "SecretParameters",
    "concealed",
    "is_mark",
    "mark_of",
    "may_differ",
    "quoted",
    "revealed",
]

HIDDEN: Final = "<secret>"
"""What is shown and recorded in place of a secret."""

_MARK = "secret:"
_DEPTH, _ITEMS = 8, 1000
"""How deep, and how far, the texts within a secret are looked for."""
_LONG = 6
"""Texts of at least so many characters are hardly in a source by chance."""
_SHORT = 4
"""Shorter texts are left out of others only where they stand as words of their own."""


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Secret:
    """The value of a secret parameter, or of a part of one; its ``repr`` does not show it."""

    value: Any
    key: bytes
    mark: str
    """By which values are compared; empty if the value has no fingerprint."""

    def __repr__(self) -> str:
        return HIDDEN

    def __dask_tokenize__(self) -> Any:
        return "secret", self.mark or id(self)


class SecretParameters(NamedTuple):
    """Which parameters of a trial are secret, and the key that marks their values."""

    names: frozenset[str]
    key: bytes

    def __repr__(self) -> str:
        return f"<{len(self.names)} secret parameters>"

    def mark(self, digest: str) -> str:
        """Return the mark of a value that has this digest."""
        return mark_of(digest, self.key)


def mark_of(digest: str, key: bytes) -> str:
    """Return what values are compared by, of one that has this digest.

    It tells the key, so that marks of other keys are known not to be comparable. Without the
    key, nobody can tell by trying which value it is of.
    """
    name = hmac.new(key, b"name of this key", "sha256").hexdigest()
    state = hmac.new(key, b"value\0" + digest.encode(), "sha256")
    return f"{_MARK}{name[:12]}:{state.hexdigest()[:32]}"


def is_mark(text: str) -> bool:
    """Whether a fingerprint is the mark of a secret."""
    return text.startswith(_MARK)


def may_differ(mark: str, other: str) -> bool | None:
    """Whether values with these marks differ; None if nobody can tell."""
    if not mark or not other or mark.rpartition(":")[0] != other.rpartition(":")[0]:
        return None
    return mark != other


def revealed(value: Any) -> Any:
    """Return the value itself, for a step that takes it."""
    return value.value if type(value) is Secret else value


# Texts that may quote a secret --------------------------------------------------------------------


def concealed(text: str, secrets: Iterable[Any]) -> str:
    """Return a text without what it has of secrets, however that is spelled.

    Parameters
    ----------
    text : str
        Such as an exception's message.
    secrets : iterable of object
        The values.
    """
    spelled = sorted(_spelled(secrets), key=len, reverse=True)
    if not spelled:
        return text
    parts = [re.escape(each) if len(each) >= _SHORT else rf"(?<!\w){re.escape(each)}(?!\w)"
             for each in spelled]  # fmt: skip
    return re.sub("|".join(parts), HIDDEN, text)


def quoted(text: str, secrets: Iterable[Any]) -> bool:
    """Whether a text has any longer part of secrets in it, however that is spelled."""
    return any(each in text for each in _spelled(secrets) if len(each) >= _LONG)


def _spelled(secrets: Iterable[Any]) -> set[str]:
    leaves = {leaf for value in secrets for leaf in _leaves(revealed(value), _DEPTH)}
    return {each for leaf in leaves for each in _spellings(leaf)}


def _leaves(value: Any, depth: int) -> Iterator[str | bytes]:
    """Yield the texts that a value is made of, numbers as text too."""
    if isinstance(value, (str, bytes)):
        yield value
        yield from _password(value)
    elif isinstance(value, (bytearray, memoryview)):
        yield bytes(value)
    elif isinstance(value, PurePath):
        yield str(value)
    elif isinstance(value, (int, float, complex)) and not isinstance(value, bool):
        yield repr(value)
    elif depth and value is not None and not isinstance(value, type):
        for item in list(_items(value))[:_ITEMS]:
            yield from _leaves(item, depth - 1)


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    names = [name for base in type(value).__mro__ for name in _slots(base)]
    held = getattr(value, "__dict__", {})
    return [*held.values(), *(getattr(value, name, None) for name in names)]


def _slots(base: type) -> Iterable[str]:
    names = vars(base).get("__slots__", ())
    return (names,) if isinstance(names, str) else names


def _password(text: str | bytes) -> Iterator[str]:
    """Yield the password in a URL: drivers quote it without the rest."""
    if isinstance(text, str) and "://" in text:
        try:
            password = urlsplit(text).password
        except ValueError:
            return
        if password:
            yield from (password, unquote(password))


def _spellings(leaf: str | bytes) -> Iterator[str]:
    """Yield how a text may be spelled where it is quoted."""
    data = leaf if isinstance(leaf, bytes) else leaf.encode("utf-8", "surrogatepass")
    if not data.strip():
        return
    for text in {data.decode("utf-8", "surrogateescape"), data.decode("latin-1")}:
        yield from (text, repr(text)[1:-1], json.dumps(text)[1:-1])
    yield repr(data)[2:-1]
    yield from (quote(data), quote(data, safe=""), quote_plus(data))
    if len(data) >= _SHORT:
        yield from (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode())
        yield data.hex()
