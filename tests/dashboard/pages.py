"""Pages of the dashboard in a real browser, and what must hold on each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from daskperiment import dashboard

__all__ = ["FLAGS", "PATIENCE", "PAUSES", "SWIFT", "WATCH", "Site", "missing"]

PATIENCE = 90_000
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
# What the page waits between questions.
PAUSES = """
window.pauses = [];
const later = window.setTimeout;
window.setTimeout = (call, wait, ...more) => {
  if (String(call).includes("document.hidden")) window.pauses.push(wait);
  return later(call, wait, ...more);
};
"""
# By its own account the server takes little time for each answer, however busy the machine is.
SWIFT = """
const asked = window.fetch;
window.fetch = async (...given) => {
  const answer = await asked(...given);
  const headers = new Headers(answer.headers);
  headers.set("Server-Timing", "answer;dur=20.0");
  return new Response(await answer.text(), { status: answer.status, headers });
};
"""
UNNAMED = """() => [...document.querySelectorAll(
  "button, a[href], input, select, summary, [role=region]")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim()
    || (one.labels && [...one.labels].some((label) => label.textContent.trim()))))
  .map((one) => one.outerHTML)"""
# The head spans the window, and on a screen of a desk cuts no word of where one is.
FRAME = """() => {
  const [bar, tabs] = [document.querySelector("header.bar"), document.querySelector(".tabs")];
  if (!bar) return [];
  const wide = [bar, tabs].filter((one) => !one.hidden
    && Math.abs(one.getBoundingClientRect().width - document.documentElement.clientWidth) > 1);
  const cut = [...document.querySelectorAll(".crumbs li")].filter((one) => innerWidth > 1000
    && one.textContent.length < 40 && one.scrollWidth > one.clientWidth + 1);
  return [...wide, ...cut].map((one) => one.outerHTML.slice(0, 200));
}"""


def missing(what: str) -> NoReturn:
    """Skip for want of a browser; in CI and under tox that is a failure."""
    if os.environ.get("CI") or os.environ.get("TOX_ENV_NAME"):
        pytest.fail(f"{what} is missing: .ci/run installs all that the tests need")
    pytest.skip(f"{what} is missing")


# Each part that has a name has its own.
REPEATED = """() => [...document.querySelectorAll("[role=region], nav")]
  .filter((one) => one.checkVisibility()).map((one) => one.getAttribute("aria-label"))
  .filter((name, at, all) => all.indexOf(name) !== at)"""


class Site:
    """A page of the browser, and what happened in it."""

    def __init__(self, page: Any, server: dashboard.Server, pictures: Path) -> None:
        self.page = page
        self.server = server
        self.pictures = pictures
        self.trouble: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("console", self._note)
        page.on("dialog", lambda dialog: (self.trouble.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))

    def _note(self, message: Any) -> None:
        # A question that is answered by 404 or 503 is told by the page itself, and a connection
        # that was not made yet ends with the page that is left or loaded anew. Only a server that
        # is gone refuses one: it may end before the page does, and in the midst of an answer.
        expected = ["status of", "closed before the connection is established"]
        running = self.server.is_running
        expected += ["ERR_CONNECTION_REFUSED"] if running else ["net::ERR_", "WebSocket connection"]
        if message.type in ("error", "warning") and not any(x in message.text for x in expected):
            self.trouble.append(message.text)

    def open(self, query: str = "", wait: str = "main h1") -> Any:
        """Go to an address and wait for something there."""
        self.page.goto(self.server.url.partition("?")[0] + query)
        self.page.wait_for_selector(wait)
        return self.page

    def turn(self, query: str, wait: str) -> Any:
        """Go to an address as a link within the page does."""
        if not self.page.url.startswith("http"):
            return self.open(query, wait)
        script = "to => { history.pushState(null, '', to); dispatchEvent(new Event('popstate')); }"
        self.page.evaluate(script, f"./{query}")
        self.page.wait_for_selector(wait)
        return self.page

    def until(self, true: Callable[[], Any]) -> None:
        """Wait for a condition."""
        for _ in range(PATIENCE // 50):
            if true():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not come true")

    def address(self, *parts: str) -> None:
        """Wait until the address has these parts."""
        self.until(lambda: all(part in self.page.url for part in parts))

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""
        self.page.screenshot(path=self.pictures / f"{name}.png", full_page=True)

    def texts(self, selector: str) -> list[str]:
        """Give the texts of what stands there."""
        return [text.strip() for text in self.page.locator(selector).all_text_contents()]

    def drawn(self, count: int) -> None:
        """Wait until so many charts are painted."""
        self.until(lambda: self.page.locator(".plot canvas").count() >= count)
        self.until(lambda: self.page.evaluate("Bokeh.documents.length") >= count)

    def check(self) -> None:
        """Find nothing that ran, failed, or left this machine."""
        assert self.page.evaluate("window.ran") is None
        assert self.page.evaluate("window.violations") == []
        assert self.page.evaluate("document.querySelectorAll('script:not([src])').length") == 0
        assert self.page.evaluate(FRAME) == []
        assert (
            self.page.locator("main img, main iframe, main [onload], main [onerror]").count() == 0
        )
        assert self.page.evaluate(UNNAMED) == []
        assert self.page.evaluate(REPEATED) == []
        away = [u for u in self.requests if not re.match(r"http://127\.0\.0\.1:|data:|blob:", u)]
        assert away == []
        assert self.trouble == [], self.trouble
