"""axe-core, which looks for what shuts people out, finds nothing on any view."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.dashboard.pages import missing

VIEWS = {
    "experiments": ("", ".list"),
    "table": ("?experiment=wide&trials=3,28&pin=depth&archived=1&size=3&filter=lr>0", "tbody tr"),
    "groups": ("?experiment=wide&group=kind", "table.groups"),
    "curves": ("?experiment=wide&tab=metrics&trials=1-3,60", ".plot canvas"),
    "parameters": ("?experiment=wide&tab=parameters", ".importance table"),
    "compare": ("?experiment=wide&tab=compare&trials=1-3", ".lead"),
    "compare two": ("?experiment=study&tab=compare&trials=3,28", ".origin"),
    "trial": ("?experiment=study&tab=trial&trial=28", ".traceback"),
    "running": ("?experiment=wide&tab=trial&trial=60", ".unfinished"),
    "artifacts": ("?experiment=figures&tab=trial&trial=2", ".artifact >> text=words"),
    "artifacts compared": ("?experiment=figures&tab=compare&trials=1,2", "iframe"),
    "machine": ("?experiment=figures&tab=metrics&trials=1,2", ".system .plot canvas"),
    "nothing found": ("?experiment=wide&filter=lr>9&archived=1", "text=No trial fits"),
    "no such trial": ("?experiment=wide&tab=trial&trial=999", "text=No such trial"),
}
SCREENS = [(width, scheme) for scheme in ("light", "dark") for width in (1280, 375)]
# In the dark only the contrast can be another one.
ASK = """async (isDark) => {
  const only = isDark ? { runOnly: ["color-contrast"] } : {};
  const found = await axe.run({ exclude: [[".bk-Figure"], [".packages"]] },
    { resultTypes: ["violations"], ...only });
  return found.violations.map(({ id, nodes }) =>
    `${id}: ${nodes.slice(0, 3).map((one) => one.html.slice(0, 120)).join(" | ")}`);
}"""
OPEN_ALL = "document.querySelectorAll('main details').forEach((one) => { one.open = true; })"


@pytest.fixture(scope="module")
def axe() -> str:
    """Return axe-core's code, which comes with a package for Playwright."""
    found = find_spec("axe_playwright_python") or missing("the package axe-playwright-python")
    return (Path(str(found.origin)).parent / "axe.min.js").read_text(encoding="utf-8")


def test_axe_finds_nothing(site, axe):
    """Nothing on any view, at the widths of a desk and of a phone, in light and dark."""
    page, wrong = site.page, {}
    for name, (query, wait) in VIEWS.items():
        site.turn(query, wait)
        page.evaluate(OPEN_ALL)
        for width, scheme in SCREENS:
            page.set_viewport_size({"width": width, "height": 812})
            page.emulate_media(color_scheme=scheme)
            if page.evaluate("typeof axe") == "undefined":
                page.evaluate(axe)
            page.wait_for_timeout(100)
            if found := page.evaluate(ASK, scheme == "dark"):
                wrong[f"{name}, {width}, {scheme}"] = found
    assert wrong == {}
