"""Make the pictures of the dashboard that the documentation shows: ``python docs/pictures.py``.

It needs the extra ``dashboard``, matplotlib with Pillow, playwright, and Chromium as ``chromium``.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright

import daskperiment
from daskperiment import dashboard
from daskperiment.reports import html_report

PLACE = Path(__file__).parent / "_static"
COLORS = 128
"""Of a picture: with so few its file has a third of the size, and nobody sees it."""
ADDRESS = "file:///home/me/results"
WIDTH = 1180
VIEWS = {
    "dashboard": (760, "&differ=1&trials={best},{second}&filter=rate<3&sort=-Result.accuracy",
                  "tbody tr"),
    "dashboard-experiments": (370, "", ".list >> text=moons"),
    "dashboard-metrics": (640, "&tab=metrics&trials=1,11,22,{best}&smooth=0.3", ".plot canvas"),
    "dashboard-parameters": (1180, "&tab=parameters&across==Result.seconds&bestacross=min"
                             "&up=Result.accuracy", ".importance"),
    "dashboard-compare": (860, "&tab=compare&trials={best},{worst}", ".origin"),
    "dashboard-trial": (1650, "&tab=trial&trial={best}", ".curves .plot canvas"),
    "dashboard-running": (460, "&tab=trial&trial={running}", ".node.running"),
}  # fmt: skip
"""Name of a picture -> its height, which view of the experiment it has, what is there at last."""


def matrix(moon: np.ndarray, told: np.ndarray) -> Figure:
    """Draw how many of each moon were told to be of which."""
    figure = Figure(figsize=(3.4, 3), layout="constrained")
    axes = figure.add_subplot(title="confusion", xlabel="told", ylabel="moon")
    table = np.array([[np.sum((moon == a) & (told == b)) for b in (0, 1)] for a in (0, 1)])
    axes.imshow(table, cmap="GnBu")
    axes.set(xticks=[0, 1], yticks=[0, 1])
    for (a, b), value in np.ndenumerate(table):
        axes.text(b, a, value, ha="center", color="white" if value > 100 else "black")
    return figure


@contextmanager
def moons(folder: Path) -> Iterator[daskperiment.Experiment]:
    """Run 36 trials, and one that does not end before what is done meanwhile."""
    hold, goes, ends = (threading.Event() for _ in range(3))
    ex = daskperiment.Experiment("moons", backend=folder, seed=1)
    rate, degree = ex.parameter("rate", default=0.1), ex.parameter("degree", default=3)
    kind = ex.parameter("kind", default="plain")

    @ex.persist(reuse=True)
    def points():
        turn, moon = ex.rng.uniform(0, np.pi, 400), np.arange(400) % 2
        x = np.where(moon, 1 - np.cos(turn), np.cos(turn))
        y = np.where(moon, 0.5 - np.sin(turn), np.sin(turn))
        return np.stack([x, y, moon]) + ex.rng.normal(scale=[[0.25], [0.25], [0]], size=(3, 400))

    @ex
    def powers(points, degree):
        x, y, _ = points
        return np.stack([x**i * y**j for i in range(degree + 1) for j in range(degree + 1 - i)])

    @ex
    def fit(inputs, points, rate, kind):
        moon, weights, speed = points[2], np.zeros(len(inputs)), 0.0
        for epoch in range(120):
            chance = 1 / (1 + np.exp(-weights @ inputs))
            loss = -np.log(np.abs(1 - moon - chance) + 1e-9).mean()
            noise = 1 + ex.rng.normal(scale=0.05)
            ex.save_metrics({"loss": loss * noise, "accuracy": ((chance > 0.5) == moon).mean()},
                            epoch)  # fmt: skip
            if rate > 3 and loss > 0.6:
                raise FloatingPointError(f"the loss is {loss:.3g} after {epoch} epochs")
            if hold.is_set() and epoch == 70:
                goes.set()
                ends.wait()
            speed = {"plain": 0.0, "momentum": 0.8}[kind] * speed + rate * inputs @ (moon - chance)
            weights = weights + speed / moon.size
        return chance > 0.5

    @ex.result
    def score(told, points, degree):
        moon = points[2]
        ex.save("confusion", matrix(moon, told))
        return {
            "accuracy": float((told == moon).mean()),
            "seconds": 0.02 * (degree + 1) ** ex.rng.uniform(1.5, 2.5),
        }

    data = points()
    result = score(fit(powers(data, degree), data, rate, kind), data, degree)
    rates = [0.01, 0.03, 0.1, 0.3, 1, 4]
    space = [(r, d, k) for r in rates for d in (1, 2, 3) for k in ("plain", "momentum")]
    for r, d, k in space:
        try:
            result.bind(rate=r, degree=d, kind=k).compute(scheduler="threads")
        except FloatingPointError:
            pass
    best = ex.best("Result.accuracy")
    ex.tag(best, "baseline")
    ex.note(best, "Bends where the moons meet; try more powers.")
    hold.set()
    running = result.bind(rate=0.5, degree=4)
    thread = threading.Thread(target=running.compute, kwargs={"scheduler": "threads"})
    thread.start()
    try:
        goes.wait()
        yield ex
    finally:
        ends.set()
        thread.join()


@contextmanager
def shown(folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Make what there is to see; give the address of its page, and trials with a name."""
    for name, rates in {"iris_svm": (0.1, 0.2), "line": (0.5, 1.0, 2.0)}.items():
        other = daskperiment.Experiment(name, backend=folder)
        node = other.result(lambda rate: rate / 2)(other.parameter("rate"))
        for rate in rates:
            node.bind(rate=rate).compute()
        other.flush()
    with moons(folder) as ex, dashboard.start(folder, port=0) as server:
        first, second, *_, last = ex.get_history(sort="-Result.accuracy").index
        report = html_report(ex._store, "moons", [first, last])
        (folder / "report.html").write_text(report, encoding="utf-8")
        running = max(ex.get_trial_ids())
        yield server.url, {"best": first, "second": second, "worst": last, "running": running}


def take(url: str, trials: dict[str, int], report: Path) -> None:
    """Take the pictures."""
    place = "document.querySelectorAll('.address').forEach((one) => { one.textContent = '%s'; })"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        for name, (height, query, wait) in VIEWS.items():
            page.set_viewport_size({"width": WIDTH, "height": height})
            page.goto(url + (query and f"?experiment=moons{query.format_map(trials)}"))
            page.wait_for_selector(wait)
            page.wait_for_selector("[class='live live']")
            page.wait_for_timeout(1500)  # until charts stand still
            page.evaluate(
                "() => { window.fetch = () => new Promise(() => {}); }"
            )  # it stays as it is
            page.evaluate(place % (f" · {ADDRESS}/moons" if query else ADDRESS))
            keep(page, name)
        page.set_viewport_size({"width": WIDTH, "height": 860})
        page.goto(report.as_uri())
        keep(page, "report")
        browser.close()


def keep(page, name: str) -> None:
    """Write what is to see into a file of few colours."""
    path = PLACE / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(COLORS, Image.Quantize.MEDIANCUT, dither=0)
    small.save(path, optimize=True)


def main() -> None:
    """Make all of them anew, with nothing of this machine in them."""
    socket.gethostname = lambda: "laptop"
    getpass.getuser = lambda: "me"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with shown(Path(folder) / "results") as (url, trials):
            take(url, trials, Path(folder) / "results" / "report.html")


if __name__ == "__main__":
    main()
