"""The language of conditions: what it can say, and that it can do nothing else."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskperiment.cli.filters import Condition, ConditionError

ROW: dict[str, Any] = {
    "lr": 0.1,
    "n": 3,
    "opt": "adam",
    "on": True,
    "nothing": None,
    "nan": float("nan"),
    "na": pd.NA,
    "nat": pd.NaT,
    "layers": [8, 4],
    "Success": True,
    "Process Time": pd.Timedelta(seconds=90),
    "Finished": pd.Timestamp("2026-03-01 12:00", tz="UTC"),
    "a b": "c d",
}


def holds(text: str) -> bool:
    return Condition(text, list(ROW))(ROW)


@pytest.mark.parametrize(
    "text",
    [
        "lr > 0.05 and Success",
        "not (lr > 0.5)",
        "0 < lr <= 0.1 < n",
        "n != -3",
        "opt == 'adam'",
        'opt in ("sgd", "adam")',
        "opt not in ['sgd']",
        "'ada' in opt",
        "8 in layers",
        "nothing is None",
        "lr is not None",
        "on == True",
        "Success",
        "`Process Time` > 60",
        "'Process Time' > 60",
        '60 < "Process Time"',
        "Finished > '2026-02-01'",
        "'2026-04-01T00:00+00:00' > Finished",
        "`a b` == 'c d'",
        " lr > 0 ",
        "not nan > 0 and not nan <= 0",
        "not na == 1 and not na",
        "not nat < 5",
        "not opt > 3",
        "(lr > 0\n and n == 3)",
        "'`x`' != opt",
    ],
)
def test_condition_holds(text: str) -> None:
    """Comparisons, their combinations, names in backticks or quotes, times and durations."""
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    ["lr > 0.1", "not Success", "opt in ()", "nan == nan", "na", "nat", "opt < 3",
     "Finished > 'no date'", "layers > 3", "nothing", "'a b' == 'x'"],
)  # fmt: skip
def test_condition_does_not_hold(text: str) -> None:
    """What is false, missing or cannot be compared does not hold, and is no error."""
    assert not holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "lr.__class__",
        "opt.upper() == 'ADAM'",
        "layers[0]",
        "lr + 1 > 0",
        "10 ** 10 ** 10 > 1",
        "lambda: 1",
        "[x for x in layers]",
        "f'{lr}'",
        "(lr := 1)",
        "1 if on else 2",
        "{'a': 1}",
        "b'x' == opt",
        "...",
        "*lr,",
        "lr >",
        "",
        "lr = 1",
        "lr > 1; lr",
        "import os",
        "(" * 500 + "lr" + ")" * 500,
        "not " * 490 + "lr",
        "-" * 1500 + "1",
        "lr" + " " * 3000,
        "lr \x00",
        "`lr",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    """Calls, attributes, arithmetic and everything else of Python is refused, not run."""
    with pytest.raises(ConditionError):
        Condition(text, list(ROW))


def test_unknown_name_is_refused_with_those_that_exist() -> None:
    """A name that is no column is named, and those that are, in the form to be given."""
    with pytest.raises(ConditionError, match=r"'rl'; there are: lr, n, .*`Process Time`"):
        holds("rl > 1")


def test_names_of_python_are_no_columns() -> None:
    """What Python knows by name has no meaning here."""
    with pytest.raises(ConditionError, match="'print'"):
        holds("print")


def test_condition_tells_what_it_uses() -> None:
    """The names that a condition needs are known, so that nothing else is read."""
    assert Condition("lr > 1 and not `a b`", list(ROW)).used == {"lr", "a b"}


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    """No text does anything but mean a condition, or be refused."""
    try:
        assert holds(text) in (True, False)
    except ConditionError:
        pass
