"""Whether values fit annotations, and what texts of the command line mean for them."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import numpy as np
import pytest

from daskperiment.configuration.annotations import converted, described, parsed


class Kind(enum.Enum):
    ADAM = "adam"
    TWO = 2


@dataclass
class Layer:
    width: int
    rate: float = 0.5


Rate = NewType("Rate", float)
DAY = datetime.date(2024, 1, 2)

FITS = [
    (1, int, 1), (1, float, 1.0), (True, bool, True), ("a", str, "a"), (None, None, None),
    (1, Any, 1), ("x", object, "x"), (1, float | None, 1.0), (None, float | None, None),
    (1, int | float, 1), (1.5, int | float, 1.5), ("adam", Kind, Kind.ADAM), (2, Kind, Kind.TWO),
    ("ADAM", Kind, Kind.ADAM), (Kind.TWO, Kind, Kind.TWO), ("a", Path, Path("a")),
    (Path("a"), str | Path, Path("a")), ("a", str | Path, "a"), ("cos", Literal["cos", 1], "cos"),
    ([1, 2], list[float], [1.0, 2.0]), ((1, 2), list[int], [1, 2]), ([1, 2], list, [1, 2]),
    ([1, "a"], tuple[float, str], (1.0, "a")), ([1, 2], tuple[int, ...], (1, 2)),
    ([1, 1], set[int], {1}), ([1], Sequence[float], [1.0]),
    ({"a": 1}, dict[str, float], {"a": 1.0}),
    ({"width": 2}, Layer, Layer(2)), (Layer(3), Layer, Layer(3)),
    ([{"width": 2, "rate": 1}], list[Layer], [Layer(2, 1.0)]), ("2024-01-02", datetime.date, DAY),
    (1, Annotated[float, "positive"], 1.0), (1, Rate, 1.0),
    (np.float32(1), np.float64, np.float64(1)), (2, complex, 2 + 0j), (0.5, complex, 0.5 + 0j),
    ("0.10", Decimal, Decimal("0.10")), ("1/3", Fraction, Fraction(1, 3)),
    (str(UUID(int=7)), UUID | None, UUID(int=7)),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint", "expected"), FITS, ids=str)
def test_fits(value, hint, expected):
    """A value that fits comes in the type of its annotation."""
    found = converted(value, hint)
    assert (found, type(found)) == (expected, type(expected))
    if isinstance(found, (list, tuple)):
        assert list(map(type, found)) == list(map(type, expected))


MISFITS = [
    ("much", Decimal, "expected Decimal"), ("7", UUID, "expected UUID"),
    (True, complex, "expected complex"),
    ("a", float, "expected float"), (1.5, int, "expected int"), (True, int, "expected int"),
    (True, float, "expected float"), (1, bool, "expected bool"), (1, str, "expected text"),
    ("a", float | None, "expected float or None"), (None, int, "expected int"),
    ("adamw", Kind, r"expected a member of Kind \(ADAM, TWO\)"),
    ("exp", Literal["cos", "lin"], "expected one of 'cos', 'lin'"),
    (1, Literal[True], "one of True"),
    (["a"], list[int], r"expected list\[int\]"), ("ab", list[str], "expected list"),
    ([1], tuple[int, int], r"tuple\[int, int\]"), (3, Path, "expected Path"),
    ({"a": "b"}, dict[str, int], "expected int"), ({"with": 1}, Layer, "mean 'width'"),
    ({"width": "a"}, Layer, "expected int"), (3, Layer, "expected Layer"),
    (1, datetime.date, "date"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint", "told"), MISFITS, ids=str)
def test_does_not_fit(value, hint, told):
    """What does not fit is refused with what was expected."""
    with pytest.raises(ValueError, match=told):
        converted(value, hint)


TEXTS = [
    ("0.10", Decimal, Decimal("0.10")), ("7", Fraction, Fraction(7)), ("1", complex, 1 + 0j),
    ("1", float, 1.0), ("1e-3", float, 0.001), ("1", int, 1), ("1", str, "1"), ("x=y", str, "x=y"),
    ("true", bool, True), ("False", bool, False), ("none", float | None, None),
    ("null", int | None, None), ("[1, 2]", list[float], [1.0, 2.0]), ("SGD", str, "SGD"),
    ("adam", Kind, Kind.ADAM), ("2", Kind, Kind.TWO), ("a/b", Path, Path("a/b")),
    ("12", Path, Path("12")),
    ("2024-01-02", datetime.date, DAY), ("cos", Literal["cos", "lin"], "cos"), ("3", int | str, 3),
    ("{'width': 2}", Layer, Layer(2)), ("a", int | str, "a"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "hint", "expected"), TEXTS, ids=str)
def test_texts(text, hint, expected):
    """A text of the command line means what its annotation makes of it."""
    found = parsed(text, hint)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "hint"), [("abc", float), ("1.5", int), ("yes", bool), ("1", bool)]
)
def test_texts_that_mean_nothing(text, hint):
    """A text that fits in no way is refused with what was expected."""
    with pytest.raises(ValueError, match=f"expected {described(hint)}"):
        parsed(text, hint)
