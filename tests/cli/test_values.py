"""Values given as text."""

from __future__ import annotations

from typing import Any

import pytest

from daskperiment.cli.command_options import assignments, duration, literal, spaces
from daskperiment.cli.exit_status import Refused


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-2.5", -2.5), ("1e-3", 1e-3), ("True", True), ("None", None), ("'1'", "1"),
        ("[1, 2]", [1, 2]), ("{'a': (1,)}", {"a": (1,)}), ("x", "x"), ("", ""), ("true", True),
        ("a=b", "a=b"), ("1if", "1if"), ("0777", "0777"), ("__import__('os')", "__import__('os')"),
        ("(" * 300, "(" * 300), ("[red]", ["red"]), ("1+1", "1+1"),
    ],
)  # fmt: skip
def test_value_is_a_literal_or_text(text: str, value: Any) -> None:
    """What is a literal of Python or YAML is that, all else is text; nothing is evaluated."""
    found = literal(text)
    assert (found, type(found)) == (value, type(value))


def test_assignments_keep_order_and_later_equal_signs() -> None:
    """The first = divides name and value."""
    assert list(assignments(["b=1", "a=x=y", "c="]).items()) == [("b", 1), ("a", "x=y"), ("c", "")]


@pytest.mark.parametrize("given", [["a"], ["=1"], ["a=1", "a=2"]])
def test_what_is_no_assignment_is_refused(given: list[str]) -> None:
    """Without a name or a = there is no value, and a name has one value."""
    with pytest.raises(Refused, match=r"expected NAME=VALUE|twice"):
        assignments(given)


def test_spaces_are_divided_at_outer_commas() -> None:
    """Commas in brackets and quotes belong to a value."""
    given = ["lr=0.1, 0.2", "l=[1,2],(3,)", "s='a,b',c"]
    assert spaces(given) == {"lr": [0.1, 0.2], "l": [[1, 2], (3,)], "s": ["a,b", "c"]}


@pytest.mark.parametrize(("text", "seconds"), [("1.5h", 5400), ("2 w", 1209600), ("7", 7)])
def test_durations(text: str, seconds: float) -> None:
    """A duration is a number and a unit; without one it is in seconds."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1y", "-1d", "1d1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """The message says what is expected."""
    with pytest.raises(Refused, match="30d"):
        duration(text)
