"""The user's own code inside of values: functions, classes, and the classes of objects.

Such code counts in the fingerprint of a value. To tell later whether the code changed or the data,
both are described beside it: the code by the names of all that it consists of, and the value as it
would be if code counted by its name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from daskperiment.capture.code import add_numbered, shown_name
from daskperiment.capture.code_changes import same_names
from daskperiment.capture.encoding import KnownCode
from daskperiment.capture.fingerprint import (
    digest_of,
    exact_fingerprint,
    fingerprint_without_code,
)
from daskperiment.capture.walk import Walk
from daskperiment.codec import is_long, is_object
from daskperiment.codec.buffer_digests import BufferDigests
from daskperiment.records import Argument, CodeInside

__all__ = [
    "UNKNOWN",
    "ContentChange",
    "change_of",
    "content_of",
    "described",
    "with_code",
    "with_content",
]

_DIGITS = 12
"""Of digests that only tell which of a few things changed."""


def described(value: Any, path: Callable[[Any], str] = str) -> Argument:
    """Return what a value is, without a text: its exact fingerprint, and the user's code in it.

    `path` says what a path stands for. NoFingerprintError if it has no fingerprint.
    """
    code: dict[int, KnownCode] = {}
    digest = exact_fingerprint(value, path, code)
    return with_code(value, digest, code, path)


def with_code(
    value: Any, digest: str | None, code: dict[int, KnownCode], path: Callable[[Any], str] = str,
    buffers: BufferDigests | None = None,
) -> Argument:  # fmt: skip
    """Return what a value is whose fingerprint was made, and the code that was found then."""
    walks = [each.walk for each in code.values() if each.walk.units]
    if not walks or digest is None:
        return Argument("", digest)
    data = fingerprint_without_code(value, path, buffers)
    return Argument("", digest, _inside(walks, code), data)


def _inside(walks: Iterable[Walk], code: dict[int, KnownCode]) -> CodeInside:
    found = CodeInside({}, {}, {})
    for walk in walks:
        for unit in walk.units:
            add_numbered(found.functions, shown_name(unit.name), unit.fingerprint[:_DIGITS])
        for constant in walk.constants.values():
            if not constant.state:
                digest = _digest(constant.value, code)
                add_numbered(found.constants, shown_name(constant.name), digest)
        found.packages.update(walk.packages)
    return found


def _digest(value: Any, code: dict[int, KnownCode]) -> str | None:
    with suppress(Exception):  # without a fingerprint, or the user's own code failed
        return digest_of(value, code, exact=True).hex()[:_DIGITS]
    return None


def with_content(form: Any, value: Any) -> Any:
    """Return the form in which a parameter is recorded, with what tells whether it is the same.

    Plain values tell it themselves, but for the code of their classes, and of secrets nothing is
    said.
    """
    if type(form) is not dict or "$" not in form or form.get("mark") is not None:
        return form
    with suppress(Exception):  # without a fingerprint, or the user's own code failed
        content = described(value)
        if content.code is not None or (is_object(form) and not is_long(form)):
            return {**form, "content": msgspec.to_builtins(content)}
    return form


def content_of(form: Any) -> Argument | None:
    """Return what `with_content` added to a recorded form; None if it did not."""
    if type(form) is not dict or "$" not in form or "content" not in form:
        return None
    with suppress(msgspec.ValidationError):  # damaged, or of a later version
        return msgspec.convert(form["content"], Argument)
    return None


class ContentChange(NamedTuple):
    """What changed of a value of which descriptions differ."""

    data: bool | None = None
    """Whether its data changed; None if nobody can tell."""
    functions: tuple[str, ...] = ()
    """The functions and classes in it that changed."""
    constants: tuple[str, ...] = ()
    """What these read and is another now."""
    packages: tuple[str, ...] = ()
    """Packages that they use, with both versions."""
    renamed: bool = False
    """Whether a name that its code uses stands for something else."""

    def is_of(self, names: Collection[str]) -> bool:
        """Whether nothing changed but functions and constants of these names."""
        own = (*self.functions, *self.constants)
        return self.data is False and bool(own) and all(name in names for name in own)

    def lines(self) -> tuple[str, ...]:
        """Return what changed besides its data, in words."""
        # What is found in a class by itself, too, is told by the class.
        functions, constants = (
            [name for name in names if not any(name.startswith(f"{f}.") for f in self.functions)]
            for names in (self.functions, self.constants)
        )
        parts = [f"code of {', '.join(functions)}"] if functions else []
        parts += [f"the value of {', '.join(constants)}"] if constants else []
        found = [f"{' and '.join(parts)} changed"] if parts else []
        found += [f"package {line}" for line in self.packages]
        if self.renamed:
            found.append("a name that its code uses stands for something else")
        return tuple(found)


UNKNOWN: Final = ContentChange()
"""The change of a value of which nobody knows what changed."""


def change_of(old: Argument, new: Argument) -> ContentChange:
    """Return what changed of a value, of which two descriptions have other fingerprints."""
    if old.code is None or new.code is None:
        return UNKNOWN  # or there is code, and an earlier version did not write it down
    functions = _changed(old.code.functions, new.code.functions)
    constants = _changed(old.code.constants, new.code.constants)
    versions = {name: (old.code.packages.get(name), version)
                for name, version in new.code.packages.items()}  # fmt: skip
    packages = [f"{name} {one} → {two}" for name, (one, two) in versions.items() if one != two]
    same = old.data == new.data
    return ContentChange(
        not same, functions, constants, tuple(packages),
        same and not (functions or constants or packages),
    )  # fmt: skip


def _changed(old: Mapping[str, str | None], new: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the names of what both have and is known to differ."""
    before = same_names(old, new)
    pairs = {name: (before.get(name), new[name]) for name in new}
    return tuple(name for name, pair in pairs.items() if None not in pair and pair[0] != pair[1])
