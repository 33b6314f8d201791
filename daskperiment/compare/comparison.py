"""The differences of two trials, as people see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from daskperiment.compare.layout import as_html, as_text
from daskperiment.compare.parts import ABSENT, Differences, Pair
from daskperiment.compare.wording import explanation
from daskperiment.history.stored_values import StoredObject

__all__ = ["Comparison"]


@dataclass(frozen=True, repr=False)
class Comparison(Differences):
    """Two trials side by side: what differs, where it began and what explains it.

    Printed, it is a text that fits a terminal; in a notebook it shows as HTML. The attributes
    hold the same as data.

    Attributes
    ----------
    differs : bool
        Whether anything is known to differ, in what went in or in what came out.
    identical : bool
        Whether the results and the outputs of every step were checked and are equal. What could
        not be checked, such as a value without fingerprint, makes it False.
    unverified : tuple of str
        What could not be checked, a line each.
    explanation : str
        Where the trials part first and why, in a few sentences.
    first_difference : StepComparison or None
        The first step in graph order that ended otherwise, with the changes that reach it.
    """

    @property
    def explanation(self) -> str:
        """Where the trials part first and why, in a few sentences."""
        return explanation(self)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as dicts, lists and the plain values that the trials recorded.

        Two values side by side are a dict with the keys ``first`` and ``second``; a key is left
        out for a trial that does not have the value.
        """
        told = {"differs": self.differs, "identical": self.identical}
        return {**told, "explanation": self.explanation, **_plain(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Pair):
        pair = value._asdict().items()
        return {name: _plain(item) for name, item in pair if item is not ABSENT}
    if isinstance(value, StoredObject):
        return {name: getattr(value, name) for name in ("type", "repr", "size", "reason")}
    if is_dataclass(value):
        return {field.name: _listed(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _listed(value: Any) -> Any:
    """Turn our own tuples into lists; those among the recorded values stay what they are."""
    return list(map(_plain, value)) if type(value) is tuple else _plain(value)
