"""All about one trial."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from daskperiment.cli import output
from daskperiment.cli.stored import find, store_of, trial_of
from daskperiment.experiment import Experiment
from daskperiment.history import Trial, trial_or_raise
from daskperiment.history.values import viewed
from daskperiment.store.protocol import Store

__all__ = ["record", "show", "steps_of"]

_STEP_COLUMNS = ["Key", "Status", "Wall Time", "CPU Time", "Reused From"]


def show(backend: str | None, id: str, trial: int, format_: str) -> None:
    """Print one trial."""
    experiment, store = find(backend, id), store_of(backend, id)
    number = trial_of(experiment, trial)
    told = record(experiment, store, trial_or_raise(store, number))
    if format_ == "json":
        click.echo(output.as_json(told))
        return
    output.print_pairs(_pairs(told))
    if told["steps"]:
        click.echo()
        headers = ["step", "status", "wall", "cpu", "reused from"]
        steps = experiment.get_steps(number)
        output.print_table(headers, list(steps[_STEP_COLUMNS].itertuples(index=False)))
    if told["failure"]:
        click.echo()
        output.print_text(told["failure"]["traceback"].rstrip() or told["failure"]["description"])


def record(experiment: Experiment, store: Store, trial: Trial) -> dict[str, Any]:
    """Give all about a trial as plain data: what JSON holds, and nothing unpickled."""
    begun, ended, number = trial.begun, trial.ended, trial.trial
    value = None if ended is None or ended.status != "succeeded" else viewed(ended.value, store)
    told = {
        "experiment": experiment.id,
        "trial": number,
        "status": trial.status,
        "reason": trial.reason,
        "result_step": begun.result,
        "result": value,
        "result_type": ended.type if ended else None,
        "parameters": {name: viewed(data, store) for name, data in trial.parameters.items()},
        "seed": begun.seed,
        "started": _time(begun.started),
        "finished": _time(ended.finished) if ended else None,
        "elapsed": ended.elapsed if ended else None,
        "host": begun.origin.host,
        "user": begun.origin.user,
        "sweep": begun.sweep,
        "reproduces": begun.source,
        "failure": _failure(trial),
        "metrics": dict(_metrics(experiment, number)),
        "steps": steps_of(experiment, number),
    }
    plain: dict[str, Any] = output.plain_json(told)
    return plain


def steps_of(experiment: Experiment, trial: int) -> list[dict[str, Any]]:
    """Give the step runs of a trial as plain data."""
    frame = experiment.get_steps(trial).drop(columns="Trial ID")
    names = [str(name).lower().replace(" ", "_") for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False)]


def _failure(trial: Trial) -> dict[str, Any] | None:
    failure = trial.ended.failure if trial.ended else None
    if failure is None:
        return None
    names = ("type", "description", "step", "traceback")
    return {name: getattr(failure, name) for name in names}


def _metrics(experiment: Experiment, trial: int) -> Iterator[tuple[str, Any]]:
    for name in experiment.get_metrics(trial):
        series = experiment.load_metric(name, trial)[trial]
        yield name, [[epoch, value] for epoch, value in series.items()]


def _time(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # the record of its end is damaged


def _pairs(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "experiment", told["experiment"]
    yield "trial", str(told["trial"])
    for name in ("status", "reason", "result", "started", "finished"):
        if told[name] is not None:
            yield name, _text(told[name])
    if told["elapsed"] is not None:
        yield "elapsed", f"{told['elapsed']:.3g} s"
    for name in ("seed", "host", "user", "sweep", "reproduces"):
        if told[name] is not None:
            yield name, _text(told[name])
    for name, value in told["parameters"].items():
        yield f"parameter {name}", _text(value)
    for name, points in told["metrics"].items():
        many = "1 point" if len(points) == 1 else f"{len(points)} points"
        yield f"metric {name}", f"{_text(points[-1][1])} at the end of {many}"


def _text(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"type", "repr", "size", "reason"}:
        return str(value["repr"])
    return value if isinstance(value, str) else repr(value)
