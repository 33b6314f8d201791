"""Fields of a value that is an object, recorded beside it so that it need not be loaded."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest

from daskperiment.codec import from_plain, named_parts


class Kind(enum.Enum):
    """Not plain in a dict."""

    A = "a"


@dataclasses.dataclass
class Scores:
    """As steps return them."""

    curve: Any
    f1: float
    hidden: str = dataclasses.field(default="x", repr=False)


class Pair(NamedTuple):
    """As steps return them."""

    table: Any
    n: int


class Odd(dict[str, Any]):
    """A dict that has a way of its own to give its items."""

    def items(self) -> Any:
        raise AssertionError


MATRIX = np.eye(2)
LONG = list(range(5000))


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"f1": 0.5, "matrix": MATRIX}, {"f1": 0.5}),
        ({"matrix": MATRIX, "f1": 0.5, "best": None}, {"f1": 0.5, "best": None}),
        (
            {"kind": Kind.A, "n": 3, "tags": ("a", "b")},
            {"kind": Kind.A, "n": 3, "tags": ("a", "b")},
        ),
        ({"curve": LONG, "f1": 0.5}, {"f1": 0.5}),
        ({"text": "x" * 5000, "f1": 0.5}, {"f1": 0.5}),
        ({"deep": {"curve": LONG, "last": 1}, "f1": 0.5}, {"deep": {"last": 1}, "f1": 0.5}),
        ({"deep": {"m": MATRIX, "last": 1}, "m": {"m": MATRIX}}, {"deep": {"last": 1}}),
        ({1: "a", "f1": 0.5, "m": MATRIX, "$": 2, ("a",): 3}, {"f1": 0.5}),
        ({"by": {1: "a", 2: "b"}, "m": MATRIX}, {"by": {1: "a", 2: "b"}}),
        (OrderedDict(f1=0.5, m=MATRIX), {"f1": 0.5}),
        (defaultdict(int, f1=0.5), {"f1": 0.5}),
        (Odd(f1=0.5), {"f1": 0.5}),
        (Scores(LONG, 0.5), {"f1": 0.5}),
        (Scores(MATRIX, 0.5), {"f1": 0.5}),
        (Scores(Scores(MATRIX, 0.2), 0.5), {"curve": {"f1": 0.2}, "f1": 0.5}),
        (Scores({"m": MATRIX, "loss": 1.0}, 0.5), {"curve": {"loss": 1.0}, "f1": 0.5}),
        (Pair(MATRIX, 3), {"n": 3}),
        (MATRIX, {}),
        ([1, MATRIX], {}),
        ({f"k{n}": n for n in range(10**5)}, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_short_plain_fields_are_recorded(value: Any, parts: dict[str, Any] | None) -> None:
    """Numbers stand beside an object whatever stands before or beside them in the value."""
    found = {name: from_plain(form) for name, form in named_parts(value).items()}
    assert len(repr(found)) < 8000
    if parts is None:
        assert found.items() <= value.items()
        assert len(found) > 100
    else:
        assert found == parts
        assert list(map(type, found.values())) == list(map(type, parts.values()))


def test_value_within_itself_ends() -> None:
    """A dict that holds itself gives what is plain in it, some levels deep."""
    value: dict[str, Any] = {"f1": 0.5}
    value["self"] = value
    found = named_parts(value)
    assert found["f1"] == 0.5
    assert found["self"]["f1"] == 0.5
