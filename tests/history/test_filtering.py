"""The language of conditions: what it can say, and that it can do nothing else."""

from __future__ import annotations

import ast
import enum
import math
import operator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskperiment.codec.class_values import NamedValue
from daskperiment.errors import FilterError
from daskperiment.history.filtering import Filter
from daskperiment.history.filtering.comparing import Literal, of_columns, sorted_rows, with_literal
from daskperiment.history.filtering.language import no_column, path_of
from daskperiment.history.stored_values import MISSING
from daskperiment.history.table_columns import CodedColumn, NumberColumn, column_of, joined

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
    "file": "f\udcff",
    "\udcfe": 1,
}


class OneRow:
    """A table of one row, with what is above."""

    names = tuple(ROW)

    def __len__(self) -> int:
        return 1

    def column(self, path: tuple[str, ...]) -> Any:
        if path[0] not in ROW:
            raise no_column(path, self.names)
        if path[0] == "Process Time":
            return NumberColumn(np.array([90.0]), None, "duration")
        if path[0] == "Finished":
            return NumberColumn(np.array([ROW["Finished"].timestamp()]), None, "moment")
        return column_of([ROW[path[0]]])


def holds(text: str) -> bool:
    (found,) = Filter(text).rows(OneRow())
    return bool(found)


@pytest.mark.parametrize(
    "text",
    [
        "lr > 0.05 and Success",
        "not (lr > 0.5)",
        "0 < lr <= 0.1 < n",
        "n != -3",
        "opt == 'adam'",
        "file == 'f\udcff' and not file == 'f\udcfe' and contains(file, '\udcff')",
        "`\udcfe` == 1",
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
        "contains(opt, 'da')",
        "opt.startswith('ad')",
        "endswith(`a b`, 'd')",
        "`Process Time` == '1.5 min'",
        "'2 min' > `Process Time` >= '90s'",
        "`Process Time` in ('90 s', 3)",
        "n in (1, 3.0) and n in [True, 3]",
        "lr == lr and n > lr",
        "not nothing is not None",
        "True and not False",
    ],
)
def test_condition_holds(text: str) -> None:
    """Comparisons, their combinations, names in backticks or quotes, times and durations."""
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    ["lr > 0.1", "not Success", "opt in ()", "nan == nan", "na", "nat", "opt < 3",
     "contains(opt, 'x')", "startswith(lr, '0')", "layers > 3", "nothing", "'a b' == 'x'"],
)  # fmt: skip
def test_condition_does_not_hold(text: str) -> None:
    """What is false, missing or cannot be compared does not hold, and is no error."""
    assert not holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "opt.upper() == 'ADAM'",
        "contains(opt)",
        "contains(opt, 3)",
        "contains('adam', 'a')",
        "contains(opt, text='a')",
        "eval('1')",
        "Finished > 'no date'",
        "`Process Time` > 'long'",
        "`Process Time` > '1 parsec'",
        "3",
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
        "lr \ud800 3",
        "`lr",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    """Calls, attributes, arithmetic and everything else of Python is refused, not run."""
    with pytest.raises(FilterError):
        holds(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("(" * 500 + "lr" + ")" * 500, "nested|parenthes"),
        ("lr == " + "9" * 5000, "4300|integer|character"),
        ("lr == 'x\x00'", "null"),
        ("lr == \ud800", "unexpected character|syntax"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, told: str) -> None:
    """The reason is the one that there is, and no other."""
    with pytest.raises(FilterError, match=told):
        holds(text)


def test_unknown_name_is_refused_with_those_that_exist() -> None:
    """A name that is no column is named, and those that are, in the form to be given."""
    with pytest.raises(FilterError, match=r"'rl'.*there are: lr, n, .*`Process Time`"):
        holds("rl > 1")


def test_names_of_python_are_no_columns() -> None:
    """What Python knows by name has no meaning here."""
    with pytest.raises(FilterError, match="'print'"):
        holds("print")


class Kind(enum.Enum):
    """Of text and numbers."""

    A = "a"
    B = 2


class Access(enum.Flag):
    """Several at once."""

    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    """Numbers."""

    LOW = 1


class Shade(enum.StrEnum):
    """Texts."""

    RED = "red"


PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(Kind.A, f"x == {said!r}") for said in ("A", "a", "Kind.A")],
        (Kind.A, "x in ('A', 'B') and x != 'B' and not x != 'A' and contains(x, 'Kind')"),
        (Kind.B, "x == 'B' and x == 2 and x > 1 and x in (1, 2)"),
        (Access.READ | Access.WRITE, "x == 'READ|WRITE' and x == 'Access.READ|WRITE' and x == 3"),
        (Access(0), "x == 0 and x != 'READ'"),
        (Level.LOW, "x == 1 and x < 2 and x == 'LOW' and x == 'Level.LOW'"),
        (Shade.RED, "x == 'red' and x == 'RED' and x == 'Shade.RED' and 're' in x"),
        (NamedValue("gone", "Kind", "A"), "x == 'A' and x == 'Kind.A' and x != 'B'"),
        (Path("data/x.csv"), "x == 'data/x.csv' and x == 'data//x.csv' and x < 'data/y.csv'"),
        (PureWindowsPath("a/b"), "x == 'a/b' and endswith(x, 'b')"),
        (Path("data/x.csv"), "endswith(x, '.csv') and 'x.c' in x and x not in ('a', 'b')"),
        (UUID(int=5), f"x == '{UUID(int=5)}' and x == '{UUID(int=5).hex}' and '0005' in x"),
        (ZoneInfo("UTC"), "x == 'UTC' and startswith(x, 'U')"),
        (date(2026, 1, 2), "x == '2026-01-02' and '2026-01-01' < x and startswith(x, '2026-01')"),
        (datetime(2026, 1, 2, 3), "x > '2026-01-02' and x <= '2026-01-02T03:00'"),
        (datetime(2026, 1, 2, 3), "contains(x, '02 03:00') and endswith(x, ':00:00')"),
        (datetime(2026, 1, 2, 0, 30, tzinfo=PARIS), "x < '2026-01-02' and x > '2026-01-01T23:00'"),
        (time(9, 30), "x < '10:00' and x == '09:30' and x in ('09:30:00',)"),
        (timedelta(minutes=2), "x > 60 and x == '2 min' and x < '1h'"),
        (Decimal("0.1"), "x == 0.1 and x < 0.2 and x in (0.1, 0.2) and x > 0"),
        (Fraction(1, 10), "x == 0.1 and x <= 0.1"),
        (np.float32(0.1), "x == 0.1 and x <= 0.1 and 0.1 == x and x in (0.1,)"),
        (np.int8(3), "x == 3 and x == 3.0 and x < 3.5"),
        ((8, 4), "x == (8, 4) and 8 in x"),
    ],
)  # fmt: skip
def test_value_is_said_as_it_shows(value: Any, text: str) -> None:
    """Members by name or value, paths, dates and the like as text, exact numbers as numbers."""

    class Table:
        names = ("x",)

        def __len__(self) -> int:
            return 1

        def column(self, path: tuple[str, ...]) -> Any:
            return column_of([value])

    assert Filter(text).rows(Table()).tolist() == [True]
    assert Filter(f"not ({text})").rows(Table()).tolist() == [False]
    assert Filter("x == 'something else'").rows(Table()).tolist() == [False]


@pytest.mark.parametrize(
    "in_order",
    [
        [date(2026, 2, 1), date(2026, 10, 1)],
        [time(9), time(10)],
        [Decimal(9), 9.5, Decimal(10), Fraction(21, 2)],
        [Kind.B, Kind.A],
        [Path("a"), "b", Path("c")],
        [np.float32(2), 3, np.int8(10)],
        [date(2026, 1, 1), datetime(2026, 1, 1, 12), date(2026, 1, 2)],
        [timedelta(seconds=2), 3, timedelta(minutes=1)],
        [1, Decimal("nan")],
        [1, Decimal("sNaN")],
    ],
)
def test_order_is_that_of_what_values_mean(in_order: list[Any]) -> None:
    """Dates, times and exact numbers stand in their own order, not in that of their letters."""
    for values in (in_order, in_order[::-1]):
        rows = sorted_rows(column_of(values), False).tolist()
        found = [values[row] for row in rows]
        assert all(one is other for one, other in zip(found, in_order, strict=True))


def test_filter_tells_what_it_uses() -> None:
    """The paths that a filter needs are known, so that nothing else is read."""
    assert Filter("lr > 1 and not `a b`.c").paths == {("lr",), ("a b", "c")}


def test_no_text() -> None:
    """What is no text at all is refused with what was given."""
    with pytest.raises(FilterError, match=r"got 3 \(int\)"):
        Filter(3)  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    """No text does anything but mean a condition, or be refused."""
    try:
        assert holds(text) in (True, False)
    except FilterError:
        pass


VALUES = [
    [3, 1, 2], [1.5, float("nan"), -2.0], [True, False, True], ["b", "a", "b"], [MISSING, 2, 1],
    [MISSING, MISSING], [None, "x", 3, 2.5, True], [2**70, 1, -(2**70)], [1, 1.0, True],
    [{"a": 1}, {"a": 1}, {"b": 2}], [[1, 2], [1, 2]], [],
    [math.inf, -math.inf, "z", math.nan, -0.0, 0.0], [[math.inf], [-math.inf], [None]],
]  # fmt: skip


@pytest.mark.parametrize("values", VALUES, ids=repr)
def test_column_gives_back_what_it_was_made_of(values: list[Any]) -> None:
    """A column has each row's own value and type, also after taking rows and joining."""
    column = column_of(values)
    assert list(map(repr, column.to_list())) == list(map(repr, values))
    rows = np.arange(len(values))[::-1]
    assert list(map(repr, column.take(rows).to_list())) == list(map(repr, values[::-1]))
    for others in VALUES:
        both = joined([column, column_of(others)])
        assert list(map(repr, both.to_list())) == list(map(repr, [*values, *others]))
    assert list(map(repr, column.coded().to_list())) == list(map(repr, values))


@given(
    st.lists(st.one_of(st.just(MISSING), st.integers(-5, 5), st.floats(), st.sampled_from("ab")))
)
def test_sorting(values: list[Any]) -> None:
    """Numbers come first, then texts, then what is missing; equal values stay in their order."""
    for column in (column_of(values), column_of([*values, "z"]).take(np.arange(len(values)))):
        for down in (False, True):
            found = [values[row] for row in sorted_rows(column, down).tolist()]
            known = [v for v in found if v is not MISSING and v == v]
            numbers = [v for v in known if not isinstance(v, str)]
            texts = [v for v in known if isinstance(v, str)]
            assert numbers == sorted(numbers, reverse=down)
            assert texts == sorted(texts, reverse=down)
            assert known == (texts + numbers if down else numbers + texts)
            assert len(found) == len(values)
    twice = column_of([1, 1, 0, 1])
    assert sorted_rows(twice, True).tolist() == [0, 1, 3, 2]
    assert sorted_rows(CodedColumn(np.array([0, 1, 0]), ["a", "a"]), True).tolist() == [0, 1, 2]


_NUMBERS: list[Any] = [
    2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**60 + 1, 2**63 - 1, -(2**63), 2**63, 10**400, 0, 3,
    2.0**53, -(2.0**53), 2.0**60, 2.0**63, 3.0, 0.5, 1e308, math.inf, True,
]  # fmt: skip
_OPERATIONS = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(_NUMBERS), st.sampled_from(_NUMBERS)), min_size=1),
    st.sampled_from([*_OPERATIONS]),
)
def test_numbers_are_not_rounded_to_be_compared(pairs: list[Any], op: type[ast.cmpop]) -> None:
    """Columns and literals stand to each other as the numbers do, integers beside floats, too."""
    one, other = ([*each] for each in zip(*pairs, strict=True))
    for kind in (int, float, object):  # an array of numbers, and values of any kind
        first = [number for number in one if kind is object or type(number) is kind]
        for literal in _NUMBERS:
            wanted = [_OPERATIONS[op](number, literal) for number in first]
            found = with_literal(op, column_of(first), Literal(literal, repr(literal)))
            assert found.tolist() == wanted, (first, literal)
        second = other[: len(first)]
        finite = [number if abs(number) < 1e308 else 0 for number in second]
        for some in (second, [*map(int, finite)], [*map(float, finite)]):
            wanted = [_OPERATIONS[op](one, two) for one, two in zip(first, some, strict=True)]
            found = of_columns(op, column_of(first), column_of(some))
            assert found.tolist() == wanted, (first, some)


def test_numbers_that_are_no_floats() -> None:
    """A fraction beyond all floats is compared and sorted as what it is."""
    values: list[Any] = [
        Fraction(10**400),
        1.5,
        Fraction(1, 3),
        -math.inf,
        Fraction(-(10**401)),
        math.inf,
    ]
    column = column_of(values)
    assert sorted_rows(column, False).tolist() == [3, 4, 2, 1, 0, 5]
    found = with_literal(ast.Gt, column, Literal(1.0, "1.0"))
    assert found.tolist() == [True, True, False, False, False, True]


def test_used_values() -> None:
    """The values that some row has are known, in the order of the rows."""
    column = joined([column_of(["a", "b", 1]), column_of(["c", MISSING, "a"])])
    assert column.coded().used() == ["a", "b", 1, "c"]
    assert column.take(np.array([4, 5, 1])).coded().used() == ["a", "b"]
    assert column.take(np.array([], int)).coded().used() == []


def test_paths() -> None:
    """A path has dots between its parts; parts with dots and other signs stand in backticks."""
    assert path_of("Result.f1", ()) == ("Result", "f1")
    assert path_of("opt.lr", ("opt.lr",)) == ("opt.lr",)
    assert path_of("metrics.`val/loss.x`.min", ()) == ("metrics", "val/loss.x", "min")
    for text in ("", "  ", ".", "Result.", ".f1", "Result..f1", "Result. .f1", "a`b`", "`a``b`"):
        with pytest.raises(FilterError, match="Expected the name of a column"):
            path_of(text, ())


@pytest.mark.parametrize("few", [2, 150])
def test_joined_columns(few: int) -> None:
    """Columns below one another have all values; where these are few, each stands once."""
    kinds = [1, 1.0, True, "1", None, [1], {"a": 1}, MISSING]
    parts = [[*kinds, *map(str, range(few))], ["1", MISSING, 1], [MISSING] * 3, [*kinds[::-1]]]
    column = joined([column_of(part).coded() for part in parts])
    every = [value for part in parts for value in part]
    assert [(type(one), one) for one in column.to_list()] == [(type(one), one) for one in every]
    assert isinstance(column, CodedColumn)
    assert (column.count == len(kinds) - 1 + few - 1) is (few == 2)
    same = joined([column_of(["a", "a"]), column_of(["a"])])
    assert isinstance(same, CodedColumn)
    assert (same.codes.strides, same.to_list()) == ((0,), ["a"] * 3)
    assert joined([column_of([MISSING]), column_of([MISSING] * 2)]).to_list() == [MISSING] * 3
