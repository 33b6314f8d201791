"""The page in a real browser with what is long, odd, damaged or very much."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from daskperiment.records import Ended, Failure, Node
from tests.dashboard.stores import FolderLab
from tests.history.lab import NOW

NAMES = [
    "größe",
    "学習率",
    "معدل",
    "🧪🔬",
    "a b\tc\nd",
    "<b>bold</b>",
    "__proto__",
    "constructor",
    "trial",
    "p:lr",
    "x" * 3_000,
    "",
]
VALUES: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    None,
    b"\x00\xff" * 50,
    "🧪 " * 2_000,
    2**400,
    {"a": [1, {"b": b""}]},
    [],
    "",
    "word " * 20_000,
    -0.0,
]
ODD_VIEWS = [
    ("", "tr[data-trial='3']"),
    ("&sort=p%3Agr%C3%B6%C3%9Fe", "tr[data-trial='3']"),
    ("&filter=failed", "tr[data-trial='3']"),
    ("&tab=metrics&trials=1,2,3&logx=1&logy=1&smooth=0.5", ".plot canvas"),
    ("&tab=parameters&across=p3&plogx=1&plogy=1", ".plot canvas"),
    ("&tab=compare&trials=1,2", "text=Trials 1 and 2"),
    ("&tab=trial&trial=1", "svg.graph"),
    ("&tab=trial&trial=3", ".traceback"),
]


@pytest.fixture(scope="module")
def odd(folder) -> FolderLab:
    """Make an experiment of more than 200 parameters, with names and values of all kinds."""
    lab = FolderLab(folder / "odd")
    for number in range(3):
        parameters = {name: VALUES[(i + number) % len(VALUES)] for i, name in enumerate(NAMES)}
        parameters |= {f"p{i}": i * number for i in range(200)}
        trial = lab.open(parameters, graph=[Node(NAMES[3], NAMES[3]), Node("b", NAMES[10])])
        lab.step(trial, NAMES[3], kept={"value": lab.form(VALUES[number])})
        for i, name in enumerate(NAMES):
            odd_points = [(name, j, VALUES[(i + j) % len(VALUES)]) for j in range(len(VALUES))]
            lab.points(trial, *odd_points, (name, "epoch", 1.0), (name, -1, 0.0))
        if number == 2:
            long = "".join(f'  File "x.py", line {i}, in f\n    f({i})\n' for i in range(9_000))
            failure = Failure("RecursionError", "RecursionError(too deep)" * 500, long, NAMES[3])
            lab.add(
                "trials", trial, "ended-failed-score", Ended("failed", NOW, 1.0, "", None, failure)
            )
        else:
            lab.succeed(trial, VALUES[number + 3])
    return lab


def test_odd_names_and_values(site, odd):
    """Values that are no numbers, and names of any length and script, break no view."""
    page = site.page
    for query, wait in ODD_VIEWS:
        site.turn(f"?experiment=odd{query}", wait)
        if "canvas" in wait:
            site.drawn(2)
        for width in (375, 1280):
            page.set_viewport_size({"width": width, "height": 812})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (query, width)
        site.picture(f"odd-{query.partition('=')[2].partition('&')[0] or 'table'}")
    assert "more characters" in site.texts(".traceback")[0]


def test_logarithmic_axes_have_no_place_for_zero(site, folder):
    """Points at or below zero are left out on a logarithmic axis, all of them too, with a word."""
    lab = FolderLab(folder / "signs")
    trial = lab.open({"a": 1})
    lab.points(trial, *(("loss", i, 2.0 - i) for i in range(4)))
    lab.points(trial, *(("none", i, -1.0 - i) for i in range(4)))
    page = site.open("?experiment=signs&tab=metrics&trials=1&logy=1", ".plot canvas")
    site.drawn(2)
    assert site.texts(".charts .card .quiet")[:2] == [
        "2 points at or below zero left out: a logarithmic axis has no place for them.",
        "4 points at or below zero left out: a logarithmic axis has no place for them.",
    ]
    data = "Bokeh.documents[0].get_model_by_name('trial1').data.y.filter((one) => one > 0)"
    assert page.evaluate(data) == [2.0, 1.0]
    lab.points(trial, ("loss", 4, -9.0))
    page.wait_for_selector("text=3 points at or below zero")
    site.turn("?experiment=signs&tab=metrics&trials=1&logx=1", "text=1 point at or below zero")
    site.drawn(2)


def test_a_million_points(site, folder):
    """A curve of a million points is drawn with its peaks, and its figures count all."""
    lab = FolderLab(folder / "long")
    trial = lab.open({"a": 1})
    for batch in range(100):
        first = batch * 10_000
        rows = [["loss", first + i, (i % 97) / 97, NOW + i] for i in range(10_000)]
        if batch == 57:
            rows[1234][2] = 40.0
        lab.add("points", trial, f"batch-{batch}", msgspec.json.encode({"points": rows}))
    page = site.open("?experiment=long&tab=metrics&trials=1", ".plot canvas")
    site.drawn(1)
    drawn = "Bokeh.documents[0].get_model_by_name('trial1').data.y"
    assert page.evaluate(f"[{drawn}.length <= 1502, Math.max(...{drawn})]") == [True, 40]
    page.click("summary:has-text('Figures')")
    page.wait_for_selector("[aria-label='Figures of loss'] >> text=1000000")
    lab.points(trial, ("loss", 1_000_000, 50.0))
    site.turn("?experiment=long", "td.metric:has-text('50')")
    site.turn("?experiment=long&tab=metrics&trials=1", ".plot canvas")
    site.until(lambda: page.evaluate("Bokeh.documents.length") == 1)
    assert page.evaluate(f"Math.max(...{drawn})") == 50


def test_records_of_another_version(site, folder):
    """Steps recorded with fewer fields, or with more, are shown; damaged ones are counted."""
    lab = FolderLab(folder / "versions")
    trial = lab.open({"a": 1}, graph=[Node("old", "old"), Node("new", "new")])
    old = {
        "key": "old", "step": "old", "status": "succeeded", "started": NOW, "wall": 1.0, "cpu": 1.0,
        "peak": 1, "host": "here", "pid": 1, "thread": "main", "code": "c",
    }  # fmt: skip
    lab.add("steps", trial, "old", msgspec.json.encode(old))
    later = {**old, "key": "new", "step": "new", "energy": {"joule": 5}, "thread": "later"}
    lab.add("steps", trial, "new", msgspec.json.encode(later))
    lab.add("steps", trial, "bad", b"\x00garbage")
    lab.succeed(trial, 1)
    page = site.open("?experiment=versions&tab=trial&trial=1", "text=1 damaged record")
    assert page.locator(".node.succeeded").count() == 2
    assert site.texts("[aria-label='Steps'] tbody th") == ["old", "new"]
