"""What charts are made of: curves, points, parallel lines and graphs."""

from __future__ import annotations

import json
import math
import re

import pytest
from bokeh.document import Document

from daskperiment.dashboard import figures, metric_cache
from daskperiment.dashboard.charts import CurveStyle, curve_columns, draw_metrics
from daskperiment.dashboard.figures import COLORS
from daskperiment.dashboard.graph_layout import layout_graph
from daskperiment.dashboard.influence import InfluenceOptions, draw_influence
from daskperiment.dashboard.metric_cache import MetricCache, MetricSeries, MetricSummaries
from daskperiment.dashboard.table import TrialTable
from daskperiment.records import Node, Point
from tests.dashboard.stores import PLANTS


def series(lab, *points):
    """Make a series of (epoch, value, time)."""
    made = MetricSeries()
    for point in points:
        made.add(Point("loss", *point), lab.store)
    return made


def draw(lab, trials, names=(), figures=True):
    """Draw the metrics of trials."""
    table = TrialTable(lab.store)
    table.refresh()
    return draw_metrics(table, trials, names, CurveStyle(), figures)


def test_curves(lab):
    """There is a chart for each metric with the points of each trial that has it."""
    first, second = lab.begin(), lab.begin()
    lab.points(first, ("loss", 0, 1.0), ("loss", 1, 0.5), ("acc", 0, 0.3))
    lab.points(second, ("loss", 0, 2.0))
    found = draw(lab, [second, first, 99])
    assert found["known"] == ["acc", "loss"]
    assert found["missing"] == [99]
    loss = found["charts"][1]
    assert loss["data"]["trial1"]["x"] == [0.0, 1.0]
    assert loss["data"]["trial2"]["raw"] == [2.0]
    assert loss["summary"][1] == {
        "trial": 1, "points": 2, "odd": 0, "last": "0.5", "lowest": "0.5", "highest": "1",
    }  # fmt: skip
    assert loss["item"] is not None
    assert [c["metric"] for c in draw(lab, [first], ["acc"])["charts"]] == ["acc"]
    assert draw(lab, [first], figures=False)["charts"][0]["item"] is None


def test_charts_of_one_kind_are_made_once(lab, monkeypatch):
    """Making a figure takes longest: of ten metrics one is made, and none again."""
    made = []
    figure = figures.figure
    monkeypatch.setattr(figures, "figure", lambda **given: made.append(1) or figure(**given))
    figures._curves_without_data.cache_clear()
    trials = [lab.begin(), lab.begin()]
    values = (1.0, math.nan, math.inf, -math.inf, 0.5)
    for number in range(10):
        for trial in trials:
            lab.points(trial, *((f"m{number}", i, v) for i, v in enumerate(values)))
    charts = [one for _ in range(2) for one in draw(lab, trials)["charts"]]
    assert len(made) == 1
    ids: list[str] = []
    for one in charts:
        ids += set(re.findall(r'"(p\d\w*)"', json.dumps(one["item"])))
        document = Document.from_json(one["item"]["doc"])
        for name, columns in one["data"].items():
            source = document.get_model_by_name(name).data
            drawn = {key: [None if v != v or abs(v) == math.inf else v for v in source[key]]
                     for key in columns.keys() - {"what", "sign"}}  # fmt: skip
            assert drawn == {key: columns[key] for key in drawn}
        odd = document.get_model_by_name(f"odd{trials[1]}").data
        assert odd["what"] == ["nan", "inf", "-inf"]
        assert document.get_model_by_name(f"trial{trials[1]}").data["raw"][2] == math.inf
    assert len(ids) == len(set(ids))


def test_use_of_the_machine_stands_apart(lab):
    """What trials used of the machine is drawn below what they saved, and is no column."""
    trial = lab.begin()
    lab.points(trial, ("zeta", 0, 1.0), ("system/cpu_percent", 5, 50.0))
    found = draw(lab, [trial])
    assert found["known"] == ["zeta", "system/cpu_percent"]
    assert [one["system"] for one in found["charts"]] == [False, True]
    table = TrialTable(lab.store)
    table.refresh()
    assert set(table.trials.latest.get([trial])[trial]) == {"zeta"}


def test_of_an_epoch_saved_again_the_last_value_holds(lab):
    """Epochs are sorted and unique; over time every point stands where it was saved."""
    one = series(lab, (1, 0.5, 11.0), (0, 1.0, 10.0), (1, 0.25, 12.0))
    assert curve_columns(one, 10.0, CurveStyle())["x"] == [0.0, 1.0]
    assert curve_columns(one, 10.0, CurveStyle())["y"] == [1.0, 0.25]
    assert curve_columns(one, 10.0, CurveStyle(over="time"))["x"] == [1.0, 0.0, 2.0]


def test_smoothing(lab):
    """A constant stays what it is from its first point, and a jump is followed slowly."""
    flat = series(lab, *((i, 2.0, 0.0) for i in range(5)))
    assert curve_columns(flat, 0.0, CurveStyle(smooth=0.9))["y"] == pytest.approx([2.0] * 5)
    jump = curve_columns(
        series(lab, (0, 0.0, 0), (1, 1.0, 0), (2, 1.0, 0)), 0.0, CurveStyle(smooth=0.5)
    )
    assert jump["y"] == pytest.approx([0.0, 2 / 3, 6 / 7])
    assert jump["raw"] == [0.0, 1.0, 1.0]
    gap = curve_columns(
        series(lab, (0, 1.0, 0), (1, math.nan, 0), (2, 1.0, 0)), 0.0, CurveStyle(smooth=0.5)
    )
    assert gap["y"][2] == 1.0


def test_long_curves_keep_their_peaks(lab):
    """Of very many points some are drawn, among them the highest, the first and the last."""
    points = [(i, 0.0 if i != 54_321 else 9.0, 0.0) for i in range(100_000)]
    drawn = curve_columns(series(lab, *points), 0.0, CurveStyle())
    assert len(drawn["x"]) < 2_000
    assert max(drawn["y"]) == 9.0
    assert (drawn["x"][0], drawn["x"][-1]) == (0.0, 99_999.0)


def test_epochs_and_values_that_are_no_numbers(lab):
    """Where epochs are no numbers the order counts; values that are none are left out."""
    one = series(lab, (0, 1.0, 0), ("warm-up", 2.0, 0), (7, "none", 0), (7, 3.0, 0))
    assert curve_columns(one, 0.0, CurveStyle())["x"] == [0.0, 1.0, 2.0]
    assert one.passed_over == 1
    trial = lab.begin()
    lab.points(trial, ("loss", "a", 1.0), ("loss", "b", math.inf))
    chart = draw(lab, [trial])["charts"][0]
    assert chart["by_order"]
    assert chart["data"]["trial1"]["y"] == [1.0, None]
    json.dumps(chart, allow_nan=False)


def test_tracks_follow(lab):
    """Of a trial that is drawn again only the new points are read."""
    trial, other = lab.begin(), lab.begin()
    lab.points(trial, ("loss", 0, 1.0))
    cache = MetricCache(lab.store)
    assert cache.get([trial])[trial].size == 1
    lab.points(trial, ("loss", 1, 0.5))
    lab.points(other, ("loss", 0, 3.0))
    found = cache.get([trial, other])
    assert found[trial].series["loss"].values.tolist() == [1.0, 0.5]
    assert found[other].size == 1
    assert cache.get([trial])[trial].size == 2


def test_nothing_is_read_again(lab, monkeypatch):
    """Of trials that ended one after the other nothing is read but what came since."""
    trials = [lab.begin() for _ in range(3)]
    for trial in trials:
        lab.points(trial, ("loss", 0, 1.0), ("loss", 1, 0.5))
        lab.step(trial, "train")
    caches = MetricCache(lab.store), MetricSummaries(lab.store)
    for cache in caches:
        cache.get(trials)
    given = []
    read = lab.store.read

    def noted(*asked):
        for one in read(*asked):
            given.append(one.id)
            yield one

    monkeypatch.setattr(lab.store, "read", noted)
    for cache in caches:
        cache.get(trials)
    assert given == []
    lab.points(1, ("loss", 2, 0.25))
    given.clear()
    for cache in caches:
        cache.get(trials)
        cache.get(trials[:2])
    assert given == ["batch-3"] * 2
    assert caches[0].get(trials)[1].series["loss"].values.tolist() == [1.0, 0.5, 0.25]
    assert caches[1].get(trials)[1]["loss"].last == 0.25


def test_points_are_added_once(lab):
    """Of trials that are known up to different places each new point is added once."""
    trial, other = lab.begin(), lab.begin()
    cache = MetricCache(lab.store)
    lab.points(trial, ("loss", 0, 1.0))
    seen = cache.get([trial])[trial].series
    lab.points(other, ("loss", 0, 2.0))
    cache.get([other])
    lab.points(trial, ("accuracy", 0, 1.0))
    found = cache.get([trial, other])
    assert {name: one.values.tolist() for name, one in found[other].series.items()} == {"loss": [2]}
    assert [*found[trial].series] == ["loss", "accuracy"]
    assert [*seen] == ["loss"]  # somebody may go through it


def test_trials_looked_at_longest_ago_are_forgotten(lab, monkeypatch):
    """More points than are remembered stay only of the trials that are looked at now."""
    monkeypatch.setattr(metric_cache, "_POINTS", 8)
    trials = [lab.begin() for _ in range(3)]
    for trial in trials:
        lab.points(trial, *[("loss", epoch, 1.0) for epoch in range(4)])
    cache = MetricCache(lab.store)
    for trial in (1, 2, 1, 3):
        cache.get([trial])
    assert [*cache._known] == [1, 3]
    assert sum(one.size for one in cache.get(trials).values()) == 12
    assert [*cache._known] == [1, 2, 3]
    cache.get([2])
    assert [*cache._known] == [3, 2]


def influences(lab, **options):
    table = TrialTable(lab.store)
    table.refresh()
    return draw_influence(table, table.trials.ids, InfluenceOptions(**options))


def test_parameters_against_results(lab):
    """The first parameter that differs is drawn against the result; others can be chosen."""
    for i in range(6):
        lab.run(i * 1.5, same=1, lr=i / 10, kind="ab"[i % 2])
    found = influences(lab)
    assert (found["across"], found["up"], found["drawn"]) == ("lr", "Result", 6)
    assert found["scatter"] is not None
    assert found["parallel"] is not None
    assert influences(lab, across="kind", up="`Process Time`")["up"] == "`Process Time`"
    assert influences(lab, log_x=True)["log_refused"] == ["x"]
    assert influences(lab, across="nonsense", up="nonsense")["across"] == "lr"


def test_results_that_hold_numbers(lab):
    """Numbers in a result that is a dict can be drawn, and so can metrics."""
    for i in range(3):
        trial = lab.run({"acc": i, "name": "x"}, a=i)
        lab.points(trial, ("loss", 0, 1.0 / (i + 1)))
    keys = {up["key"] for up in influences(lab)["ups"]}
    assert keys == {"Result.acc", "metrics.loss", "`Process Time`"}


def test_nothing_to_draw(lab):
    """Without trials, parameters or numbers there is no figure, and no error."""
    assert influences(lab)["scatter"] is None
    lab.begin({"a": 1})
    assert influences(lab)["scatter"] is None


def test_odd_parameters(lab):
    """Missing, infinite, nested, empty and hostile values are drawn as categories."""
    for value in (None, math.inf, [1, 2], "", PLANTS, 3):
        lab.run(1.0, a=value)
    lab.run(2.0)
    found = influences(lab, across="a")
    assert found["drawn"] == 7
    assert found["parallel"] is not None


def test_texts_of_a_store_are_never_formulas(lab):
    """A parameter's name is drawn letter by letter, even between the signs of a formula."""
    for i in range(3):
        lab.run(i, **{"$$x$$": i})
    text = json.dumps(influences(lab)["scatter"])
    plain = '"name": "PlainText"'
    assert text.count("$$x$$") == text.count(plain) - text.count('"text": "Result"') == 1


def test_layers():
    """Inputs stand left of those who use them, also past a layer; a diamond does not cross."""
    nodes = [
        Node("a", "a"), Node("b", "b", ["a"]), Node("c", "c", ["a"]),
        Node("d", "d", ["c", "b", "a", "gone"]),
    ]  # fmt: skip
    found = layout_graph(nodes)
    layer = {node["key"]: node["layer"] for node in found["nodes"]}
    assert layer == {"a": 0, "b": 1, "c": 1, "d": 2}
    rows = {node["key"]: node["row"] for node in found["nodes"]}
    assert rows["a"] == rows["d"] == 0.5
    assert {rows["b"], rows["c"]} == {0.0, 1.0}
    assert ["gone", "d"] not in found["edges"]
    assert layout_graph([]) == {"nodes": [], "edges": [], "layers": 0, "rows": 0}


def test_colours_of_curves_stand_out():
    """Every colour of a curve has a contrast of at least 3 with the ground of its theme."""

    def shine(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(a * b for a, b in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    for theme, ground in (("light", "#ffffff"), ("dark", "#1a1f26")):
        for colour in COLORS[theme]:
            low, high = sorted((shine(colour), shine(ground)))
            assert (high + 0.05) / (low + 0.05) >= 3, (theme, colour)
