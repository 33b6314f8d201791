"""Reports: one file that tells all, asks nobody and runs nothing."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from msgspec import to_builtins

import daskperiment
from daskperiment.errors import TrialIDNotFoundError
from daskperiment.records import Artifact, ObjectRef, Preview, artifact_id
from daskperiment.reports import html_report
from daskperiment.reports.line_charts import Line, line_chart
from daskperiment.store.opening import open_store
from tests.dashboard.plants import FIELDS, plant_trial
from tests.dashboard.stores import PLANTS, FolderLab, ReadOnly
from tests.history.lab import Lab

DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360"
    "f8cfc00000030101 00c9fe92ef0000000049454e44ae426082".replace(" ", "")
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "nav", "h1",
    "h2", "h3", "p", "a", "b", "ul", "li", "dl", "dt", "dd", "pre", "span", "div", "table", "thead",
    "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption", "img", "svg", "line",
    "text", "path",
}  # fmt: skip
NAMES = {
    "lang", "charset", "http-equiv", "content", "name", "id", "class", "href", "scope", "tabindex",
    "role", "aria-label", "aria-hidden", "title", "src", "alt", "viewbox", "x", "y", "x1", "x2",
    "y1", "y2", "d", "stroke-dasharray", "text-anchor",
}  # fmt: skip

TOLD = {
    "Artifact.name", "Begun.parameters", "Begun.result", "Begun.sweep", "Curation.name",
    "Curation.remark", "Curation.tags", "Curation.user", "Environment.categories",
    "Failure.description", "Failure.traceback", "ObjectRef.repr", "Origin.host", "Origin.user",
    "Point.metric",
}  # fmt: skip


class Elements(HTMLParser):
    """Collects the elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def harmless(page: str) -> Elements:
    """Check that a page holds nothing but what a report is made of."""
    seen = Elements(page)
    assert {tag for tag, _ in seen.found} <= TAGS
    assert {name for _, given in seen.found for name in given} <= NAMES
    sources = [str(given["src"]) for _, given in seen.found if "src" in given]
    assert all(re.match(r"data:image/[a-z+]+;base64,[\w+/=]+$", one) for one in sources)
    assert all(str(given["href"]).startswith("#trial-") for _, given in seen.found
               if "href" in given)  # fmt: skip
    policy = [given["content"] for _, given in seen.found if "http-equiv" in given]
    assert len(policy) == 1
    assert "default-src 'none'" in str(policy[0])
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run four trials with curves, artifacts, a log and remarks; the last one fails."""
    root = tmp_path_factory.mktemp("reported")
    (root / "confusion.png").write_bytes(DOT)
    ex = daskperiment.Experiment("demo", backend=root / "store")
    lr, kind = ex.parameter("lr", default=0.1), ex.parameter("kind", default="rbf")

    @ex
    def fit(lr: float) -> float:
        print("fitting with", lr)
        for epoch in range(40):
            ex.save_metric("loss", epoch, math.exp(-epoch * lr))
            ex.save_metric("odd", epoch, math.nan if epoch == 7 else math.inf if epoch == 9 else lr)
        return lr * 3

    @ex.result
    def score(fitted: float, kind: str) -> dict[str, float]:
        ex.save("confusion", root / "confusion.png")
        ex.save("rows", np.arange(6.0).reshape(2, 3))
        ex.save("page", "<script>window.ran = 1</script>", format="html")
        if fitted > 0.8:
            raise ValueError("it diverges")
        return {"f1": fitted, "cost": 2.0}

    result = score(fit(lr), kind)
    for number in range(4):
        try:
            result.bind(lr=number / 10).compute()
        except ValueError:
            pass
    ex.tag([2], "baseline")
    ex.note(2, "the one to beat")
    ex.rename(2, "first-try")
    ex.flush()
    return root / "store"


def test_a_report_tells_of_each_trial(folder: Path) -> None:
    """Results, metrics, parameters, remarks, logs, artifacts and environments are told."""
    page = html_report(open_store(folder, "demo"), "demo", [3, 2, 4])
    words = " ".join(harmless(page).words.split())
    for told in (
        "Trial 2: first-try", "the one to beat", "baseline", "Result.f1", "metrics.loss",
        "fitting with 0.1", "'rbf'", "ValueError: it diverges", "Environment of trial 3, 2, 4",
        "2 × 3", "A page; what stands in it is not shown", "UTC", "numpy",
        "6 of the points are nan, infinite or no number",
    ):  # fmt: skip
        assert told in words, told
    assert "Trial 1" not in words
    assert page.count("data:image/png;base64,") == 3
    assert len(re.findall('<svg [^>]*class="chart"', page)) == 2


def test_a_report_says_where_trials_part(folder: Path) -> None:
    """Every other trial is compared to the first: the step where they part, and why."""
    words = harmless(html_report(open_store(folder, "demo"), "demo", [3, 1, 2])).words
    assert "How they differ from trial 3" in words
    assert words.count("First differencestep fit: differs") == 2
    assert "parameter lr" in words
    alone = harmless(html_report(open_store(folder, "demo"), "demo", [3])).words
    assert "How they differ" not in alone


def test_planted_markup_stays_text() -> None:
    """Whatever the fields of a store's records hold, a report is made of the same few elements."""
    lab = Lab()
    trials = [plant_trial(lab, succeeds=succeeds) for succeeds in (True, True, False)]
    text = f"Preview {PLANTS}"
    preview = Preview("table", text, text, [1], {text: text}, [[text, text]], [[text]])
    for at, format_ in enumerate(("svg", "parquet", "html", text)):
        reference = ObjectRef(text, text, 9, text, format=format_, preview=preview)
        name = f"Artifact {at} {PLANTS}"
        lab.add("notes", 1, artifact_id(name, at, 1), Artifact(name, to_builtins(reference), 1.0))
    seen = harmless(html_report(lab.store, f"name {PLANTS}", trials))
    assert seen.words.count("<script>window.ran=1</script>") > 90
    assert {field for field in FIELDS if field.partition(" ")[0] in seen.words} >= TOLD
    assert {f"Artifact {at}" for at in range(4)} <= set(re.findall(r"Artifact \d", seen.words))
    assert "Preview" in seen.words


@pytest.mark.parametrize(
    ("columns", "rows"),
    [([[]], []), ([[]], [["told"]]), ([["told"]], [["x", "y"]]), ([["told", "int64"]], [[]]),
     ([["told", "a", "b"], []], [["x"], []]), ([], [["x"]])],
)  # fmt: skip
def test_rows_of_any_length_are_shown(columns: list[list[str]], rows: list[list[str]]) -> None:
    """A preview whose rows fit neither its columns nor each other costs no report."""
    lab = Lab()
    trial = plant_trial(lab, succeeds=True)
    preview = Preview("table", shape=[2, 1], columns=columns, rows=rows)
    reference = ObjectRef("t", "r", 9, "ab", format="parquet", preview=preview)
    lab.add("notes", 1, artifact_id("odd", 1, 1), Artifact("odd", to_builtins(reference), 1.0))
    words = harmless(html_report(lab.store, "name", [trial])).words
    assert "2 × 1" in words
    assert ("told" in words) == ("told" in str(columns) + str(rows))


def test_a_report_of_every_store_reads_and_writes_nothing(folder: Path) -> None:
    """What makes a report asks the protocol's questions alone, none of which writes."""
    page = html_report(ReadOnly(open_store(folder, "demo")), "demo", [1, 2])  # type: ignore[arg-type]
    assert "Trial 2: first-try" in page


def test_secrets_are_not_in_a_report(tmp_path: Path) -> None:
    """The value of a secret parameter stands in no part of a report, also where it is printed."""
    ex = daskperiment.Experiment("login", backend=tmp_path)
    dsn = ex.parameter("dsn", secret=True)

    @ex.result
    def login(dsn: str) -> int:
        print("using", dsn)
        if dsn.startswith("x"):
            raise ConnectionError(f"refused: {dsn}")
        return len(dsn)

    login(dsn).bind(dsn="hunter2-Zq9").compute()
    with pytest.raises(ConnectionError):
        login(dsn).bind(dsn="xhunter2-Zq9").compute()
    ex.flush()
    page = html_report(open_store(tmp_path, "login"), "login", [1, 2])
    assert "hunter2-Zq9" not in page
    assert harmless(page).words.count("<secret>") >= 3


def test_a_trial_that_is_not_there(folder: Path) -> None:
    """A report of a trial that does not exist is refused as every question about it is."""
    with pytest.raises(TrialIDNotFoundError, match="99"):
        html_report(open_store(folder, "demo"), "demo", [1, 99])


SERIES = {
    "plain": ([0, 1, 2], [3.0, 1.0, 2.0]),
    "one point": ([5], [1.0]),
    "constant": ([0, 1], [2.0, 2.0]),
    "zero": ([0, 1], [0.0, 0.0]),
    "not finite": ([0, 1, 2, 3], [math.nan, math.inf, -math.inf, math.nan]),
    "broken": ([0, 1, 2, 3], [1.0, math.nan, 2.0, 3.0]),
    "as large as floats": ([0, 1], [-1.7e308, 1.7e308]),
    "as small as floats": ([0, 1], [0.0, 5e-324]),
    "close": ([0, 1], [1.0, 1.0 + 2e-16]),
    "long": (range(10_000), list(np.sin(np.arange(10_000) / 100))),
    "none": ([], []),
}


@pytest.mark.parametrize("name", SERIES)
def test_any_numbers_make_a_chart(name: str) -> None:
    """Whatever the points are, the chart stays in its frame, short, and without nan."""
    x, y = (np.array(list(one), dtype="float64") for one in SERIES[name])
    chart = line_chart("loss", [Line(1, 0, x, y)], "epoch")
    path = re.findall(r'<path d="([^"]*)"', chart)
    assert len(path) == 1
    assert "nan" not in chart
    assert len(chart) < 20_000
    places = re.findall(r"[ML](\S+) (\S+?)(?=h0|\s|$)", path[0])
    finite = int(np.isfinite(y).sum())
    assert len(places) == finite or finite > 500
    assert all(0 <= float(a) <= 640 and 0 <= float(b) <= 260 for a, b in places)
    assert path[0].count("M") == (2 if name == "broken" else 1 if finite else 0)


def test_many_trials_have_looks_of_their_own(tmp_path: Path) -> None:
    """Of more trials than looks the first are drawn, which is said; all stand in the figures."""
    lab = FolderLab(tmp_path / "many")
    for number in range(30):
        trial = lab.open({"a": number})
        lab.points(trial, ("loss", 0, 1.0), ("loss", 1, number))
        lab.succeed(trial, number)
    page = html_report(lab.store, "many", range(1, 31))
    looks = re.findall(r'<path d="[^"]*" class="line (c\d)"(?: stroke-dasharray="([^"]*)")?', page)
    assert len(set(looks)) == 24
    assert "The first 24 of 30 trials are drawn." in page
    assert "9 more are not compared here" in page
