"""Parts of parameters: what a step takes of a configuration.

An item or an attribute of a parameter is known before anything runs, as the parameter is. So a
step that takes ``cfg["data"]`` depends on that part of ``cfg`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import getitem
from typing import Any, NamedTuple

from daskperiment.capture.encoding import NoFingerprintError
from daskperiment.capture.files import FileSource, source_of
from daskperiment.capture.secret_key import part_of
from daskperiment.secret_values import Secret

__all__ = ["ParameterField", "field_of", "source_in"]

_TAKING = {getitem: "item", getattr: "attribute"}


class ParameterField(NamedTuple):
    """A parameter, or a part of one: an item, an attribute, or one of these of a part."""

    name: str
    """The parameter's."""
    path: tuple[str | int, ...] = ()
    """By turns ``item`` or ``attribute``, and which one it is."""

    def taken_from(self, values: Mapping[str, Any]) -> Any:
        """Return the part of a parameter's value.

        Whatever taking it raises is raised: KeyError, AttributeError, or an error of the user's
        own class. A part of a secret is one, too.
        """
        whole = values[self.name]
        if type(whole) is Secret:
            return part_of(whole, self._of(whole.value)) if self.path else whole
        return self._of(whole)

    def _of(self, value: Any) -> Any:
        for kind, key in zip(self.path[::2], self.path[1::2], strict=True):
            value = value[key] if kind == "item" else getattr(value, str(key))
        return value

    def __str__(self) -> str:
        pairs = zip(self.path[::2], self.path[1::2], strict=True)
        steps = [f"[{key!r}]" if kind == "item" else f".{key}" for kind, key in pairs]
        return "".join([self.name, *steps])


def field_of(
    function: Any, arguments: Sequence[Any], whole: ParameterField | None
) -> ParameterField | None:
    """Return the part of a parameter that a task takes; None if it does something else.

    Parameters
    ----------
    function, arguments
        Of the task; what it takes a part of is the first argument.
    whole : ParameterField, optional
        What the first argument stands for.
    """
    try:
        kind = _TAKING.get(function)
    except TypeError:  # a callable without a hash
        return None
    if whole is None or kind is None or len(arguments) != 2:
        return None
    key = arguments[1]
    return ParameterField(whole.name, (*whole.path, kind, key)) if type(key) in (str, int) else None


def source_in(source: FileSource | ParameterField, values: Mapping[str, Any]) -> FileSource:
    """Return what files a part of a parameter names; NoFingerprintError if nobody knows."""
    if isinstance(source, FileSource):
        return source
    if type(values.get(source.name)) is Secret:
        raise NoFingerprintError(f"which file it is tells the secret parameter {source.name}")
    if source.name not in values:
        raise NoFingerprintError("which file it is turns out only when a step before it has run")
    try:
        return source_of(source.taken_from(values))
    except Exception as error:  # the trial raises it, where the user sees it
        raise NoFingerprintError(str(error)) from None
