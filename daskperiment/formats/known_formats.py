"""Which formats there are, and which of them a value is kept in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from daskperiment.capture.fingerprint import exact_fingerprint
from daskperiment.errors import FormatError, InputFileError, StoreWarning, UnknownFormatError
from daskperiment.formats.format import Buffer, Format, Written, joined
from daskperiment.formats.trees import top_modules
from daskperiment.formatting import nearest, shorten
from daskperiment.records import Preview
from daskperiment.warn import warn_user

__all__ = [
    "PICKLE",
    "asks_others",
    "check_format_name",
    "file_of",
    "format_named",
    "preview_beside",
    "register",
    "written_as",
    "written_for_artifact",
    "written_for_output",
]

GROUP = "daskperiment.formats"
"""The group of entry points by which packages bring formats along."""
PICKLE = "pickle"
"""The name of what keeps whatever no format takes."""


class _FormatModule(NamedTuple):
    """A module of this room, and what it has."""

    module: str
    names: tuple[str, ...]
    packages: frozenset[str]
    """Of whose values its formats take some; the module is imported for no others."""


_CONTAINERS = {"builtins", "collections"}
_HOMES = (
    _FormatModule("path_formats", ("file", "folder"), frozenset({"pathlib"})),
    _FormatModule(
        "safetensors_format", ("safetensors",),
        frozenset({"torch", "jax", "jaxlib", *_CONTAINERS}),
    ),
    _FormatModule("numpy_formats", ("npy",), frozenset({"numpy"})),
    _FormatModule("plain_formats", ("text", "bytes", "json"), frozenset()),
    _FormatModule("numpy_formats", ("npz",), frozenset({"scipy", *_CONTAINERS})),
    _FormatModule(
        "table_formats", ("arrow", "polars", "parquet"),
        frozenset({"pyarrow", "polars", "pandas", "dask"}),
    ),
    _FormatModule("image_formats", ("png", "svg"), frozenset({"PIL", "matplotlib", "seaborn"})),
    _FormatModule(
        "page_formats", ("html",),
        frozenset({"plotly", "altair", "bokeh", "folium", "IPython", "pandas"}),
    ),
    _FormatModule("zarr_format", ("zarr",), frozenset({"zarr", "dask"})),
)  # fmt: skip
"""In the order in which they are asked; what names no packages may take values of any."""

_REGISTERED: dict[str, Format] = {}


def register(format: Any) -> None:
    """Let values be kept in one more format.

    It is asked before those of the package, so that it may take what one of them takes too. A
    process that loads such values registers it as well. A package can bring it along by an entry
    point of the group ``daskperiment.formats``, which is loaded when it is needed.

    Parameters
    ----------
    format : Format
        With a name that none of the package's formats has. An object that has ``name``, ``takes``,
        ``write`` and ``read`` is as good as one of a class that derives from :class:`Format`.

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If it has no name, or that of a format of the package.

    Examples
    --------
    See :class:`Format`.
    """
    format = _as_format(format)
    if not isinstance(format.name, str) or not format.name or format.name in _own_names():
        raise ValueError(
            f"The format's name is {format.name!r}; expected one that is none of "
            f"{', '.join(_own_names())}."
        )
    _REGISTERED[format.name] = format


def _as_format(given: Any) -> Format:
    """Return a format for what was given; TypeError if it lacks what formats have."""
    found = given() if isinstance(given, type) else given
    if isinstance(found, Format):
        return found
    missing = [name for name in _NEEDED if not hasattr(found, name)]
    if missing:
        raise TypeError(
            f"A format is {shorten(repr(given), 60)}, which has no {missing[0]}; expected an "
            "instance of a class that derives from daskperiment.formats.Format."
        )
    return _OtherFormat(found)


class _OtherFormat(Format):
    """A format of a class that does not derive from `Format`."""

    def __init__(self, given: Any) -> None:
        self.name = given.name
        for name in ("suffix", "media", "exact", "takes", "write", "read", *_OPTIONAL):
            if hasattr(given, name):
                setattr(self, name, getattr(given, name))


_NEEDED = ("name", "takes", "write", "read")
_OPTIONAL = ("shows", "writes", "preview", "thumbnail", "file_name")


def _own_names() -> list[str]:
    return [name for home in _HOMES for name in home.names] + [PICKLE]


def asks_others(name: str | None) -> bool:
    """Whether code of other packages sees what is kept in a format, or in whichever takes it."""
    if name is not None:
        return name not in _own_names()
    return bool(_REGISTERED or _brought_along())


@lru_cache(maxsize=1)
def _brought_along() -> dict[str, Format]:
    """Return the formats of other packages, by name; one that cannot be loaded costs a warning."""
    found: dict[str, Format] = {}
    for point in entry_points(group=GROUP):
        try:
            format = _as_format(point.load())
            found[format.name] = format
        except Exception as error:  # a package of somebody else's may fail in any way
            warn_user(StoreWarning(f"The format {point.name!r} of {point.value} cannot be used: "
                                   f"{type(error).__name__}: {error}"))  # fmt: skip
    return found


def _of(home: _FormatModule) -> Iterator[Format]:
    formats: tuple[Format, ...] = import_module(f"daskperiment.formats.{home.module}").FORMATS
    return (each for each in formats if each.name in home.names)


@lru_cache(maxsize=64)
def _own(name: str) -> Format | None:
    home = next((home for home in _HOMES if name in home.names), None)
    return None if home is None else next(each for each in _of(home) if each.name == name)


def format_named(name: str) -> Format:
    """Return the format of a name.

    Raises
    ------
    UnknownFormatError
        If there is none; pickle is no format.
    """
    found = _REGISTERED.get(name) or _own(name) or _brought_along().get(name)
    if found is None:
        raise UnknownFormatError(
            f"There is no format {name!r}{nearest(name, known_names())}; there are "
            f"{', '.join(known_names())}. If it is one of your own, call "
            "daskperiment.formats.register() before, in each process that loads such values."
        )
    return found


def known_names() -> list[str]:
    """Return the names of all formats, pickle included."""
    return list(dict.fromkeys([*_own_names(), *_REGISTERED, *_brought_along()]))


def check_format_name(name: Any) -> str | None:
    """Return what was given as the name of a format, or None.

    Raises
    ------
    TypeError
        If it is no text.
    UnknownFormatError
        If no format has that name.
    """
    if name is None or name == PICKLE:
        return None if name is None else PICKLE
    if not isinstance(name, str):
        raise TypeError(
            f"format is {shorten(repr(name), 60)}; expected the name of one, such as 'npy', or None"
        )
    return format_named(name).name


def _candidates(value: Any) -> Iterator[Format]:
    """Yield the formats that may take a value, in order."""
    yield from list(_REGISTERED.values())
    yield from _brought_along().values()
    packages = top_modules(value)
    for home in _HOMES:
        if not home.packages or home.packages & packages:
            yield from _of(home)


def written_for_output(value: Any) -> Written | None:
    """Return what a step returned as a file that gives it back exactly, and fast enough.

    None if no format does: then it is pickled. Formats of others count as fast enough.
    """
    for each in _candidates(value):
        if each.suits_outputs(value) or each.name not in _own_names():
            found = _exactly(each, value)
            if found is not None:
                return found
    return None


def written_for_artifact(value: Any) -> Written | None:
    """Return a value as a file that gives it back exactly, else as one that shows it.

    None if no format does either.

    Raises
    ------
    InputFileError
        If it is the path of something that is not there.
    """
    candidates = list(_candidates(value))
    if isinstance(value, Path):
        return _content_of(value)
    for each in candidates:
        found = _exactly(each, value)
        if found is not None:
            return found
    for each in candidates:
        with suppress(Exception):  # what cannot be shown in one way may be in another
            if each.shows(value):
                return file_of(each, value)
    return None


def preview_beside(value: Any) -> Preview | None:
    """Return what is shown of a table of pandas that is pickled, as where there is no Arrow."""
    with suppress(Exception):  # what cannot be shown is kept all the same
        return format_named("parquet").preview(value) if "pandas" in top_modules(value) else None
    return None


def _content_of(path: Path) -> Written:
    """Return the file or folder that a path leads to: that is meant, and not the path."""
    for name in ("file", "folder"):
        format = format_named(name)
        if format.shows(path):
            return file_of(format, path)
    raise InputFileError(
        f"There is no file or folder {str(path)!r} to be kept. Write it first; to keep the path "
        "itself, give it as text."
    )


def _exactly(format: Format, value: Any) -> Written | None:
    try:
        if not format.takes(value):
            return None
        found = file_of(format, value)
        return found if format.is_exact(value) or _comes_back(found, value) else None
    except Exception:  # a value of whatever class: pickle may do
        return None


def _comes_back(file: Written, value: Any) -> bool:
    back = file.format.read(joined(file.parts))
    return type(back) is type(value) and exact_fingerprint(back) == exact_fingerprint(value)


def written_as(name: str, value: Any) -> Written:
    """Return a value as a file of the format that was asked for.

    Raises
    ------
    UnknownFormatError
        If there is no such format.
    FormatError
        If it does not take the value.
    """
    format = format_named(name)
    try:
        if format.writes(value):
            return file_of(format, value)
        reason = "it does not take such values"
    except Exception as error:  # of a library, or of the user's class
        raise FormatError(_unfit(name, value, f"{type(error).__name__}: {error}")) from error
    raise FormatError(_unfit(name, value, reason))


def _unfit(name: str, value: Any, reason: str) -> str:
    fitting = []
    for each in _candidates(value):
        with suppress(Exception):  # it is only for the message
            if each.writes(value):
                fitting.append(each.name)
    others = ", ".join(map(repr, [*fitting, PICKLE]))
    return (
        f"A value of type {type(value).__name__} cannot be kept as {name!r}: {reason}. Formats "
        f"that take it: {others}; without format= one is chosen."
    )


def file_of(format: Format, value: Any) -> Written:
    """Return a value as a file of a format."""
    parts: Buffer | list[Buffer] = format.write(value)
    return Written(format, list(parts) if isinstance(parts, list | tuple) else [parts])
