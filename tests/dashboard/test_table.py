"""The table of trials: filters, orders, pages, columns and cells."""

from __future__ import annotations

import math
import sys
from collections import Counter
from decimal import Decimal
from types import SimpleNamespace

import pytest

from benchmarks.histories import fill
from daskperiment.codec import encode
from daskperiment.dashboard import table
from daskperiment.dashboard.cells import cell
from daskperiment.dashboard.table import Look, TrialTable
from daskperiment.errors import FilterError
from daskperiment.history.stored_values import MISSING
from daskperiment.records import REMOVED, Curation, Removed, curation_id
from daskperiment.store.file import FileStore
from daskperiment.store.protocol import Owner, Record
from tests.dashboard.stores import FolderLab, shown


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
        ('lr > 0.1 and kind == "rbf"', [3]),
        ("not (lr > 0.1 or Result > 0.6)", [5, 1]),
        ("kind in ('rbf', 'linear') and Status == 'succeeded'", [4, 1]),
        ("anywhere('OVERFLOW')", [3]),
        ("startswith(kind, 'Po')", [2]),
    ],
)
def test_filters(trial_table, text, found):
    """The language of filters, and the old terms and words, of which all must hold."""
    assert shown(trial_table, text) == found


@pytest.mark.parametrize(
    ("text", "became"),
    [
        ("lr > 0.1", ""),
        ("lr>0.15 kind=RBF", "lr > 0.15 and kind == 'rbf'"),
        ("kind~poly overflow", "contains(kind, 'Poly') and anywhere('overflow')"),
        ("Trial<3 duration>=1e3", "`Trial ID` < 3 and `Process Time` >= 1e3"),
        ("kind!=rbf", "not kind == 'rbf'"),
        ("result=inf", "Result == 1e999"),
    ],
)
def test_what_short_terms_became(trial_table, text, became):
    """Old short terms are told in the language, and so told find the same trials."""
    found = shown(trial_table, text)
    page = trial_table.page(Look(text), 0, 50)
    assert page["became"] == became
    assert shown(trial_table, became or text) == found


@pytest.mark.parametrize(
    "text", ["learning>3", "'open", "__import__('os').system('x')=1", "lrr > 1 and lr > 2"]
)
def test_filters_that_say_what_is_wrong(trial_table, text):
    """An unknown column or an open quote is refused in words, and nothing is evaluated."""
    with pytest.raises(FilterError, match=r"no column|open quote|Cannot read|cannot"):
        shown(trial_table, text)


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("Trial ID", [1, 2, 3, 4, 5]),
        ("lr", [5, 1, 2, 3, 4]),
        ("-lr", [4, 3, 2, 1, 5]),
        ("Result", [1, 2, 3, 4, 5]),
        ("-Result", [2, 1, 3, 4, 5]),
        ("kind", [2, 4, 1, 3, 5]),
        ("trial", [1, 2, 3, 4, 5]),
        ("-p:lr", [4, 3, 2, 1, 5]),
        ("-result", [2, 1, 3, 4, 5]),
        ("nonsense", [1, 2, 3, 4, 5]),
    ],
)
def test_orders(trial_table, sort, found):
    """Numbers order by value, texts by letter, missing and nan come last; old names hold."""
    assert shown(trial_table, sort=sort) == found


def test_statuses(trial_table):
    """Trials can be chosen by status, and all statuses are counted."""
    assert shown(trial_table, statuses=["failed", "running"]) == [5, 3]
    page = trial_table.page(Look(), 0, 10)
    assert page["counts"] == {"succeeded": 3, "failed": 1, "running": 1}


def test_pages(lab):
    """A page begins where a page can begin, also when it lies behind the end."""
    for number in range(25):
        lab.run(number)
    trial_table = TrialTable(lab.store)
    trial_table.refresh()
    page = trial_table.page(Look(sort="Trial ID"), 10, 10)
    assert [row["trial"] for row in page["rows"]] == list(range(11, 21))
    assert (page["found"], page["total"], page["start"]) == (25, 25, 10)
    assert trial_table.page(Look(sort="Trial ID"), 900, 10)["start"] == 20
    assert len(trial_table.page(Look(), -5, 10_000)["rows"]) == 25


@pytest.mark.parametrize(("long", "times"), [(26, 0), (25, 2)])
def test_what_is_free_is_given_back(lab, monkeypatch, long, times):
    """After each look at a long table anew the C library gives back what it kept, if it can."""
    asked = []
    monkeypatch.setattr(table, "_LONG", long)
    library = SimpleNamespace(malloc_trim=asked.append)
    monkeypatch.setattr(table, "ctypes", SimpleNamespace(CDLL=lambda name: library))
    for number in range(25):
        lab.run(number)
    trial_table = TrialTable(lab.store)
    trial_table.refresh()
    for look in (Look(), Look(), Look(sort="Result")):
        trial_table.page(look, 0, 10)
    assert asked == [0] * times
    assert [*trial_table._selections] == [Look(sort="Result")]  # one at a time
    del library.malloc_trim
    assert trial_table.page(Look(sort="-Result"), 0, 10)["total"] == 25


def keys(page):
    return [column["key"] for column in page["columns"]]


def test_columns(trial_table):
    """Status, results and metrics come first, then parameters that differ, and then the rest."""
    trial_table.refresh()
    page = trial_table.page(Look(), 0, 50)
    assert keys(page)[:6] == ["Trial ID", "Status", "Result", "lr", "kind", "same"]
    columns = {c["key"]: c for c in page["columns"]}
    assert [columns[n]["differs"] for n in ("lr", "kind", "same")] == [True, True, False]
    assert [columns[n]["numeric"] for n in ("lr", "kind")] == [True, False]
    only = {c["key"]: c for c in trial_table.page(Look("trial=1"), 0, 50)["columns"]}
    assert not only["lr"]["differs"]
    assert columns["Host"]["hidden"]


def test_results_that_hold_several(lab):
    """Each key of a result and each metric is a column, filtered and sorted like any other."""
    for number in range(3):
        trial = lab.run({"f1": number / 10, "sub": {"n": -number}}, Status=number)
        lab.points(trial, ("val/loss", 0, 3.0 - number), ("val/loss", 1, 9.0))
    table = TrialTable(lab.store)
    assert shown(table, "Result.f1 >= 0.1", "Result.sub.n") == [3, 2]
    assert shown(table, "metrics.`val/loss`.min < 3", "-metrics.`val/loss`.min") == [2, 3]
    page = table.page(Look(), 0, 50)
    assert keys(page)[2:7] == [
        "Result",
        "Result.f1",
        "Result.sub.n",
        "metrics.`val/loss`",
        "p:Status",
    ]
    hidden = {c["key"]: c["hidden"] for c in page["columns"]}
    assert (hidden["Result"], hidden["Result.f1"]) == (True, False)
    assert [cells["cells"][6][0] for cells in page["rows"]] == ["2", "1", "0"]


def test_what_people_said(lab):
    """Names and tags stand in columns where there are any; what is archived is hidden."""
    first, second = lab.run(1), lab.run(2)
    table = TrialTable(lab.store)
    assert shown(table) == [second, first]
    lab.add(
        "notes", first, curation_id(1.0, "a"), Curation(1.0, "ann", tags=["best", "b"], name="n")
    )
    lab.add("notes", second, curation_id(2.0, "b"), Curation(2.0, "ann", archived=True))
    assert shown(table) == [first]
    assert shown(table, "'best' in tags") == [first]
    assert shown(table, archived=True) == [second, first]
    page = table.page(Look(), 0, 50)
    assert keys(page)[:4] == ["Trial ID", "Name", "Status", "Tags"]
    assert page["rows"][0]["cells"][3] == ["best, b", "text"]
    assert (page["archived"], page["counts"]) == (1, {"succeeded": 1})
    lab.add("notes", second, curation_id(3.0, "c"), Curation(3.0, "ann", archived=False))
    assert shown(table) == [second, first]


def test_archived_trials_that_are_deleted(tmp_path):
    """They are no longer counted among those that are archived."""
    lab = FolderLab(tmp_path / "demo")
    first, second = lab.open({}), lab.open({})
    table = TrialTable(lab.store)
    for trial in (first, second):
        lab.succeed(trial, 1)
        lab.add("notes", trial, curation_id(1.0, str(trial)), Curation(1.0, "ann", archived=True))
    table.refresh()
    assert table.page(Look(), 0, 50)["archived"] == 2
    marker = Removed(2.0, "ann", f"token-{second}")
    owner = Owner(second, f"token-{second}")
    lab.store.remove([Record("trials", second, REMOVED, encode(marker, second), owner)])
    table.refresh()
    assert table.page(Look(), 0, 50)["archived"] == 1
    assert shown(table, archived=True) == [first]


@pytest.mark.parametrize(
    ("values", "differs"),
    [
        ([1, 1], False), ([1, 2], True), ([1, 1.0], True), ([1, True], True), (["a", "a"], False),
        ([[1], [1]], False), ([[1], [2]], True), ([None, None], False),
    ],
)  # fmt: skip
def test_differing_looks_at_types(lab, values, differs):
    """A parameter differs where a value or its type is another one, or some trials have none."""
    for value in values:
        lab.run(a=value, b=value)
    table = TrialTable(lab.store)
    table.refresh()
    found = {c["key"]: c["differs"] for c in table.page(Look(), 0, 9)["columns"] if "differs" in c}
    assert found == {"a": differs, "b": differs}
    lab.run(b=values[0])
    table.refresh()
    found = {c["key"]: c["differs"] for c in table.page(Look(), 0, 9)["columns"] if "differs" in c}
    assert found["a"]


def test_groups(lab):
    """Trials are grouped by a parameter, with mean and standard deviation of what is a number."""
    for number in range(6):
        trial = lab.run(float(number), kind="ab"[number % 2])
        lab.points(trial, ("loss", 0, number * 10.0))
    lab.run(float("nan"), kind="b")
    lab.run(1.0)
    table = TrialTable(lab.store)
    table.refresh()
    found = table.page(Look(), 0, 50, "kind")["groups"]
    assert found["measures"] == ["Result", "metrics.loss", "`Process Time`"]
    assert [(line["value"][0], line["count"]) for line in found["lines"]] == [("b", 4), ("a", 3)]
    assert found["lines"][1]["cells"][0] == {"mean": 2.0, "sd": 2.0, "of": 3}
    assert found["lines"][0]["cells"][0]["of"] == 3
    assert found["without"] == 1


def test_last_values_of_metrics(lab):
    """The table has the latest value of each metric, and follows it."""
    trial = lab.begin()
    lab.points(trial, ("loss", 0, 1.0), ("loss", 1, 0.5), ("acc", 0, 0.1))
    trial_table = TrialTable(lab.store)

    def cells():
        trial_table.refresh()
        page = trial_table.page(Look(), 0, 10)
        found = zip(page["columns"], page["rows"][0]["cells"], strict=True)
        return {c["key"]: one[0] for c, one in found if c["group"] == "metric"}

    assert cells() == {"metrics.loss": "0.5", "metrics.acc": "0.1"}
    lab.points(trial, ("loss", 2, 0.25))
    assert cells() == {"metrics.loss": "0.25", "metrics.acc": "0.1"}


def test_a_view_is_kept_until_something_changes(lab, monkeypatch):
    """The same page asked for again is not filtered and sorted anew."""
    lab.run(1)
    trial_table = TrialTable(lab.store)
    trial_table.refresh()
    looks = []
    monkeypatch.setattr(
        trial_table,
        "_select",
        lambda *given, look=trial_table._select: looks.append(1) or look(*given),
    )
    trial_table.page(Look(), 0, 10)
    trial_table.refresh()
    trial_table.page(Look(), 0, 10)
    assert len(looks) == 1
    lab.run(2)
    trial_table.refresh()
    trial_table.page(Look(), 0, 10)
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


def test_sorting_by_metrics(lab):
    """The latest values of a metric give an order that follows them."""
    trials = [lab.run(number) for number in range(3)] + [lab.begin()]
    for trial, value in zip(trials[1:], (0.5, 0.1, 0.3), strict=True):
        lab.points(trial, ("loss", 0, 9.0), ("loss", 1, value))
    trial_table = TrialTable(lab.store)
    assert shown(trial_table, sort="metrics.loss") == [3, 4, 2, 1]
    assert shown(trial_table, sort="-metrics.loss") == [2, 4, 3, 1]
    lab.points(trials[3], ("loss", 2, 0.01))
    assert shown(trial_table, sort="m:loss") == [4, 3, 2, 1]
    assert shown(trial_table, sort="metrics.other") == [1, 2, 3, 4]


def test_more_trials_than_a_thousand(tmp_path):
    """Results and metrics of more than 1,000 trials are filtered and sorted, too."""
    lab = FolderLab(tmp_path / "many")
    for number in range(1_101):
        trial = lab.run({"f1": number % 1_000}, lr=number)
        lab.points(trial, ("loss", 0, 5_000.0 - number))
    table = TrialTable(lab.store)
    assert shown(table, "metrics.loss < 3902") == [1101, 1100]
    assert shown(table, sort="metrics.loss")[:3] == [1101, 1100, 1099]
    assert shown(table, "Result.f1 == 999") == [1000]


def calls_for_pages(folder, count):
    """Return how many functions are called for pages of a table of so many trials."""
    store = FileStore(folder)
    fill(store, count)
    table = TrialTable(store)
    table.refresh()
    looks = [Look(), Look(sort="-Result"), Look(statuses=frozenset({"failed"})), Look("lr > 9"),
             Look("not Archived"), Look("'best' in tags")]  # fmt: skip
    called, before = Counter(), sys.getprofile()
    sys.setprofile(lambda _, event, what: called.update([event]))
    try:
        pages = [table.page(each, 0, 50) for each in looks]
    finally:
        sys.setprofile(before)
    store.close()
    failed = count // 10
    assert [page["found"] for page in pages] == [
        count, count, failed, count - 64, count, 0,
    ]  # fmt: skip
    assert pages[0]["counts"] == {"succeeded": count - failed, "failed": failed}
    return called["call"] + called["c_call"]


def test_a_page_looks_at_no_trial_by_itself(tmp_path):
    """The page of a table of any length takes as many calls."""
    few, many = (calls_for_pages(tmp_path / str(count), count) for count in (500, 2_000))
    assert many < 1.2 * few


def test_metrics_of_reused_steps(lab):
    """A trial that reused a step has the metrics that came with it."""
    first, second = lab.run(1), lab.run(1)
    lab.points(first, ("loss", 0, 0.5))
    lab.step(second, "fit", reused=first, metrics=["loss"])
    table = TrialTable(lab.store)
    assert shown(table, "metrics.loss == 0.5") == [second, first]
