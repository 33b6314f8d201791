"""What the page draws: Bokeh figures in its colours.

Figures come out as plain data for BokehJS. No text of a store is read as markup or mathematics.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from secrets import token_hex
from typing import Any, Literal, NamedTuple

from bokeh.core.properties import value
from bokeh.embed import json_item
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    FactorRange,
    HoverTool,
    LinearColorMapper,
    PlainText,
    Range1d,
    TapTool,
)
from bokeh.models.annotations import ColorBar
from bokeh.palettes import Plasma256
from bokeh.plotting import figure

__all__ = [
    "COLORS", "Curve", "band_figure", "curve_figure", "look_of", "parallel", "scatter",
    "shaded_figure", "shades",
]  # fmt: skip

Theme = Literal["light", "dark"]

_INKS = {
    "light": {"text": "#5b6472", "line": "#d9dee6", "grid": "#eceff3"},
    "dark": {"text": "#a3adbb", "line": "#3a424e", "grid": "#262c35"},
}
# Distinct also for those who do not see red or green, and clear of the page's ground.
COLORS = {
    "light": ("#4477AA", "#D64553", "#228833", "#8F7D00", "#1B86AD", "#AA3377"),
    "dark": ("#7FB2E5", "#FF8A94", "#5FC87A", "#E0CF5A", "#66CCEE", "#E08BC0"),
}
# Of each the part that stands out from the page.
_SCALES = {"light": Plasma256[:175], "dark": Plasma256[110:]}
_DASHES = ("solid", "dashed", "dotted", "dotdash")
_TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
_FONT = "system-ui, sans-serif"
_MOST_FACTORS = 40


class Curve(NamedTuple):
    """One line of a chart: its trial, and columns ``x``, ``y`` (smoothed) and ``raw``."""

    trial: int
    color: str
    dash: str
    data: Mapping[str, Sequence[float]]
    odd: Mapping[str, Sequence[Any]]
    """Where points that are nan or infinite are marked: ``x``, ``y``, ``what`` and ``sign``."""


def look_of(place: int, theme: Theme) -> tuple[str, str]:
    """Return colour and dash of the trial at a place in the selection; 24 are distinct."""
    return COLORS[theme][place % 6], _DASHES[place // 6 % len(_DASHES)]


def curve_figure(
    drawn: Sequence[Curve], theme: Theme, *, x_label: str, log_x: bool, log_y: bool, smooth: bool
) -> Any:
    """Return a metric's curves; each trial's data is a source named by ``trial`` and its id."""
    looks = tuple((one.trial, one.color, one.dash, len(one.data["x"]) <= 30) for one in drawn)
    empty = _curves_without_data(looks, theme, x_label, log_x, log_y, smooth)
    # No two figures of a page may have models of the same id.
    item = json.loads(_MODEL.sub(rf'"\g<1>{token_hex(4)}"', empty))
    data: dict[str, Mapping[str, Sequence[Any]]] = {}
    for one in drawn:
        data[f"trial{one.trial}"] = {**one.data, "trial": [one.trial] * len(one.data["x"])}
        data[f"odd{one.trial}"] = one.odd
    _fill(item, data)
    return item


_MODEL = re.compile(r'"(p\d+)"')
"""The id of a model, in the JSON of a figure."""
_Looks = tuple[tuple[int, str, str, bool], ...]
"""Of each curve its trial, colour and dash, and whether its points are marked."""


# The charts of a page differ in their data alone, and making a figure takes fifty milliseconds.
@lru_cache(maxsize=16)
def _curves_without_data(
    looks: _Looks, theme: Theme, x_label: str, log_x: bool, log_y: bool, smooth: bool
) -> str:
    """Return the JSON of a chart of curves whose sources are empty."""
    plot = _figure(theme, x_label, log_x=log_x, log_y=log_y)
    lines, marks = [], []
    for trial, color, dash, is_short in looks:
        columns: dict[str, Any] = {"x": [], "y": [], "raw": [], "trial": []}
        source = ColumnDataSource(columns, name=f"trial{trial}")
        style: dict[str, Any] = {"color": color, "line_dash": dash}
        if smooth:
            plot.line("x", "raw", source=source, line_width=1, alpha=0.35, **style)
        lines.append(plot.line("x", "y", source=source, line_width=2, **style))
        # A curve of a single point is no line.
        if is_short:
            plot.scatter("x", "y", source=source, size=5, color=color)
        columns = {"x": [], "y": [], "what": [], "sign": [], "trial": []}
        odd = ColumnDataSource(columns, name=f"odd{trial}")
        marks.append(plot.scatter(
            "x", "y", source=odd, marker={"field": "sign"}, size=10, color=color,
            line_width=2, fill_alpha=0,
        ))  # fmt: skip
    tips = [("trial", "@trial"), (x_label, "@x{%.6g}"), ("value", "@raw{%.6g}")]
    if smooth:
        tips.append(("smoothed", "@y{%.6g}"))
    plot.add_tools(_hover(tips, lines))
    plot.add_tools(_hover([("trial", "@trial"), (x_label, "@x{%.6g}"), ("value", "@what")], marks))
    return json.dumps(json_item(plot))


def _fill(part: Any, data: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
    """Put data into the sources of a figure, which is JSON, by their names."""
    if isinstance(part, list):
        for one in part:
            _fill(one, data)
    elif isinstance(part, dict):
        if part.get("name") == "ColumnDataSource" and "attributes" in part:
            columns = data[part["attributes"]["name"]]
            entries = [[name, list(map(_number, values))] for name, values in columns.items()]
            part["attributes"]["data"] = {"type": "map", "entries": entries}
            return
        for one in part.values():
            _fill(one, data)


def _number(value: Any) -> Any:
    """Return a value as the JSON of figures has it."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return {"type": "number", "value": "nan" if value != value else "+inf" if value > 0 else "-inf"}


def _hover(tips: list[tuple[str, str]], renderers: list[Any]) -> HoverTool:
    # Six figures of numbers of any size: a loss may be of the order of 1e-7.
    fields: dict[str, Any] = {t[: t.index("{")]: "printf" for _, t in tips if "{" in t}
    return HoverTool(tooltips=tips, renderers=renderers, formatters=fields)


def shades(theme: Theme) -> list[str]:
    """Return colours from the first to the last of many curves."""
    palette = _SCALES[theme]
    return [palette[at * (len(palette) - 1) // 7] for at in range(8)]


def shaded_figure(
    data: Mapping[str, Any], theme: Theme, *, x_label: str, log_x: bool, log_y: bool
) -> Any:
    """Return very many curves as thin lines, whose shade tells their place in the selection."""
    plot = _figure(theme, x_label, log_x=log_x, log_y=log_y)
    source = ColumnDataSource(dict(data), name="many")
    colour = _coloured(data["shade"], theme, "shade")
    drawn = plot.multi_line(
        "xs", "ys", source=source, line_width=1.2, alpha=0.55, color=colour, hover_alpha=1.0,
        hover_line_width=3, hover_color=colour,
    )  # fmt: skip
    tips = [("trial", "@trial"), (x_label, "$data_x{%.6g}"), ("value", "$data_y{%.6g}")]
    plot.add_tools(_hover(tips, [drawn]))
    return json_item(plot)


def band_figure(
    data: Mapping[str, Any], theme: Theme, *, x_label: str, log_x: bool, log_y: bool
) -> Any:
    """Return the mean of very many curves, a band of its standard deviation, and the extremes."""
    plot = _figure(theme, x_label, log_x=log_x, log_y=log_y)
    source = ColumnDataSource(dict(data), name="band")
    colour = COLORS[theme][0]
    plot.varea("x", "lowest", "highest", source=source, fill_color=colour, fill_alpha=0.1)
    plot.varea("x", "low", "high", source=source, fill_color=colour, fill_alpha=0.25)
    mean = plot.line("x", "mean", source=source, color=colour, line_width=2)
    tips = [(x_label, "@x{%.6g}"), ("mean", "@mean{%.6g}"), ("mean − sd", "@low{%.6g}"),
            ("mean + sd", "@high{%.6g}"), ("lowest", "@lowest{%.6g}"),
            ("highest", "@highest{%.6g}"), ("trials", "@of{%d}")]  # fmt: skip
    hover = _hover(tips, [mean])
    hover.mode = "vline"
    plot.add_tools(hover)
    return json_item(plot)


def scatter(
    data: Mapping[str, Sequence[Any]], theme: Theme, *, names: tuple[str, str], log_x: bool,
    log_y: bool, colour: str, front: Sequence[int] = (),
) -> Any:  # fmt: skip
    """Return trials as points. A column ``x`` of texts makes an axis of categories.

    The column ``colour`` gives their colours; those at the places of a front are joined by a line.
    """
    factors = list(dict.fromkeys(data["x"])) if any(isinstance(x, str) for x in data["x"]) else None
    plot = _figure(theme, names[0], log_x=log_x, log_y=log_y, height=380, factors=factors)
    plot.yaxis.axis_label = PlainText(text=names[1])
    source = ColumnDataSource(dict(data), name="points")
    if front:
        line: dict[str, Any] = {name: [data[name][at] for at in front] for name in "xy"}
        plot.line("x", "y", source=ColumnDataSource(line), color=COLORS[theme][1], line_width=2)
        plot.scatter(
            "x", "y", source=ColumnDataSource(line), size=14, color=None,
            line_color=COLORS[theme][1], line_width=2,
        )  # fmt: skip
    drawn = plot.scatter(
        "x", "y", source=source, size=8, color=_coloured(data["colour"], theme), alpha=0.75,
        line_color=None, nonselection_alpha=0.12,
    )  # fmt: skip
    x_tip = "@x" if factors else "@x{%.6g}"
    tips = [("trial", "@trial"), ("across", x_tip), ("up", "@y{%.6g}"), ("colour", "@colour{%.6g}")]
    plot.add_tools(_hover(tips, [drawn]), TapTool(), BoxSelectTool())
    if colour != names[1]:
        plot.add_layout(_colour_bar(data["colour"], colour, theme), "right")
    return json_item(plot)


def _colour_bar(values: Sequence[float], name: str, theme: Theme) -> ColorBar:
    """Return what tells which number a colour stands for, and of what."""
    ink = _INKS[theme]["text"]
    return ColorBar(
        color_mapper=_coloured(values, theme)["transform"], title=PlainText(text=name), width=14,
        background_fill_alpha=0, title_text_color=ink, major_label_text_color=ink,
        title_text_font=_FONT, major_label_text_font=_FONT, title_text_font_style="normal",
    )  # fmt: skip


def _coloured(values: Sequence[float], theme: Theme, field: str = "colour") -> dict[str, Any]:
    finite = [value for value in values if value == value]
    low, high = min(finite, default=0), max(finite, default=1)
    mapper = LinearColorMapper(
        palette=_SCALES[theme], low=low, high=high, nan_color=_INKS[theme]["line"]
    )
    return {"field": field, "transform": mapper}


def parallel(
    axes: Sequence[tuple[str, str, str]], lines: Sequence[tuple[int, Sequence[float], float]],
    theme: Theme,
) -> Any:  # fmt: skip
    """Return trials as lines across axes.

    An axis is its name, its lowest and its highest value, as texts. A line is the id of a trial,
    its place on each axis, from 0 to 1, and the value that gives its colour.
    """
    plot = _figure(theme, "", height=380)
    ink = _INKS[theme]
    plot.xaxis.visible = plot.yaxis.visible = False
    plot.xgrid.visible = plot.ygrid.visible = False
    plot.x_range = Range1d(start=-0.4, end=len(axes) - 0.6)
    plot.y_range = Range1d(start=-0.12, end=1.2)
    every_axis = list(range(len(axes)))
    data: dict[str, Any] = {
        "xs": [every_axis] * len(lines),
        "ys": [list(places) for _, places, _ in lines],
        "value": [height for _, _, height in lines],
        "trial": [trial for trial, _, _ in lines],
    }
    source = ColumnDataSource(data, name="points")
    plot.segment(every_axis, 0, every_axis, 1, color=ink["line"], width=1)
    alpha = max(0.15, min(0.8, 30 / max(1, len(lines))))
    colour = _coloured(data["value"], theme, "value")
    drawn = plot.multi_line(
        "xs", "ys", source=source, line_width=1.5, alpha=alpha, hover_alpha=1.0,
        hover_line_width=3, color=colour, hover_color=colour, nonselection_alpha=0.04,
    )  # fmt: skip
    # What a box is drawn around: the lines follow what is in it.
    crossings = ColumnDataSource(_crossings(lines), name="crossings")
    grips = plot.scatter(
        "axis", "place", source=crossings, size=7, alpha=0, nonselection_alpha=0,
        selection_alpha=0.8, selection_color=ink["text"],
    )  # fmt: skip
    _write_axes(plot, axes, ink["text"])
    plot.min_border_left = 10
    hover = _hover([("trial", "@trial"), ("value", "@value{%.6g}")], [drawn])
    hover.line_policy = "interp"
    plot.add_tools(
        hover,
        TapTool(renderers=[drawn]),
        BoxSelectTool(renderers=[grips]),
    )
    plot.toolbar.active_drag = plot.select_one(BoxSelectTool)
    return json_item(plot)


def _crossings(lines: Sequence[tuple[int, Sequence[float], float]]) -> dict[str, Any]:
    """Return where each line crosses each axis: the axis, the place, and the line."""
    each = [
        (axis, place, line)
        for line, (_, places, _) in enumerate(lines)
        for axis, place in enumerate(places)
    ]
    names = ("axis", "place", "line")
    return {name: [one[at] for one in each] for at, name in enumerate(names)}


def _write_axes(plot: Any, axes: Sequence[tuple[str, str, str]], ink: str) -> None:
    # Text glyphs are drawn letter by letter, while labels of an axis may be read as mathematics.
    style = {"text_color": ink, "text_font": value(_FONT), "text_align": "center"}
    for column, height, size in ((0, 1.13, "12px"), (1, -0.06, "11px"), (2, 1.055, "11px")):
        texts = [axis[column] for axis in axes]
        plot.text(
            list(range(len(axes))), height, texts, text_font_size=size, text_baseline="middle",
            text_font_style="bold" if column == 0 else "normal", **style,
        )  # fmt: skip


def _figure(
    theme: Theme, x_label: str, *, log_x: bool = False, log_y: bool = False, height: int = 280,
    factors: list[str] | None = None,
) -> Any:  # fmt: skip
    # In a dictionary: Bokeh does not declare to type checkers what only figure() knows.
    settings: dict[str, Any] = {
        "tools": _TOOLS, "active_drag": "box_zoom", "active_scroll": None,
        "y_axis_type": "log" if log_y else "linear", "toolbar_location": "above",
    }  # fmt: skip
    if factors:
        settings["x_range"] = FactorRange(factors=sorted(factors)[:_MOST_FACTORS])
    else:
        settings["x_axis_type"] = "log" if log_x else "linear"
    plot = figure(height=height, sizing_mode="stretch_width", **settings)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    ink = _INKS[theme]
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    plot.outline_line_color = None
    plot.min_border_left = 50
    plot.xaxis.axis_label = PlainText(text=x_label)
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_line_color = ink["line"]
        axis.major_tick_line_color = ink["line"]
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = ink["text"]
        axis.major_label_text_font = axis.axis_label_text_font = _FONT
        axis.axis_label_text_font_style = "normal"
    if factors:
        plot.xaxis.major_label_orientation = 0.6 if len(factors) > 5 else "horizontal"
    plot.grid.grid_line_color = ink["grid"]
    return plot
