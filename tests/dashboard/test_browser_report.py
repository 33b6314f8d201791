"""A report in a real browser, opened as a file: nothing runs, and nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daskperiment.reports import html_report
from daskperiment.store.opening import open_store
from tests.dashboard.test_browser_axe import OPEN_ALL, SCREENS, axe

__all__ = ["axe"]

CLOSE_LONG = """document.querySelectorAll("details dl").forEach((one) =>
  one.children.length > 99 && one.closest("details").removeAttribute("open"))"""
ASK = """async (isDark) => (await axe.run(document, { resultTypes: ["violations"],
    ...(isDark ? { runOnly: ["color-contrast"] } : {}) })).violations
  .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((one) => one.html.slice(0, 120))}`)"""


class ReportPage:
    """A report that is open in the browser, and what happened there."""

    def __init__(self, page: Any, folder: Path, made: Path) -> None:
        self.page, self.folder, self.made = page, folder, made
        self.asked: list[str] = []
        self.trouble: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.trouble.append(message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))

    def show(self, experiment: str, trials: list[int]) -> Any:
        """Write the report of some trials, and open the file."""
        text = html_report(open_store(self.folder, experiment), experiment, trials)
        self.made.write_text(text, encoding="utf-8")
        self.page.goto(self.made.as_uri())
        return self.page


@pytest.fixture
def report(browser: Any, folder: Path, tmp_path: Path) -> Iterator[ReportPage]:
    """Make reports of the experiments that the dashboard is tested with."""
    page = browser.new_page()
    yield ReportPage(page, folder, tmp_path / "report.html")
    page.close()


@pytest.mark.parametrize(
    ("experiment", "trials"),
    [("study", [3, 28, 4]), ("figures", [1, 2]), ("planted", [1, 2]), ("hostile", [1, 2, 3])],
)
def test_reports_in_a_browser(
    report: ReportPage, axe: str, experiment: str, trials: list[int]
) -> None:
    """Reports of all kinds of trials pass axe-core at a desk and on a phone, light and dark."""
    page, wrong = report.show(experiment, trials), {}
    assert page.locator("svg.chart path.line").count() > 1
    assert page.locator("script, [onload], [onerror], iframe").count() == 0
    page.evaluate(OPEN_ALL)
    page.evaluate(CLOSE_LONG)
    background = set()
    for width, scheme in SCREENS:
        page.set_viewport_size({"width": width, "height": 812})
        page.emulate_media(color_scheme=scheme)
        background.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.evaluate(axe)
        # In the dark only the contrast can be another one.
        if found := page.evaluate(ASK, scheme == "dark"):
            wrong[f"{width}, {scheme}"] = found
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert wrong == {}
    assert len(background) == 2
    assert page.evaluate("window.ran") is None
    assert report.trouble == []
    assert {url.partition(":")[0] for url in report.asked} <= {"file", "data"}


def test_the_policy_stops_what_would_get_in(report: ReportPage) -> None:
    """Were markup to get in all the same, the page's policy would run and load nothing of it."""
    page = report.show("study", [3])
    added = page.evaluate("""() => {
      const one = document.createElement("div");
      one.innerHTML = "<img src='http://127.0.0.1:9/x' onerror='window.ran=1'>"
        + "<style>body { color: rgb(1, 2, 3) }</style>";
      document.body.append(one);
      const script = document.createElement("script");
      script.textContent = "window.ran = 2";
      document.body.append(script);
      return getComputedStyle(document.body).color;
    }""")
    assert added != "rgb(1, 2, 3)"
    stopped = {one.partition(" ")[0] for one in page.evaluate("window.violations")}
    assert {"img-src", "style-src-elem", "script-src-elem"} <= stopped, stopped
    assert page.evaluate("window.ran") is None
