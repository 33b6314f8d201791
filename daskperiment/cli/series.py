"""Metrics of trials, as lines in a terminal or as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import click

from daskperiment.cli import output
from daskperiment.cli.stored import find, trial_of
from daskperiment.errors import MetricNotFoundError
from daskperiment.experiment import Experiment

__all__ = ["show", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 30


class _Series(NamedTuple):
    trial: int
    metric: str
    epochs: list[Any]
    values: list[Any]


def show(
    backend: str | None, id: str, trials: Iterable[int], names: Sequence[str], format_: str
) -> None:
    """Print the metrics of trials."""
    experiment = find(backend, id)
    numbers = dict.fromkeys(trial_of(experiment, trial) for trial in trials)
    series = [one for number in numbers for one in _series(experiment, number, names)]
    if format_ == "table":
        if not series:
            click.echo("No metric was saved; save_metric() in a step does that.", err=True)
        headers = ["Trial ID", "Metric", "Points", "First", "Last", "Lowest", "Highest", "Curve"]
        shown = len(headers) if output.is_terminal() else -1
        output.print_table(headers[:shown], [_line(one)[:shown] for one in series])
        return
    headers = ["Trial ID", "Metric", "Epoch", "Value"]
    rows = [
        [one.trial, one.metric, epoch, value]
        for one in series
        for epoch, value in zip(one.epochs, one.values, strict=True)
    ]
    if format_ == "json":
        click.echo(output.as_json([dict(zip(headers, row, strict=True)) for row in rows]))
    else:
        click.echo(output.safe(output.as_csv(headers, rows)), nl=False)


def _series(experiment: Experiment, trial: int, names: Sequence[str]) -> Iterator[_Series]:
    known = experiment.get_metrics(trial)
    for name in dict.fromkeys(names) or known:
        if name not in known:
            raise MetricNotFoundError(
                f"There is no metric {name!r} in trial {trial}; it has: "
                f"{', '.join(map(repr, known)) or 'none'}."
            )
        series = experiment.load_metric(name, trial)[trial]
        yield _Series(trial, name, list(series.index), list(series))


def _line(series: _Series) -> list[Any]:
    values = series.values
    numbers = [value for value in map(_number, values) if value is not None]
    lowest, highest = (min(numbers), max(numbers)) if numbers else ("", "")
    line = sparkline(values)
    return [series.trial, series.metric, len(values), values[0], values[-1], lowest, highest, line]


def sparkline(values: Sequence[Any], columns: int = _COLUMNS) -> str:
    """Draw a series with one character for each column; what is no number is a blank.

    >>> sparkline([3, 2, 1, 1])
    '█▅▁▁'
    """
    numbers = [_number(value) for value in _thinned(values, columns)]
    known = [number for number in numbers if number is not None]
    if not known:
        return ""
    lowest = min(known)
    # Halved, because the range of two finite numbers may be infinite.
    half = max(known) / 2 - lowest / 2
    steps = len(_BARS) - 1

    def bar(number: float | None) -> str:
        if number is None:
            return " "
        share = (number / 2 - lowest / 2) / half if half else 0.0
        return _BARS[math.floor(share * steps + 0.5)]

    return "".join(map(bar, numbers))


def _thinned(values: Sequence[Any], columns: int) -> list[Any]:
    if len(values) <= columns:
        return list(values)
    last = len(values) - 1
    return [values[round(column * last / (columns - 1))] for column in range(columns)]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
