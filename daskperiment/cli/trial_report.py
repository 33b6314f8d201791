"""What was recorded of a trial: all about it, its code and environment, how and why it differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from daskperiment.cli import output
from daskperiment.cli.exit_status import Refused
from daskperiment.cli.lookup import find, store_of, trial_of
from daskperiment.experiment import Experiment
from daskperiment.history import RecordedTrial, trial_or_raise
from daskperiment.history.artifacts import KeptArtifact, artifacts_of
from daskperiment.history.curated import NOTHING_SAID, curated
from daskperiment.history.stored_values import StoredObject, viewed
from daskperiment.history.trial_records import DAMAGED, part_of
from daskperiment.records import SYSTEM, Code
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    import pandas as pd

    from daskperiment.explain.explanation import Explanation

__all__ = [
    "code",
    "compare",
    "environment",
    "explain",
    "log",
    "points_of",
    "print_explanation",
    "script_of",
    "show",
    "trial_data",
]

_STEP_COLUMNS = ["Key", "Status", "Wall Time", "CPU Time", "Reused From"]
_LINES = (
    "experiment", "trial", "name", "tags", "status", "reason", "result", "started", "finished",
    "elapsed", "seed", "host", "user", "sweep", "reproduces",
    "resumes", "resumed_by", "earlier_id",
    "copied_from", "notes",
)  # fmt: skip
_FAILURE = ("type", "description", "step", "traceback")


def show(backend: str | None, id: str, trial: int, format_: str) -> None:
    """Print one trial."""
    # With pandas, which other commands of this module do without.
    from daskperiment.cli.artifact_commands import print_previews  # noqa: PLC0415
    from daskperiment.history.kept_columns import resumed_by  # noqa: PLC0415
    from daskperiment.history.metrics import load_metrics  # noqa: PLC0415

    experiment, store = find(backend, id), store_of(backend, id)
    number = trial_of(experiment, trial)
    recorded = trial_or_raise(store, number)
    resumed, metrics = resumed_by(store, recorded), load_metrics(store, number)
    data = trial_data(experiment, store, recorded, resumed, metrics)
    if format_ == "json":
        click.echo(output.as_json(data))
        return
    output.print_pairs(_pairs(data))
    _print_result(store, number)
    if data["steps"]:
        click.echo()
        steps = experiment.get_steps(number)[_STEP_COLUMNS].itertuples(index=False)
        output.print_table(["step", "status", "wall", "cpu", "reused from"], list(steps))
    print_previews(store, [number])
    if data["failure"]:
        click.echo()
        output.print_text(data["failure"]["traceback"].rstrip() or data["failure"]["description"])


def points_of(metrics: Mapping[str, pd.Series], system: bool) -> dict[str, list[Any]]:
    """Return epochs and values of the metrics that steps saved, or of what was used."""
    return {
        name: list(one.items())
        for name, one in metrics.items()
        if name.startswith(SYSTEM) is system
    }


def _print_result(store: Store, number: int) -> None:
    """Print what was told of a result that is no plain value, when it was kept."""
    ended = trial_or_raise(store, number).ended
    value = None if ended is None or ended.status != "succeeded" else viewed(ended.value, store)
    if isinstance(value, StoredObject) and value.preview != value.repr:
        output.print_text(f"\nresult\n{indent(value.preview, '  ')}")


def code(backend: str | None, id: str, trial: int) -> None:
    """Print the code of a trial."""
    experiment = find(backend, id)
    output.print_source(experiment.get_code(trial_of(experiment, trial)))


def log(backend: str | None, id: str, trial: int, step: str | None) -> None:
    """Print what the steps of a trial said."""
    experiment = find(backend, id)
    text = experiment.get_log(trial_of(experiment, trial), step)
    if text:
        output.print_text(text.removesuffix("\n"))


def environment(
    backend: str | None, id: str, trial: int, category: str | None, packages: bool
) -> None:
    """Print the environment of a trial."""
    experiment = find(backend, id)
    number = trial_of(experiment, trial)
    if packages:
        output.print_text(experiment.get_python_packages(number))
        return
    try:
        text = experiment.get_environment(number, category)
    except ValueError as error:
        if category is None:
            raise
        raise Refused(str(error)) from error
    output.print_text(text)


def compare(backend: str | None, id: str, first: int, second: int, format_: str) -> None:
    """Print how two trials differ."""
    experiment = find(backend, id)
    one, other = trial_of(experiment, first), trial_of(experiment, second)
    comparison = experiment.compare(one, other)
    if format_ == "json":
        click.echo(output.as_json(comparison.to_dict()))
    else:
        output.print_text(repr(comparison))


def explain(backend: str | None, id: str, trial: int, format_: str) -> None:
    """Print what a trial reused and what not."""
    experiment = find(backend, id)
    print_explanation(experiment.explain(trial_of(experiment, trial)), format_)


def print_explanation(explanation: Explanation, format_: str) -> None:
    """Print for each step whether it is reused, and why not."""
    if format_ == "json":
        click.echo(output.as_json([asdict(step) for step in explanation]))
    elif format_ == "csv":
        headers = ["Key", "Step", "Verdict", "Trial", "Reason"]
        rows = [
            [one.key, one.step, one.verdict, "" if one.trial is None else one.trial, one.reason]
            for one in explanation
        ]
        output.print_rows(headers, rows, "csv")
    else:
        output.print_text(repr(explanation))


def script_of(backend: str | None, id: str, trial: int) -> Path:
    """Return the file in which a trial's result was defined, by what the trial recorded."""
    experiment, store = find(backend, id), store_of(backend, id)
    past = trial_or_raise(store, trial_of(experiment, trial))
    code, name = part_of(store, past, Code), past.begun.result
    first = code.steps[name].functions[:1] if name in code.steps else []
    file = code.functions[first[0]].file if first and first[0] in code.functions else None
    if file is None or not Path(file).is_file():
        there = f"was defined in {file}, which is not here" if file else "was defined in no file"
        raise Refused(
            f"The result {name!r} of trial {past.trial} {there}: give the script in the place of "
            f"{id!r}."
        )
    return Path(file)


def trial_data(
    experiment: Experiment,
    store: Store,
    trial: RecordedTrial,
    resumed: Sequence[int],
    metrics: Mapping[str, pd.Series],
) -> dict[str, Any]:
    """Return all about a trial as plain data: what JSON holds, and nothing unpickled.

    `resumed` are the trials that went on from it.
    """
    begun, ended, number = trial.begun, trial.ended, trial.trial
    value = None if ended is None or ended.status != "succeeded" else viewed(ended.value, store)
    failure = ended.failure if ended else None
    said = curated(store, [number]).get(number, NOTHING_SAID)
    steps = experiment.get_steps(number).drop(columns="Trial ID")
    steps.columns = steps.columns.str.lower().str.replace(" ", "_")
    data = {
        "experiment": experiment.id,
        "trial": number,
        **said.described(_time),
        "status": trial.status,
        "reason": trial.reason,
        "result_step": begun.result,
        "result": value,
        "result_type": ended.type if ended else None,
        "parameters": {name: viewed(value, store) for name, value in trial.parameters.items()},
        "seed": begun.seed,
        "started": _time(begun.started),
        "finished": _time(ended.finished) if ended else None,
        "elapsed": ended.elapsed if ended and ended.elapsed < DAMAGED else None,
        "host": begun.origin.host,
        "user": begun.origin.user,
        "sweep": begun.sweep,
        "reproduces": begun.source,
        "resumes": begun.resumes,
        "resumed_by": [*resumed],
        "earlier_id": begun.was if begun.was != number else None,
        "copied_from": begun.birthplace and str(begun.birthplace),
        "failure": {name: getattr(failure, name) for name in _FAILURE} if failure else None,
        "metrics": points_of(metrics, system=False),
        "artifacts": [_artifact(one) for one in artifacts_of(store, [number])],
        "steps": steps.to_dict("records"),
    }
    plain: dict[str, Any] = output.plain_json(data)
    return plain


def _artifact(one: KeptArtifact) -> dict[str, Any]:
    return {
        "name": one.artifact.name,
        "step": one.artifact.step,
        "format": one.format,
        "size": one.reference.size,
        "digest": one.reference.digest,
        "added": _time(one.artifact.added),
    }


def _time(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # the record of its end is damaged


def _pairs(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _LINES:
        if data[name] is not None and data[name] != []:
            yield name, _line(name, data[name])
    for name, value in data["parameters"].items():
        yield f"parameter {name}", _text(value)
    for name, points in data["metrics"].items():
        many = "1 point" if len(points) == 1 else f"{len(points)} points"
        yield f"metric {name}", f"{_text(points[-1][1])} at the end of {many}"


def _line(name: str, value: Any) -> str:
    if name == "elapsed":
        return f"{value:.3g} s"
    if name == "notes":
        return "\n".join(str(note["text"]) for note in value)
    return ", ".join(value) if name == "tags" else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"type", "repr", "size", "reason"}:
        return str(value["repr"])
    return value if isinstance(value, str) else repr(value)
