"""What records are made of: objects, files, arguments, errors, and where things ran."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

__all__ = [
    "Argument",
    "Birthplace",
    "CodeInside",
    "Failure",
    "Files",
    "FileState",
    "INEXACT",
    "ObjectRef",
    "Origin",
    "Preview",
]


class Preview(Struct, frozen=True, omit_defaults=True):
    """What is shown of a value without reading it: a few lines that were made when it was kept."""

    kind: Literal["text", "array", "table", "image", "html"]
    text: str = ""
    """The beginning of a text, or a name."""
    dtype: str = ""
    """Type of an array's elements, or the colours of an image."""
    shape: list[int] = []
    """Of an array or a table; of an image its width and height."""
    stats: dict[str, str] = {}
    """Of an array: what is told of its elements -> the number."""
    columns: list[list[str]] = []
    """Of a table, or of a collection of arrays: pairs of a name and a type."""
    rows: list[list[str]] = []
    """The first rows of a table."""


class ObjectRef(Struct, frozen=True, omit_defaults=True, tag="object", tag_field="$"):
    """A value that is not plain data: kept as an object, or the reason why it was not."""

    type: str
    repr: str
    size: int = 0
    digest: str | None = None
    """Digest of the object's bytes; ``None`` if the value was not kept."""
    reason: str | None = None
    """Why the value was not kept."""
    python: str | None = None
    """Minor version of Python that pickled it, such as ``3.11``; ``None`` if it is not known."""
    mark: str | None = None
    """Of the value of a secret parameter, by which others with the same key compare it; empty if it
    has no fingerprint. ``None`` for what is no secret."""
    parts: dict[str, Any] = {}
    """Plain fields of a data class or a named tuple, by name: what a table of trials can show and
    compare without unpickling the value."""
    number: Any = None
    """The one number that an array, a tensor or a scalar of a library holds, as a plain value."""
    format: str | None = None
    """Name of the format whose file the object is; ``None`` if it is a pickle."""
    preview: Preview | None = None
    seal: str | None = None
    """Of such a file: HMAC-SHA256 of its format and bytes with the signing key, if there was
    one."""
    content: Argument | None = None
    """Of the value of a parameter that is no secret: what tells whether it is the same."""


class Origin(Struct, frozen=True, omit_defaults=True):
    """The process in which something ran, so that a reader can tell whether it still does."""

    host: str
    boot: str
    """Identifies one run of the host's kernel; pids mean nothing beyond it."""
    pid: int
    born: float
    """When the process started: a pid that was given out again has another."""
    user: str


INEXACT = "~"
"""What a fingerprint of an argument begins with that says less than a cache key has to."""


class CodeInside(Struct, frozen=True, omit_defaults=True):
    """The user's own code in a value, such as the class of an object, by short digests."""

    functions: dict[str, str] = {}
    """Functions and classes, with those that they use: name -> digest of its own code."""
    constants: dict[str, str | None] = {}
    """What they read besides: name -> digest (``None``: has none)."""
    packages: dict[str, str] = {}
    """Installed packages that they use: name -> version."""


class Argument(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a step gets for one of its parameters."""

    text: str = ""
    """The value in short, where a few characters tell it; else empty."""
    fingerprint: str | None = None
    """``None`` if the value has none."""
    code: CodeInside | None = None
    """The user's code in the value, if there is any; it counts in the fingerprint."""
    data: str | None = None
    """Then the fingerprint of the value without it."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """An exception that ended a step or a trial."""

    type: str
    description: str
    """``ZeroDivisionError(division by zero)``."""
    traceback: str = ""
    step: str | None = None
    """Key of the step run that raised it."""


class FileState(Struct, frozen=True, omit_defaults=True):
    """A file, the names in a folder, all within one, or an environment variable.

    As a step read or wrote it.
    """

    name: str
    """Absolute path, or the variable's name."""
    digest: str | None = None
    """Of what was there, empty if nothing was; None if it was not taken."""
    kind: Literal["file", "names", "tree", "variable"] = "file"
    stamp: list[int] | None = None
    """The file's size, times of modification and change in nanoseconds, and inode."""
    step: str | None = None
    """Place of the step before that read it; None if it was the step itself."""
    relative: str | None = None
    """The path as the step gave it, if it depends on the working directory of who computes."""
    left: str | None = None
    """Of what a library that read the variable set it to in the same step: a default of its own."""

    @property
    def known_as(self) -> str:
        """What names it wherever the trial is computed: the relative path, if it has one."""
        return self.relative or self.name


class Files(Struct, frozen=True):
    """What the files among the inputs of a trial's steps held when it was planned."""

    places: dict[str, dict[str, dict[str, str]]]
    """Place of a step -> path, pattern or URL -> name of a file there -> digest of its content."""


class Birthplace(Struct, frozen=True):
    """Where a trial was recorded that was copied to another store."""

    address: str
    trial: int
    """Its id there."""

    def __str__(self) -> str:
        return f"{self.address} trial {self.trial}"
