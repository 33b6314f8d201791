"""The page for those who use a keyboard or a screen reader, see little, or hold a phone."""

from __future__ import annotations

import re
from pathlib import Path

WALK = (Path(__file__).parent / "walk.js").read_text(encoding="utf-8")
VIEWS = {
    "experiments": ("", ".list"),
    "trials": ("?experiment=study&trials=3,28&hide=Host", "tr[data-trial='28']"),
    "none-fits": ("?experiment=study&filter=nothinglikeit", "text=No trial fits"),
    "wrong-filter": ("?experiment=study&filter=nothing%3D1", "text=There is no column"),
    "metrics": ("?experiment=study&tab=metrics&trials=5,9,13&smooth=0.7", ".plot canvas"),
    "no-selection": ("?experiment=study&tab=metrics", "text=No trial selected"),
    "parameters": ("?experiment=study&tab=parameters", ".plot canvas"),
    "compare": ("?experiment=study&tab=compare&trials=3,28", ".origin"),
    "compare-nothing": ("?experiment=study&tab=compare", "text=Two trials or more, please"),
    "trial": ("?experiment=study&tab=trial&trial=27", "svg.graph"),
    "trial-failed": ("?experiment=study&tab=trial&trial=28", ".traceback"),
    "lost": ("?experiment=lost&tab=trial&trial=1", "text=no sign of life"),
    "no-trial": ("?experiment=study&tab=trial&trial=99", "text=No such trial"),
    "no-experiment": ("?experiment=nothing", "text=No such experiment"),
    "hostile": ("?experiment=hostile&tab=trial&trial=2", "pre.result"),
}
OPEN_ALL = "document.querySelectorAll('main details').forEach((one) => { one.open = true; })"
FOCUSED = """() => {
  const one = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(one.closest(".plot") ?? one);
  return [one.tagName, one.dataset.key ?? one.getAttribute("aria-label") ?? one.textContent.trim(),
    outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
}"""


INKS = {"light": "#5b6472", "dark": "#a3adbb"}
INK = "window.Bokeh?.documents.at(-1)?.roots()[0].below[0].major_label_text_color"
SCREENS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (375, "dark")}


def test_every_view_on_every_screen(site):
    """Texts have a contrast of 4.5, controls a name, tables headers, and 375 pixels suffice."""
    page, wrong = site.page, {}
    for name, (query, wait) in VIEWS.items():
        site.turn(query, wait)
        for screen, (width, scheme) in SCREENS.items():
            page.set_viewport_size({"width": width, "height": 812})
            page.emulate_media(color_scheme=scheme)
            if "canvas" in wait:
                site.until(lambda ink=INKS[scheme]: page.evaluate(INK) == ink)
                site.drawn(2)
            site.picture(f"{screen}-{name}")
            page.evaluate(OPEN_ALL)
            found = page.evaluate(WALK)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found.append("it is wider than the screen")
            if found:
                wrong[f"{name}, {screen}"] = found
    assert wrong == {}
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", back)[:3])) < 60


def focus(page, key: str) -> None:
    """Press Tab until a control has the focus, which is to be seen on every way."""
    for _ in range(150):
        page.keyboard.press("Tab")
        tag, name, visible = page.evaluate(FOCUSED)
        assert visible or tag == "BODY", f"the focus on {name!r} is not to be seen"
        if name == key:
            return
    raise AssertionError(f"{key!r} cannot be reached by Tab")


def test_by_keyboard_alone(site):
    """From the experiments to two trials, their curves and their comparison without a mouse."""
    page = site.open("", ".list")
    focus(page, "study")
    page.keyboard.press("Enter")
    page.wait_for_selector("tr[data-trial='28']")
    focus(page, "pick 28")
    page.keyboard.press("Space")
    page.wait_for_selector("text=1 selected")
    focus(page, "pick 27")
    page.keyboard.press("Space")
    page.wait_for_selector("text=2 selected")
    page.keyboard.press("Home")
    page.evaluate("document.activeElement.blur()")
    focus(page, "metrics")
    page.keyboard.press("Enter")
    site.drawn(2)
    focus(page, "log y")
    page.keyboard.press("Enter")
    site.address("logy=1")
    site.until(lambda: page.evaluate(FOCUSED)[1] == "log y")
    page.evaluate("document.activeElement.blur()")
    focus(page, "compare")
    page.keyboard.press("Enter")
    page.wait_for_selector(".origin, .lead")
    focus(page, "compared")
    page.keyboard.press("Control+A")
    page.keyboard.type("28,3")
    page.keyboard.press("Enter")
    page.wait_for_selector("main h1:has-text('Trials 28 and 3')")
    assert page.evaluate(FOCUSED)[1] == "compared"
    focus(page, "Experiments")
    page.keyboard.press("Enter")
    page.wait_for_selector(".list")
