"""The table of trials: filters, orders, pages, columns and cells."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from daskperiment.dashboard import table
from daskperiment.dashboard.cells import cell, sort_key
from daskperiment.dashboard.query import Query, differing
from daskperiment.dashboard.table import TrialTable
from daskperiment.errors import FilterError
from daskperiment.history.stored_values import MISSING
from tests.dashboard.stores import shown


@pytest.fixture
def trial_table(lab):
    """Make five trials that differ in many ways, the last of them running."""
    lab.run(0.5, lr=0.1, kind="rbf", same=1)
    lab.run(0.7, lr=0.2, kind="Poly kernel", same=1)
    lab.fail(lab.begin({"lr": 0.3, "kind": "rbf", "same": 1}), ValueError("diverged: overflow"))
    lab.run(math.nan, lr=10, kind="linear", same=1)
    lab.begin({"lr": 0.05, "same": 1})
    return TrialTable(lab.store)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("lr>0.15", [4, 3, 2]),
        ("lr >= 0.2 rbf", [3]),
        ("'lr >= 0.2'", [4, 3, 2]),
        ("lr<=0.1 status=succeeded", [1]),
        ("kind=RBF", [3, 1]),
        ("kind!=rbf", [5, 4, 2]),
        ("kind~poly", [2]),
        ("'kind=Poly kernel'", [2]),
        ("OVERFLOW", [3]),
        ("rbf overflow", [3]),
        ("result>0.6", [2]),
        ("Trial<3", [2, 1]),
        ("status=running", [5]),
        ("kind>q", [3, 1]),
        ("lr>abc", []),
        ("nothing", []),
    ],
)
def test_filters(trial_table, text, found):
    """Terms compare columns, words stand anywhere, and all must hold."""
    assert shown(trial_table, text) == found


@pytest.mark.parametrize("text", ["learning>3", "'open", "__import__('os').system('x')=1"])
def test_filters_that_say_what_is_wrong(trial_table, text):
    """An unknown column or an open quote is refused in words, and nothing is evaluated."""
    with pytest.raises(FilterError, match=r"no column|open quote"):
        shown(trial_table, text)


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("trial", [1, 2, 3, 4, 5]),
        ("p:lr", [5, 1, 2, 3, 4]),
        ("-p:lr", [4, 3, 2, 1, 5]),
        ("result", [1, 2, 4, 3, 5]),
        ("-result", [4, 2, 1, 5, 3]),
        ("p:kind", [4, 2, 1, 3, 5]),
        ("nonsense", [1, 2, 3, 4, 5]),
    ],
)
def test_orders(trial_table, sort, found):
    """Numbers order by value, texts without regard to case, and what is missing comes last."""
    assert shown(trial_table, sort=sort) == found


def test_statuses(trial_table):
    """Trials can be chosen by status, and all statuses are counted."""
    assert shown(trial_table, statuses=["failed", "running"]) == [5, 3]
    page = trial_table.page(Query(), 0, 10)
    assert page["counts"] == {"succeeded": 3, "failed": 1, "running": 1}


def test_pages(lab):
    """A page begins where a page can begin, also when it lies behind the end."""
    for number in range(25):
        lab.run(number)
    trial_table = TrialTable(lab.store)
    trial_table.refresh()
    page = trial_table.page(Query(descending=False), 10, 10)
    assert [row["trial"] for row in page["rows"]] == list(range(11, 21))
    assert (page["found"], page["total"], page["start"]) == (25, 25, 10)
    assert trial_table.page(Query(descending=False), 900, 10)["start"] == 20
    assert len(trial_table.page(Query(), -5, 10_000)["rows"]) == 25


def test_columns(trial_table):
    """Parameters say whether they differ among the trials that the filter finds."""
    trial_table.refresh()
    columns = {c["key"]: c for c in trial_table.page(Query(), 0, 50)["columns"]}
    assert [columns[f"p:{n}"]["differs"] for n in ("lr", "kind", "same")] == [True, True, False]
    only = Query.read("trial=1", trial_table.trials.names, [], "")
    found = {c["key"]: c for c in trial_table.page(only, 0, 50)["columns"]}
    assert not found["p:lr"]["differs"]
    assert columns["host"]["hidden"]


def test_differing_looks_at_types(lab):
    """1, 1.0 and True are not the same value of a parameter."""
    for value in (1, 1, 1):
        lab.run(a=value, b=value)
    lab.run(a=1.0, b=1)
    trial_table = TrialTable(lab.store)
    trial_table.refresh()
    assert differing(trial_table.trials.rows(trial_table.trials.ids), trial_table.trials.names) == {
        "a"
    }


def test_last_values_of_metrics(lab):
    """The table has the latest value of each metric, and follows it."""
    trial = lab.begin()
    lab.points(trial, ("loss", 0, 1.0), ("loss", 1, 0.5), ("acc", 0, 0.1))
    trial_table = TrialTable(lab.store)

    def cells():
        trial_table.refresh()
        page = trial_table.page(Query(), 0, 10)
        found = zip(page["columns"], page["rows"][0]["cells"], strict=True)
        return {c["key"]: one[0] for c, one in found if c["group"] == "metric"}

    assert cells() == {"m:loss": "0.5", "m:acc": "0.1"}
    lab.points(trial, ("loss", 2, 0.25))
    assert cells() == {"m:loss": "0.25", "m:acc": "0.1"}


def test_a_view_is_kept_until_something_changes(lab, monkeypatch):
    """The same page asked for again is not filtered and sorted anew."""
    lab.run(1)
    trial_table = TrialTable(lab.store)
    trial_table.refresh()
    looks = []
    monkeypatch.setattr(
        trial_table,
        "_select",
        lambda query, look=trial_table._select: looks.append(1) or look(query),
    )
    trial_table.page(Query(), 0, 10)
    trial_table.refresh()
    trial_table.page(Query(), 0, 10)
    assert len(looks) == 1
    lab.run(2)
    trial_table.refresh()
    trial_table.page(Query(), 0, 10)
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MISSING, ["", "none"]),
        (3, ["3", "number"]),
        (1 / 3, ["0.333333", "number", "0.3333333333333333"]),
        (math.nan, ["nan", "number"]),
        (None, ["None", "flag"]),
        ("a\nb", ["a\\nb", "text", "a\nb"]),
        ((1, "x"), ["(1, 'x')", "value"]),
        (Decimal("0.1"), ["Decimal('0.1')", "number"]),
    ],
)
def test_cells(value, expected):
    """A value is a short text with its kind, and the full text where that is longer."""
    assert cell(value) == expected


def test_any_values_can_be_ordered():
    """Values of all kinds have an order, numbers of any size before texts before the rest."""
    values = ["b", 10**400, (2, 1), True, math.nan, "A", None, -math.inf, np.float64(0.5), 0]
    ordered = sorted(values, key=sort_key)
    assert ordered[:4] == [-math.inf, 0, 0.5, True]
    assert ordered[4] == 10**400
    assert math.isnan(ordered[5])
    assert ordered[6:8] == ["A", "b"]


def test_sorting_by_metrics(lab, monkeypatch):
    """The latest values of a metric give an order that follows them, unless trials are too many."""
    trials = [lab.run(number) for number in range(3)] + [lab.begin()]
    for trial, value in zip(trials[1:], (0.5, 0.1, 0.3), strict=True):
        lab.points(trial, ("loss", 0, 9.0), ("loss", 1, value))
    trial_table = TrialTable(lab.store)
    assert shown(trial_table, sort="m:loss") == [3, 4, 2, 1]
    assert shown(trial_table, sort="-m:loss") == [2, 4, 3, 1]
    lab.points(trials[3], ("loss", 2, 0.01))
    assert shown(trial_table, sort="m:loss") == [4, 3, 2, 1]
    assert shown(trial_table, sort="m:other") == [1, 2, 3, 4]
    monkeypatch.setattr(table, "_MEASURED", 3)
    assert shown(trial_table, sort="m:loss") == [4, 3, 2, 1]
    page = trial_table.page(Query.read("", [], [], ""), 0, 50)
    assert {c["key"]: c["sorts"] for c in page["columns"]}["m:loss"] is False
