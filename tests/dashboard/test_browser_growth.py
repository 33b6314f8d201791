"""What a page does while a trial grows: counted, as the time depends on the machine."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from daskperiment.records import Node
from tests.dashboard.pages import PAUSES
from tests.dashboard.stores import FolderLab

METRICS = 8
# How the page comes to its answers.
BUSY = """
const asked = window.fetch;
window.fetch = async (...given) => {
  const answer = await asked(...given);
  for (const end = performance.now() + 1200; performance.now() < end;);
  return new Response(await answer.text(), { headers: { "Server-Timing": "answer;dur=20.0" } });
};
"""
SLOW = """
const asked = window.fetch;
window.fetch = async (...given) => {
  const answer = await asked(...given);
  return new Response(await answer.text(), { headers: { "Server-Timing": "answer;dur=3000.0" } });
};
"""
REDRAWN = """
window.added = [];
new MutationObserver((found) => found.forEach((one) => one.addedNodes.forEach((node) =>
  window.added.push(node.querySelector?.("h1, h2")?.textContent ?? node.className)
))).observe(document.querySelector("main"), { childList: true });
"""
# Whether the browser said what is in sight, to this and to those who asked before: not the last.
OUT_OF_SIGHT = """() => new Promise((done) => {
  const last = [...document.querySelectorAll(".plot")].at(-1);
  const watch = new IntersectionObserver(([one]) => {
    watch.disconnect();
    done(!one.isIntersecting);
  });
  watch.observe(last);
})"""
COUNT = """
window.changes = {};
for (const one of Bokeh.documents) {
  const source = one.get_model_by_name("trial1");
  const name = source.document.roots()[0].id;
  window.changes[name] = 0;
  source.properties.data.change.connect(() => { window.changes[name] += 1; });
}
"""


@pytest.fixture
def growing(folder: Any) -> FolderLab:
    """Write the beginning of a trial with many metrics, the first of an experiment of its own."""
    lab = FolderLab(folder / f"increasing-{len(list(folder.glob('increasing-*')))}")
    lab.open({"a": 1}, graph=[Node("fit", "fit")])
    lab.points(1, *((f"m{i:02}", 0, 1.0) for i in range(METRICS)))
    return lab


def view(lab: FolderLab, tab: str) -> str:
    """Return the address of a view of its trial."""
    return f"?experiment={lab.store.folder.name}&tab={tab}&trial=1&trials=1"


def say(lab: FolderLab, text: str) -> None:
    """Write a line of the trial's log."""
    line = ["fit", "1", len(list(lab.store.read("logs"))) * 100, 1.0, "stdout", 1, text + "\n"]
    lab.add("logs", 1, f"batch-{text}", msgspec.json.encode({"lines": [line]}))


@pytest.mark.parametrize(
    ("way", "least", "most"), [(BUSY, 200, 1000), (SLOW, 5000, 5000)], ids=["busy", "slow"]
)
def test_drawing_is_no_reason_to_ask_later(
    site: Any, growing: FolderLab, way: str, least: int, most: int
) -> None:
    """A page that is busy for a second with each answer asks as soon; of a slow store later."""
    site.page.add_init_script(PAUSES + way)
    site.open(view(growing, "metrics"), ".plot canvas")
    site.until(lambda: site.page.evaluate("window.pauses.length") >= (3 if way is BUSY else 2))
    # What is slow once is no slow store: figures are made once.
    first, *pauses = site.page.evaluate("window.pauses")
    assert first <= 1000
    assert all(least <= one <= most for one in pauses), pauses


def test_growth_draws_only_what_grows(site: Any, growing: FolderLab) -> None:
    """On a trial's page a line of log and a point leave all other parts, and all charts, alone."""
    lab = growing
    page = site.open(view(growing, "trial"), ".plot canvas")
    site.drawn(METRICS)
    page.evaluate(REDRAWN)
    figures = [url for url in site.requests if "/metrics?" in url and "data=1" not in url]
    canvas = page.query_selector(".plot canvas")
    for number in range(1, 4):
        say(lab, f"epoch {number}")
        lab.points(1, ("m00", number, math.sqrt(number)))
        page.wait_for_selector(f"pre:has-text('epoch {number}')")
        site.until(lambda n=number: f"{n + 1} points" in " ".join(site.texts(".lastpoints li")))
    assert set(page.evaluate("window.added")) == {"Log"}
    assert canvas.evaluate("one => one.isConnected")
    again = [url for url in site.requests if "/metrics?" in url and "data=1" not in url]
    assert again == figures


def test_charts_out_of_sight_wait(site: Any, growing: FolderLab) -> None:
    """Points of charts that nobody sees are drawn when these come into sight, and not before."""
    lab = growing
    page = site.open(view(growing, "metrics"), ".plot canvas")
    page.set_viewport_size({"width": 700, "height": 500})
    site.drawn(METRICS)
    site.until(lambda: page.evaluate(OUT_OF_SIGHT))
    page.evaluate(COUNT)
    lab.points(1, *((f"m{i:02}", 50, 0.5) for i in range(METRICS)))
    site.until(lambda: page.evaluate("Object.values(window.changes).some((one) => one > 0)"))
    drawn = page.evaluate("Object.values(window.changes).filter((one) => one > 0).length")
    assert 0 < drawn < METRICS / 2
    last = "Bokeh.documents.at(-1).get_model_by_name('trial1').data.y.at(-1)"
    assert page.evaluate(last) != 0.5
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    site.until(lambda: page.evaluate(last) == 0.5)
