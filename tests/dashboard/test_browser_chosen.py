"""What the page draws of very many trials, on which axes, in which colours; and what is beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import daskperiment
from daskperiment.dashboard import influence
from daskperiment.records import Node
from tests.dashboard.stores import FolderLab

POINTS = "Bokeh.documents[0].get_model_by_name('points').data"
SCALE = "Bokeh.documents[{}].roots()[0].{}_scale.type"
WIDE = "?experiment=wide&tab=parameters"


@pytest.fixture(scope="module")
def many(folder: Path) -> str:
    """Write thirty trials whose results fall and rise again."""
    lab = FolderLab(folder / "many")
    for number in range(30):
        lab.succeed(lab.open({"a": number}), abs(number - 12) + number / 100)
    return "many"


@pytest.mark.parametrize("best", ["max", "min"])
def test_the_best_are_drawn_first(
    site: Any, many: str, monkeypatch: pytest.MonkeyPatch, best: str
) -> None:
    """Of more trials than are drawn the best half is there, whatever its age, and that is said."""
    monkeypatch.setattr(influence, "_POINTS", 10)
    monkeypatch.setattr(influence, "_LINES", 8)
    page = site.open(f"?experiment={many}&tab=parameters&up=Result&best={best}", ".plot canvas")
    site.drawn(2)
    results = {number + 1: abs(number - 12) + number / 100 for number in range(30)}
    order = sorted(results, key=results.__getitem__, reverse=best == "max")
    drawn = page.evaluate(f"[...{POINTS}.trial]")
    assert len(drawn) == 10
    assert set(order[:5]) <= set(drawn)
    assert order[-1] in drawn
    word = {"max": "highest", "min": "lowest"}[best]
    told = page.locator("main").text_content()
    assert "30 trials in all, 30 with a number" in told
    assert f"drawn are the best 5 by Result ({word}) and as many others at regular steps" in told
    assert "20 are left out" in told
    assert f"drawn are the best 4 by Result ({word})" in told
    assert "22 are left out" in told


def test_axes_are_logarithmic_where_they_can_be(site: Any) -> None:
    """Positive numbers stand on a logarithmic axis; others stay on a linear one, which is said."""
    page = site.open(f"{WIDE}&across=lr&up=Result.f1&plogx=1&plogy=1", ".plot canvas")
    site.drawn(2)
    assert [page.evaluate(SCALE.format(0, axis)) for axis in "xy"] == ["LogScale", "LogScale"]
    assert page.locator("text=stays linear").count() == 0
    site.turn(f"{WIDE}&across=depth&up=Result.f1&plogx=1", "text=The x axis stays linear")
    site.drawn(2)
    assert [page.evaluate(SCALE.format(0, axis)) for axis in "xy"] == [
        "LinearScale", "LinearScale",
    ]  # fmt: skip
    site.turn("?experiment=wide&tab=metrics&trials=1-3&metric=loss&logy=1", ".plot canvas")
    site.until(lambda: page.evaluate("Bokeh.documents.length") == 1)
    assert [page.evaluate(SCALE.format(0, axis)) for axis in "xy"] == ["LinearScale", "LogScale"]


def test_colours_are_by_what_was_chosen(site: Any) -> None:
    """Points have the colour of another result than that upwards, whose name is beside them."""
    page = site.open(f"{WIDE}&across=lr&up=Result.f1&colour=Result.cost.s", ".plot canvas")
    site.drawn(2)
    trials, colours = (page.evaluate(f"[...{POINTS}.{name}]") for name in ("trial", "colour"))
    expected = {trial: (trial - 1) / 3 for trial in trials}
    assert dict(zip(trials, colours, strict=True)) == pytest.approx(expected)
    heights = page.evaluate(f"[...{POINTS}.y]")
    assert heights != colours
    titles = "[...Bokeh.documents[0].roots()[0].references()].map((one) => one.title?.text)"
    assert "Result.cost.s" in page.evaluate(titles)
    assert page.input_value("label:has-text('Colour') select") == "Result.cost.s"


def test_reused_steps_lead_to_where_they_ran(site: Any, folder: Path) -> None:
    """A step that was reused says from which trial, and the link opens that trial."""
    lab = FolderLab(folder / "reusing")
    for reused in (None, 1):
        trial = lab.open({"a": 1}, graph=[Node("fit", "fit")])
        lab.step(trial, "fit", output="o", reused=reused)
        lab.succeed(trial, 1)
    page = site.open("?experiment=reusing&tab=trial&trial=2", ".node.reused")
    assert "reused from 1" in page.locator(".graph").text_content()
    page.click("table a:has-text('trial 1')")
    page.wait_for_selector("main h1:has-text('Trial 1')")
    site.address("trial=1")
    page.wait_for_selector(".node.succeeded")


def test_artifacts_of_three_stand_side_by_side(site: Any, folder: Path) -> None:
    """An artifact of each of three trials stands in a row under its name, what is missing too."""
    ex = daskperiment.Experiment("beside", backend=folder)
    n = ex.parameter("n", default=1)

    @ex.result
    def score(n: int) -> int:
        ex.save("matrix", pd.DataFrame({"right": [n * 11], "wrong": [n]}))
        if n == 2:
            ex.save("remarks", "only here")
        return n

    for number in (1, 2, 3):
        score(n).bind(n=number).compute()
    ex.flush()
    page = site.open("?experiment=beside&tab=compare&trials=1-3", "text=3 trials")
    figures = page.locator("figure.artifact:has-text('matrix')")
    assert figures.count() == 3
    assert [str(11 * number) in figures.nth(number - 1).text_content() for number in (1, 2, 3)] == [
        True, True, True,
    ]  # fmt: skip
    tops = {figures.nth(at).bounding_box()["y"] for at in range(3)}
    assert len(tops) == 1
    assert page.locator("figure.artifact:has-text('remarks')").count() == 1
